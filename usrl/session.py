"""Segmenting one image together with a user, who marks what is wrong.

A method says how to begin, how to take a correction and what its answer is, all as functions of a state. A
`Session` keeps the states, so that corrections can be undone. Simulated users, scripts and a page drive the
same session.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch

from usrl.data.prompts import check_prompt
from usrl.data.sample import BoolMask, GrayImage, Prompt
from usrl.errors import UserError
from usrl.geometry.area import rasterise
from usrl.geometry.polygon import ellipse_in_box
from usrl.segmenter import Answer, Segmenter, name_method

Point = tuple[float, float]
"""(x, y) in pixels of the native image, with pixel centres at integers."""
Asks = Literal["border", "clicks"]
"""What a method wants of a user: points on the true border, or clicks inside and outside the lesion."""
S = TypeVar("S")
_ELLIPSE = 64
"""Vertices of an ellipse."""


@dataclass(frozen=True, eq=False)
class Marks:
    """What a user has marked on an image.

    Attributes:
        boxes: One around each lesion.
        border: Points on the true border.
        inside: Clicks on what belongs to a lesion, "positive" ones.
        outside: Clicks on what does not, "negative" ones.
        mask: A mask to start from, such as one that exists already, bool, (H, W).
    """

    boxes: Prompt = ()
    border: tuple[Point, ...] = ()
    inside: tuple[Point, ...] = ()
    outside: tuple[Point, ...] = ()
    mask: BoolMask | None = None

    def check(self, shape: tuple[int, ...]) -> "Marks":
        """Return the marks; raise a `UserError` if one is not on an image of shape (H, W)."""
        height, width = shape[:2]
        if self.boxes:
            check_prompt(self.boxes, shape)
        for x, y in (*self.border, *self.inside, *self.outside):
            if not (math.isfinite(x) and math.isfinite(y)):
                raise UserError(f"point {x:g},{y:g} is not finite; give two numbers x,y in pixels")
            if not (-0.5 <= x <= width and -0.5 <= y <= height):
                raise UserError(
                    f"point {x:g},{y:g} is outside the image, which is {width} x {height}; give pixels of it"
                )
        if self.mask is not None and (self.mask.dtype != bool or self.mask.shape != (height, width)):
            raise UserError(
                f"a mask to start from must be bool of shape {(height, width)}, got {self.mask.dtype} "
                f"{self.mask.shape}; resample it to the image"
            )
        return self


class Interactive(Protocol[S]):
    """A method that takes corrections. Its functions are pure: the same state and marks give the same."""

    @property
    def name(self) -> str:
        """Row label in tables."""

    @property
    def asks(self) -> Asks:
        """What the method asks of a user."""

    def begin(self, image: GrayImage, marks: Marks) -> S:
        """Return the state after a user has marked boxes, or a mask to start from; uint8, (H, W)."""

    def correct(self, state: S, marks: Marks) -> S:
        """Return the state after a correction."""

    def answer(self, state: S) -> Answer:
        """Return the method's answer in a state."""


@runtime_checkable
class Learning(Protocol):
    """A method that learns from what its user accepts."""

    def accept(self, image: GrayImage, mask: BoolMask) -> None:
        """Learn from an image, uint8, (H, W), and the mask that the user has accepted, bool, (H, W)."""


@dataclass(frozen=True, eq=False)
class Proposed(Generic[S]):
    """A method that starts from the masks of a segmenter; see `Interactive`.

    A box in which the segmenter finds nothing gives its ellipse, because there must be something to correct.

    Attributes:
        proposer: Segments an image at the start: with the boxes if it is prompted.
        method: Takes the corrections.
    """

    proposer: Segmenter
    method: Interactive[S]

    @property
    def name(self) -> str:
        """Row label in tables."""
        return name_method(self.method.name, proposer=self.proposer)

    @property
    def asks(self) -> Asks:
        """What the method wants of a user."""
        return self.method.asks

    def begin(self, image: GrayImage, marks: Marks) -> S:
        """Return the method's state after the segmenter's mask, or after a mask that is marked."""
        if marks.mask is None:
            prompt = check_prompt(marks.boxes, image.shape) if self.proposer.track == "prompted" else None
            found = self.proposer.segment(image, prompt).mask
            boxes = torch.tensor(marks.boxes, dtype=torch.float32).view(-1, 4)
            for ellipse in rasterise(ellipse_in_box(boxes, _ELLIPSE), *image.shape).numpy():
                if not (found & ellipse).any():
                    found = found | ellipse
            marks = Marks(mask=found)
        return self.method.begin(image, marks)

    def correct(self, state: S, marks: Marks) -> S:
        """Return the state after a correction."""
        return self.method.correct(state, marks)

    def answer(self, state: S) -> Answer:
        """Return what the method says."""
        return self.method.answer(state)

    def accept(self, image: GrayImage, mask: BoolMask) -> None:
        """Let the method learn, if it is `Learning`."""
        if isinstance(self.method, Learning):
            self.method.accept(image, mask)


def can_learn(method: Interactive[Any]) -> bool:
    """Return whether a method learns from what its user accepts."""
    return isinstance(method.method if isinstance(method, Proposed) else method, Learning)


class Session(Generic[S]):
    """One image that a method segments together with a user.

    Args:
        method: What segments.

    Attributes:
        method: What segments.
        done: The marks of every correction so far.
    """

    def __init__(self, method: Interactive[S]) -> None:
        self.method = method
        self.done: list[Marks] = []
        self._undone: list[tuple[Marks, S]] = []
        self._states: list[S] = []
        self._image: GrayImage | None = None

    @property
    def corrections(self) -> int:
        """Number of corrections so far."""
        return len(self.done)

    def start(self, image: GrayImage, marks: Marks) -> Answer:
        """Forget everything and begin on an image, uint8, (H, W), with boxes or a mask.

        Raises:
            UserError: If there is neither a box nor a mask, or they do not fit the image.
        """
        if not marks.boxes and marks.mask is None:
            raise UserError("a session begins with a box around each lesion or with a mask, got neither")
        _refuse(marks, ("border", "inside", "outside"), "to begin with", "boxes or a mask")
        self._image = image
        self._states = [self.method.begin(image, marks.check(image.shape))]
        self.done, self._undone = [], []
        return self.answer

    @property
    def answer(self) -> Answer:
        """The method's answer at present."""
        return self.method.answer(self._states[-1])

    def correct(self, marks: Marks) -> Answer:
        """Return the answer after a correction: points on the border, or clicks, as the method asks.

        Raises:
            UserError: If no image has begun, or the marks are of another kind or outside the image.
        """
        if self._image is None:
            raise UserError("no image has begun; call start() before correct()")
        asked: tuple[str, ...] = ("border",) if self.method.asks == "border" else ("inside", "outside")
        told = "points on the border" if self.method.asks == "border" else "clicks inside or outside"
        others = tuple(field.name for field in fields(Marks) if field.name not in asked)
        _refuse(marks, others, f"as a correction of {self.method.name}", told)
        if not any(getattr(marks, name) for name in asked):
            raise UserError(f"{self.method.name} is corrected by {told}, got none")
        self._states.append(self.method.correct(self._states[-1], marks.check(self._image.shape)))
        self.done.append(marks)
        self._undone = []
        return self.answer

    def accept(self) -> BoolMask:
        """Return the mask that the user accepts, bool, (H, W), after a `Learning` method has learned from it.

        Raises:
            UserError: If no image has begun.
        """
        if self._image is None:
            raise UserError("no image has begun; call start() before accept()")
        mask = self.answer.mask
        if isinstance(self.method, Learning):
            self.method.accept(self._image, mask)
        return mask

    def undo(self) -> Answer:
        """Return the answer before the last correction; raise a `UserError` if there is none."""
        if not self.done:
            raise UserError("there is no correction to undo")
        self._undone.append((self.done.pop(), self._states.pop()))
        return self.answer

    def redo(self) -> Answer:
        """Return the answer after the correction that was undone last; a new one forgets the undone."""
        if not self._undone:
            raise UserError("there is no undone correction")
        marks, state = self._undone.pop()
        self.done.append(marks)
        self._states.append(state)
        return self.answer

    def change(self, number: int, marks: Marks) -> Answer:
        """Replace correction ``number``, counted from 0, and return the answer.

        Later corrections are made again. Dragging a point does this.
        """
        if not 0 <= number < len(self.done):
            raise UserError(f"there are {len(self.done)} corrections, from 0 on, got number {number}")
        later = self.done[number + 1 :]
        kept = self.done, self._states
        self.done, self._states = self.done[:number], self._states[: number + 1]
        try:
            for each in (marks, *later):
                self.correct(each)
        except UserError:
            self.done, self._states = kept
            raise
        return self.answer


def _refuse(marks: Marks, names: Sequence[str], when: str, wanted: str) -> None:
    """Refuse marks of some kinds."""
    for name in names:
        value = getattr(marks, name)
        if value is not None and (name == "mask" or len(value)):
            raise UserError(f"Marks.{name} means nothing {when}; give {wanted}")
