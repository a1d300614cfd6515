"""A judge's choice among the candidates of an automatic network, as a segmenter."""

import numpy as np
import torch
from numpy.typing import NDArray

from usrl.agents.segmenter import ContourSegmenter
from usrl.data.components import split_components
from usrl.data.sample import BoolMask, GrayImage, Prompt, Track
from usrl.errors import UserError
from usrl.judging.candidates import Candidates, choose, find_candidates
from usrl.judging.evidence import gather_evidence
from usrl.judging.network import JudgeNetwork, expect
from usrl.judging.recipe import JudgeRecipe
from usrl.metrics.overlap import dice
from usrl.runs.run import Run, open_run
from usrl.runs.tensors import load_weights
from usrl.segmenter import Probabilistic, Segmenter, name_method


class JudgedSegmenter:
    """Takes the best of what a network's probabilities may mean, refined by an agent or as they are.

    Args:
        run: A run of a judge's recipe with weights.
        device: Where judge and refiner compute.
        proposer: A network's run.

    Raises:
        UserError: If there is no such proposer, or the weights are unusable.
    """

    track: Track = "automatic"

    def __init__(self, run: Run, device: torch.device, proposer: Segmenter | None = None) -> None:
        if not isinstance(proposer, Probabilistic):
            raise UserError(
                f"{run.path}: a judge chooses among the candidates of a network, got "
                f"{'none' if proposer is None else proposer.name}; write NETWORK_RUN+{run.path}"
            )
        self._recipe, self._device, self._proposer = run.recipe_as(JudgeRecipe), device, proposer
        self.name = name_method(run.name, proposer=proposer)
        self._refiner = ContourSegmenter(open_run(run.refiner_path), device) if self._recipe.refiner else None
        network = JudgeNetwork(self._recipe.channels, self._recipe.dropout)
        load_weights(run.weights_path, network)
        self._network = network.to(device).eval()

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the union of what is taken, bool, (H, W); see `usrl.segmenter.Segmenter`."""
        return self.segment_with_uncertainty(image, prompt)[0]

    def segment_with_uncertainty(self, image: GrayImage, prompt: Prompt | None) -> tuple[BoolMask, float]:
        """Return the same, and what the Dice expected of it on average lacks to 1; 1 where it is empty."""
        probability, candidates = self._find(image)
        evidence = gather_evidence(image, probability, candidates, self._recipe.data.size)
        expected = expect(self._network, evidence, self._device)
        taken = choose(candidates, expected, self._recipe)
        return candidates.unite(taken, image), 1 - float(expected[taken].mean()) if taken else 1.0

    def propose(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the network's own mask, bool, (H, W)."""
        return self._proposer.segment(image, prompt)

    def oracle(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the union of the candidates that fit the target's lesions best, bool, (H, W)."""
        _, candidates = self._find(image)
        scores = [[dice(mask, lesion) for mask in candidates.masks] for lesion in split_components(target)]
        return candidates.unite([row.index(max(row)) for row in scores if any(row)], image)

    def _find(self, image: GrayImage) -> tuple[NDArray[np.float32], Candidates]:
        probability = self._proposer.probability(image)
        return probability, find_candidates(image, probability, self._recipe.levels, self._refiner)


def open_judge(
    run: Run, device: torch.device, *, proposer: Segmenter | None = None, starts: int = 1
) -> Segmenter:
    """Return the segmenter of a judge's run: see `usrl.learners.open_run_segmenter`. It starts once."""
    return JudgedSegmenter(run, device, proposer)
