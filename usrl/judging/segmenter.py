"""A judge's choice among the candidates of an automatic network, as a segmenter."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from usrl.agents.segmenter import ContourSegmenter
from usrl.data.components import split_components
from usrl.data.sample import BoolMask, GrayImage, Prompt, Track
from usrl.errors import UserError
from usrl.judging.candidates import choose, find_candidates
from usrl.judging.network import JudgeNetwork, draw_views, expect
from usrl.judging.training import REFINER
from usrl.metrics.overlap import dice
from usrl.recipes import JudgeRecipe
from usrl.runs import Run, load_weights, open_run


@dataclass(frozen=True)
class _Verdict:
    """What a judge thinks of an image.

    Attributes:
        masks: Candidates, bool, (H, W).
        expected: Dice expected of each.
        taken: Numbers of those that are taken for lesions, best first.
    """

    masks: list[BoolMask]
    expected: NDArray[np.float32]
    taken: list[int]


class JudgedSegmenter:
    """Takes the best of what a network's probabilities may mean, refined by an agent or as they are.

    Args:
        run: A run of a judge's recipe with weights.
        device: Where judge and refiner compute.
        proposer: An automatic segmenter with a method ``probability``: a network's run.

    Raises:
        UserError: If there is no such proposer, or the weights are unusable.
    """

    track: Track = "automatic"

    def __init__(self, run: Run, device: torch.device, proposer: Any = None) -> None:
        if not hasattr(proposer, "probability"):
            raise UserError(
                f"{run.path}: a judge chooses among the candidates of a network, got "
                f"{'none' if proposer is None else proposer.name}; write NETWORK_RUN+{run.path}"
            )
        self._recipe, self._device, self._proposer = run.recipe_as(JudgeRecipe), device, proposer
        self.name = f"{proposer.name}+{run.path.resolve().name}"
        self._refiner = (
            ContourSegmenter(open_run(run.path / REFINER), device) if self._recipe.refiner else None
        )
        network = JudgeNetwork(self._recipe.channels, self._recipe.dropout)
        load_weights(run.weights_path, network)
        self._network = network.to(device).eval()

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the union of what is taken, bool, (H, W); see `usrl.evaluation.segmenter.Segmenter`."""
        verdict = self._judge(image)
        return _unite([verdict.masks[number] for number in verdict.taken], image)

    def propose(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the network's own mask, bool, (H, W)."""
        mask: BoolMask = self._proposer.segment(image, prompt)
        return mask

    def oracle(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the union of the candidates that fit the target's lesions best, bool, (H, W)."""
        masks = self._judge(image).masks
        best = [
            max(masks, key=lambda mask: dice(mask, lesion)) for lesion in split_components(target) if masks
        ]
        return _unite([mask for mask in best if (mask & target).any()], image)

    def _judge(self, image: GrayImage) -> _Verdict:
        probability = self._proposer.probability(image)
        masks = find_candidates(image, probability, self._recipe.levels, self._refiner)
        views = draw_views(image, probability, masks, self._recipe.data.size)
        expected = expect(self._network, views, self._device)
        return _Verdict(masks, expected, choose(masks, expected, self._recipe.reject, self._recipe.accept))


def _unite(masks: list[BoolMask], image: GrayImage) -> BoolMask:
    return np.logical_or.reduce([np.zeros(image.shape, bool), *masks])
