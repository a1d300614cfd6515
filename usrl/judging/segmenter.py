"""A judge's choice among the candidates of an automatic network, as a segmenter."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from usrl.agents.segmenter import AgentSegmenter
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
from usrl.segmenter import Answer, Segmenter, name_method, networks_of, refine_frames


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgeAnswer(Answer):
    """An answer that keeps the candidates which the judge chose among."""

    candidates: Candidates


class JudgedSegmenter:
    """Takes the best candidates that the probabilities of a network, the proposer, give. It starts once.

    Raises:
        UserError: If there is no proposer, or the weights cannot be used.
    """

    track: Track = "automatic"

    def __init__(
        self, run: Run, device: torch.device, proposer: Segmenter | None = None, starts: int = 1
    ) -> None:
        self._recipe, self._device, self._run = run.recipe_as(JudgeRecipe), device, run
        if proposer is None:
            raise self._want_network("none")
        self._proposer = proposer
        self.name = name_method(run.name, proposer=proposer)
        self._refiner = open_refiner(open_run(run.refiner_path), device) if self._recipe.refiner else None
        network = JudgeNetwork(self._recipe.channels, self._recipe.dropout)
        load_weights(run.weights_path, network)
        self._network = network.to(device).eval()

    def segment(self, image: GrayImage, prompt: Prompt | None) -> JudgeAnswer:
        """Return the union of the chosen candidates; the proposal is the network's own mask.

        The uncertainty is one minus the mean Dice expected of the chosen candidates. Without one, it
        is 1.

        Raises:
            UserError: If the proposer gives no probability.
        """
        return self._judge(image, self._proposer.segment(image, None))

    def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
        """Yield the answer for each frame of a clip; see `usrl.segmenter.refine_frames`."""
        return refine_frames(self._proposer, frames, self._judge)

    def _judge(self, image: GrayImage, proposed: Answer) -> JudgeAnswer:
        probability = proposed.probability
        if probability is None:
            raise self._want_network(self._proposer.name)
        candidates = find_candidates(image, probability, self._recipe.levels, self._refiner)
        evidence = gather_evidence(image, probability, candidates, self._recipe.data.size)
        expected = expect(self._network, evidence, self._device)
        if not np.isfinite(expected).all():
            raise UserError(
                f"{self.name}: the judgements are not numbers, as the weights are out of all bounds; train "
                "it again"
            )
        taken = choose(candidates, expected, self._recipe)
        doubt = 1 - float(expected[taken].mean()) if taken else 1.0
        mask = candidates.unite(taken, image)
        return JudgeAnswer(mask=mask, proposal=proposed.mask, uncertainty=doubt, candidates=candidates)

    def reach(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask, answer: Answer | None = None
    ) -> BoolMask:
        """Return the union of the candidates that fit the target's lesions best, bool, (H, W)."""
        own = answer if isinstance(answer, JudgeAnswer) else self.segment(image, prompt)
        masks = own.candidates.masks
        scores = [[dice(mask, lesion) for mask in masks] for lesion in split_components(target)]
        return own.candidates.unite([row.index(max(row)) for row in scores if any(row)], image)

    def networks(self) -> list[nn.Module]:
        """Return the proposer's networks, the judge's and the refiner's; see `usrl.segmenter.Networked`."""
        return [*networks_of(self._proposer), self._network, *networks_of(self._refiner)]

    def _want_network(self, given: str) -> UserError:
        path = self._run.path
        return UserError(
            f"{path}: a judge chooses among the candidates of a network, got {given}; "
            f"write NETWORK_RUN+{path}"
        )


def open_refiner(run: Run, device: torch.device) -> AgentSegmenter:
    """Return the agent that refines a judge's candidates. Raise if it takes no boxes."""
    refiner = AgentSegmenter(run, device)
    if refiner.track != "prompted":
        raise UserError(f"{run.path} takes no boxes; a refiner is an agent that is prompted by boxes")
    return refiner
