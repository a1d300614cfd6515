"""What a segmenter is: anything that maps an image and a prompt to a mask."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask, GrayImage, Prompt, Sample, Track


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
class Probabilistic(Segmenter, Protocol):
    """An automatic segmenter that cuts its mask out of a probability: a network."""

    def probability(self, image: GrayImage) -> NDArray[np.float32]:
        """Return the probability of lesion, float32 in [0, 1], shape (H, W)."""


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


def name_method(run: str, starts: int = 1, proposer: Segmenter | None = None) -> str:
    """Return the label of a run that starts several times or from a proposer, such as ``"unet+agent x8"``."""
    own = run if starts == 1 else f"{run} x{starts}"
    return own if proposer is None else f"{proposer.name}+{own}"


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
