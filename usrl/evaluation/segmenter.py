"""The seam of evaluation: anything that maps an image and a prompt to a mask."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from usrl.agents.threshold_segmenter import ORACLES
from usrl.baselines.classical import CLASSICAL
from usrl.baselines.prompted import PromptedNetworkSegmenter
from usrl.baselines.segmenter import NetworkSegmenter
from usrl.data.sample import BoolMask, GrayImage, Prompt, Sample, Track
from usrl.errors import UserError, suggest
from usrl.judging.segmenter import JudgedSegmenter
from usrl.recipes import AgentRecipe, JudgeRecipe, NetworkRecipe
from usrl.registry import find_row, load_object
from usrl.runs import Run, open_run


class Segmenter(Protocol):
    """Maps a native image, and boxes where it is prompted, to a mask of the same shape.

    Attributes:
        name: Row label in tables.
        track: ``"prompted"`` needs boxes, ``"automatic"`` ignores them.
    """

    @property
    def name(self) -> str:
        """Row label in tables."""

    @property
    def track(self) -> Track:
        """Block of the tables."""

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask of one image.

        Args:
            image: uint8, shape (H, W).
            prompt: Boxes; None where there are none.

        Returns:
            Mask, bool, shape (H, W).

        Raises:
            UserError: If the track is prompted and there is no prompt, or a box is outside the image
                or has no area.
        """


@runtime_checkable
class Refiner(Segmenter, Protocol):
    """A segmenter that improves a proposal: an agent, or a judge."""

    def propose(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask that the refinement starts from, bool, shape (H, W)."""

    def oracle(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the best mask that it could have made of the proposal, bool, shape (H, W)."""


@runtime_checkable
class Filmed(Refiner, Protocol):
    """A refiner that works step by step: an agent."""

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step of the refinement, uint8, shape (h, w, 3), proposal first.

        There is none where the proposal is empty.
        """


@runtime_checkable
class Ceiling(Segmenter, Protocol):
    """The best of a family of methods, chosen with the reference: what the family can reach."""

    def reach(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the best mask, bool, shape (H, W)."""


@runtime_checkable
class Uncertain(Segmenter, Protocol):
    """A segmenter that says how little it agrees with itself on an image."""

    def segment_with_uncertainty(
        self, image: GrayImage, prompt: Prompt | None
    ) -> tuple[BoolMask, float | None]:
        """Return the mask that `segment` gives, bool, shape (H, W), and its uncertainty.

        The uncertainty lies in [0, 1]; None where there is nothing to measure it by, as with the single
        start of an agent.
        """


def predict(segmenter: Segmenter, sample: Sample, prompt: Prompt | None) -> BoolMask:
    """Return a method's mask of a sample, bool, shape (H, W); of a ceiling, its best."""
    return predict_with_uncertainty(segmenter, sample, prompt)[0]


def predict_with_uncertainty(
    segmenter: Segmenter, sample: Sample, prompt: Prompt | None
) -> tuple[BoolMask, float | None]:
    """Return what `predict` does, and its uncertainty; None where the method gives none."""
    if isinstance(segmenter, Ceiling):
        return segmenter.reach(sample.image, prompt, sample.target), None
    return segment_with_uncertainty(segmenter, sample.image, prompt)


def segment_with_uncertainty(
    segmenter: Segmenter, image: GrayImage, prompt: Prompt | None
) -> tuple[BoolMask, float | None]:
    """Return a method's mask of an image, bool, (H, W), and its uncertainty; None where it gives none."""
    if isinstance(segmenter, Uncertain):
        return segmenter.segment_with_uncertainty(image, prompt)
    return segmenter.segment(image, prompt), None


def open_segmenter(spec: str, device: torch.device, starts: int = 1) -> Segmenter:
    """Return the segmenter that a command line names.

    Args:
        spec: The name of a classical method (`usrl.baselines.classical.CLASSICAL`) or of a ceiling
            (`usrl.agents.threshold_segmenter.ORACLES`), the path of a run, or ``FIRST+RUN``: an agent's
            run that starts from the masks of an automatic method or a network's run instead of boxes, or
            a judge's that chooses among what a network's probabilities may mean.
        device: Where networks and policies compute.
        starts: How often agents and prompted networks start on an image, from boxes near the given ones.
            Methods that start from no box, and classical ones, keep their one start; so does FIRST.

    Raises:
        UserError: If there is neither such a method nor such a run, or a chain does not fit together.
    """
    if spec in CLASSICAL:
        return CLASSICAL[spec]()
    if spec in ORACLES:
        return ORACLES[spec]
    if chain := split_chain(spec):
        first, second = chain
        return _open_run(second, device, starts, proposer=open_segmenter(first, device))
    if not spec or (not Path(spec).exists() and "/" not in spec):  # an empty path is the current folder
        raise UserError(f"{spec!r} is neither a method nor a run; {suggest(spec, [*CLASSICAL, *ORACLES])}")
    return _open_run(spec, device, starts)


def split_chain(spec: str) -> tuple[str, str] | None:
    """Return both parts of ``FIRST+RUN``, or None of anything else; a folder may have a plus in its name."""
    if Path(spec).exists() or "+" not in spec:
        return None
    pluses = [place for place, letter in enumerate(spec) if letter == "+"]
    pairs = [(spec[:place], spec[place + 1 :]) for place in reversed(pluses)]
    return next((pair for pair in pairs if Path(pair[1]).is_dir()), pairs[0])


def _open_run(path: str, device: torch.device, starts: int, proposer: Segmenter | None = None) -> Segmenter:
    run = open_run(path)
    if isinstance(run.recipe, NetworkRecipe):
        if proposer is not None:
            raise UserError(
                f"{path} is a network's run; in FIRST+RUN the second must be an agent's or a judge's; "
                "swap the two"
            )
        if run.recipe.prompt == "none":
            return NetworkSegmenter(run, device)
        return PromptedNetworkSegmenter(run, device, starts)
    if proposer is not None and proposer.track != "automatic":
        raise UserError(
            f"{proposer.name} needs boxes itself; agents and judges take proposals from automatic methods"
        )
    if isinstance(run.recipe, JudgeRecipe):
        return JudgedSegmenter(run, device, proposer)
    return _open_agent(run, device, starts, proposer)


def _open_agent(run: Run, device: torch.device, starts: int, proposer: Segmenter | None) -> Segmenter:
    """Return the segmenter of an agent's run, which follows from its environment."""
    row = find_row(run.recipe_as(AgentRecipe).env.id)
    segmenter: Segmenter = load_object(row.segmenter)(run, device, proposer=proposer, starts=starts)
    return segmenter
