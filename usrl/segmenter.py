"""What a segmenter is: anything that maps an image and a prompt to a mask."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask, FloatArray, GrayImage, Prompt, Sample, Track
from usrl.errors import UserError
from usrl.metrics.uncertainty import measure_softness

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer of a segmenter for one image of shape (H, W).

    A method may return a subclass that also keeps what its `reach` or `film` would otherwise compute again.

    Attributes:
        mask: The segmentation, bool, (H, W).
        proposal: The mask that the method started from, bool, (H, W); None if it starts from nothing.
        probability: Probability of lesion, float32 in [0, 1], (H, W); None if the method has none.
        uncertainty: How little the method agrees with itself, in [0, 1]; None if it cannot say, as with a
            single start of an agent.
    """

    mask: BoolMask
    proposal: BoolMask | None = None
    probability: FloatArray | None = None
    uncertainty: float | None = None

    @classmethod
    def cut(cls, probability: FloatArray) -> Self:
        """Return the answer of a probability: its mask above one half, and its softness as uncertainty.

        Args:
            probability: Probability of lesion, float32 in [0, 1], (H, W).
        """
        mask = np.asarray(probability > 0.5)
        return cls(mask, probability=probability, uncertainty=measure_softness(probability, mask))


class Named(Protocol):
    """A row of a table."""

    @property
    def name(self) -> str:
        """Row label."""

    @property
    def track(self) -> Track:
        """Block of the tables: ``"prompted"`` needs boxes, ``"automatic"`` ignores them."""


@runtime_checkable
class Segmenter(Named, Protocol):
    """Maps a native image, and boxes if it is prompted, to a mask of the same shape."""

    def segment(self, image: GrayImage, prompt: Prompt | None) -> Answer:
        """Return the answer for one image.

        Args:
            image: uint8, shape (H, W).
            prompt: Boxes; None if there are no boxes.

        Raises:
            UserError: If the track is prompted and there is no prompt, or a box is outside the image
                or has no area.
        """


@runtime_checkable
class Ceiling(Named, Protocol):
    """Knows the best mask that a method could reach, which needs the target.

    A `Segmenter` that is also a ceiling says what it could have made of its own proposal. A ceiling that is
    not a segmenter stands for the best of a whole family of methods.
    """

    def reach(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask, answer: Answer | None = None
    ) -> BoolMask:
        """Return the best mask, bool, shape (H, W).

        Args:
            image: uint8, shape (H, W).
            prompt: Boxes; None if there are no boxes.
            target: The true mask, bool, shape (H, W).
            answer: What `segment` returned for the same image and prompt; nothing in it is computed again.
        """


@runtime_checkable
class CaseSegmenter(Segmenter, Protocol):
    """Knows its samples by name, such as masks in files; it refuses other images."""

    def segment_sample(self, sample: Sample, prompt: Prompt | None) -> Answer:
        """Return the answer for a sample; see `Segmenter.segment`. The target must not be looked at."""


@runtime_checkable
class ClipSegmenter(Named, Protocol):
    """Segments the frames of a clip together."""

    def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
        """Yield the answer for each frame, in order; some frames are read ahead.

        Args:
            frames: uint8, (H, W), all of one shape, from the first to the last.

        Raises:
            UserError: If the method cannot segment clips.
        """


@runtime_checkable
class Filmed(Protocol):
    """A segmenter that works step by step and can show its steps."""

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None, answer: Answer | None = None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step, uint8, shape (h, w, 3), the proposal first.

        The list is empty if the proposal is empty. The arguments are those of `Ceiling.reach`.
        """


@runtime_checkable
class Networked(Protocol):
    """A segmenter that computes with networks."""

    def networks(self) -> "list[Module]":
        """Return its networks, and those of the methods that it asks."""


Method = Segmenter | Ceiling
"""What a comparison can score."""


def name_method(run: str, starts: int = 1, proposer: Segmenter | None = None) -> str:
    """Return the label of a run that starts several times or from a proposer, such as ``"unet+agent x8"``."""
    own = run if starts == 1 else f"{run} x{starts}"
    return own if proposer is None else f"{proposer.name}+{own}"


def networks_of(method: Segmenter | None) -> "list[Module]":
    """Return the networks of a method, if it has any."""
    return method.networks() if isinstance(method, Networked) else []


def answer_frames(method: Segmenter, frames: Iterable[GrayImage]) -> Iterator[Answer]:
    """Yield a method's answer for each frame of a clip: together if it can, or else frame by frame.

    Raises:
        UserError: If the method needs boxes.
    """
    if method.track == "prompted":
        raise UserError(f"{method.name} needs a box for every frame; clips are for automatic methods")
    if isinstance(method, ClipSegmenter):
        yield from method.segment_clip(frames)
    else:
        yield from (method.segment(frame, None) for frame in frames)


def refine_frames(
    first: Segmenter, frames: Iterable[GrayImage], refine: Callable[[GrayImage, Answer], Answer]
) -> Iterator[Answer]:
    """Yield what a method, which starts from the answers of another, says of each frame of a clip.

    Args:
        first: What it starts from; it sees the frames together if it can.
        frames: See `ClipSegmenter.segment_clip`.
        refine: Returns the method's answer for a frame and the answer of ``first``.
    """
    shown, asked = tee(frames)
    yield from (refine(image, each) for image, each in zip(shown, answer_frames(first, asked), strict=True))


def answer_sample(method: Method, sample: Sample, prompt: Prompt | None) -> Answer:
    """Return a method's answer for a sample. The mask of a ceiling is the best that it can reach."""
    if isinstance(method, CaseSegmenter):
        return method.segment_sample(sample, prompt)
    if isinstance(method, Segmenter):
        return method.segment(sample.image, prompt)
    return Answer(method.reach(sample.image, prompt, sample.target))
