"""Methods as the page uses them: those that take corrections, and those that segment once."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from skimage.measure import find_contours

from usrl.classical import CLASSICAL
from usrl.data.sample import BoolMask, FloatArray, GrayImage, Prompt
from usrl.errors import UserError, suggest
from usrl.evaluation.methods import (
    INTERACTIVE,
    find_run,
    let_learn,
    open_interactive,
    open_segmenter,
    split_chain,
)
from usrl.runs.shipped import list_shipped
from usrl.segmenter import Answer, Segmenter
from usrl.session import Asks, Interactive, Marks, Proposed

Outline = list[list[float]]
"""Points (x, y) of a closed line, in pixels of the image."""


@runtime_checkable
class Moved(Protocol):
    """An answer that shows how contours have come there.

    Attributes:
        contours: The contours before the first move and after each, (T, B, N, 2), px of the native image.
    """

    contours: FloatArray


@runtime_checkable
class Agent(Protocol):
    """A segmenter that moves something step by step: `usrl.agents.segmenter.AgentSegmenter`."""

    def refine(self, image: GrayImage, found: BoolMask) -> Answer:
        """Return the answer that starts from a mask, bool, (H, W)."""

    def steps(self, image: GrayImage, prompt: Prompt | None, found: BoolMask | None = None) -> list[BoolMask]:
        """Return the masks before and after each step, bool, (H, W)."""


@dataclass(frozen=True, eq=False)
class Once:
    """A segmenter as a method of a session, which takes no corrections; see `usrl.session.Interactive`.

    From a mask, an agent that moves something from a box moves it on. Others leave the mask as it is.

    Attributes:
        segmenter: What segments.
    """

    segmenter: Segmenter
    asks: Asks = field(default="border", init=False)

    @property
    def name(self) -> str:
        """Row label in tables."""
        return self.segmenter.name

    def begin(self, image: GrayImage, marks: Marks) -> Answer:
        """Return the answer for boxes or a mask."""
        segmenter = self.segmenter
        if marks.mask is None:
            return segmenter.segment(image, marks.boxes)
        if isinstance(segmenter, Agent) and segmenter.track == "prompted":
            return segmenter.refine(image, marks.mask)
        return Answer(marks.mask)

    def correct(self, state: Answer, marks: Marks) -> Answer:
        """Refuse a correction."""
        raise UserError(f"{self.name} takes no corrections")

    def answer(self, state: Answer) -> Answer:
        """Return what the segmenter said."""
        return state


PageMethod = Interactive[Any]


def open_method(spec: str, device: torch.device) -> PageMethod:
    """Return the method of a name: one that takes corrections, or a segmenter that segments `Once`.

    Raises:
        UserError: If no method and no run has the name, or it needs the target.
    """
    names = (*INTERACTIVE, *CLASSICAL, *list_shipped())
    if spec not in names and not Path(spec).exists() and not {"/", "+", ",", os.pathsep} & set(spec):
        raise UserError(f"{spec!r} is neither a method nor a run; {suggest(spec, names)}")
    try:
        return open_interactive(spec, device)
    except UserError as error:
        first = error
    try:
        return Once(_open_segmenter(spec, device))
    except UserError as second:
        raise _explain(spec, first, second, device) from None


def _explain(spec: str, first: UserError, second: UserError, device: torch.device) -> UserError:
    """Return the error about a name: from why it takes no corrections, and why it does not segment once."""
    chain = split_chain(spec)
    if chain is None:
        return second
    _open_segmenter(chain[0], device)  # raises if this part is what is wrong
    is_known = chain[1] in CLASSICAL or find_run(chain[1]) is not None
    if not is_known or str(first) == str(second):
        return first
    return UserError(
        f"{spec}: the part after the + takes corrections, or segments once from the masks of {chain[0]}, and "
        f"{chain[1]} does neither. For corrections: {first}. To segment once: {second}. To correct "
        f"the masks of {chain[0]} by points, write {chain[0]}+pull"
    )


def open_learning(spec: str, device: torch.device) -> PageMethod:
    """Return the agent of a name that learns from what is accepted; refuse a method that cannot learn."""
    method = let_learn(open_interactive(spec, device))
    if method is None:
        raise UserError(f"{spec} cannot learn; leave --learn out, or name an agent of contour correction")
    return method


def open_network(spec: str, device: torch.device) -> Segmenter:
    """Return a segmenter that needs no boxes, whose masks a session can begin from."""
    segmenter = _open_segmenter(spec, device)
    if segmenter.track != "automatic":
        raise UserError(f"{segmenter.name} needs boxes itself; name an automatic method such as unet-phantom")
    return segmenter


def _open_segmenter(spec: str, device: torch.device) -> Segmenter:
    """Return a segmenter; refuse a ceiling, which sees the target."""
    method = open_segmenter(spec, device)
    if not isinstance(method, Segmenter):
        raise UserError(f"{method.name} chooses with the target, which only `usrl compare` has")
    return method


def find_network(method: PageMethod) -> Segmenter | None:
    """Return the segmenter that a method brings along and that needs no boxes, if there is one."""
    brought = method.segmenter if isinstance(method, Once) else None
    brought = method.proposer if isinstance(method, Proposed) else brought
    return brought if brought is not None and brought.track == "automatic" else None


def takes_corrections(method: PageMethod) -> bool:
    """Return whether a method takes corrections."""
    return not isinstance(method, Once)


def takes_boxes(method: PageMethod) -> bool:
    """Return whether a session of a method can begin with boxes."""
    return not isinstance(method, Once) or method.segmenter.track == "prompted"


def outline_steps(method: PageMethod, image: GrayImage, marks: Marks) -> list[list[Outline]]:
    """Return the outlines before and after each step of an agent from a start; none if there is no agent.

    An agent may be what segments once, or what a method starts from.
    """
    agent = method.segmenter if isinstance(method, Once) else None
    agent = method.proposer if isinstance(method, Proposed) else agent
    if agent is None or not isinstance(agent, Agent):
        return []
    if agent.track == "automatic":
        masks = agent.steps(image, None)
    elif isinstance(method, Proposed):  # which leaves a mask as it is
        masks = [] if marks.mask is not None else agent.steps(image, marks.boxes)
    else:
        masks = agent.steps(image, marks.boxes, marks.mask)
    return [trace(mask) for mask in masks]


def outline_moves(answer: Answer) -> list[list[Outline]]:
    """Return the outlines before and after each move since the last correction, if there are any."""
    if not isinstance(answer, Moved):
        return []
    return [[_round(contour) for contour in step] for step in answer.contours]


def trace(mask: BoolMask) -> list[Outline]:
    """Return the outlines of a mask, bool, (H, W), with those of its holes."""
    curves = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    return [_round(curve[:, ::-1] - 1) for curve in curves]


def _round(points: Any) -> Outline:
    rounded: Outline = np.round(np.asarray(points, np.float64), 1).tolist()
    return rounded
