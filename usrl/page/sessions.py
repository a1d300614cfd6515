"""Images that a person works on: marks go in, masks and measurements come out.

What a person does with a structure of an image is a `Script`. Each step keeps its script and the mask that
was shown, so undo and redo compute nothing and show the very same mask, after a restart too. A correction
brings a session of the method to the present script and goes on from there.
"""

import importlib.metadata
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import numpy as np

from usrl.data.components import label_components
from usrl.data.sample import BoolMask, Box, GrayImage, Spacing
from usrl.errors import UserError, suggest
from usrl.metrics.size import measure_area, measure_axes
from usrl.page.methods import (
    Once,
    Outline,
    PageMethod,
    find_network,
    outline_moves,
    outline_steps,
    takes_boxes,
    takes_corrections,
)
from usrl.page.storage import (
    MOST_STEPS,
    PALETTE,
    Draft,
    ImageFolder,
    Kind,
    LabelFolder,
    Mark,
    Script,
    Step,
    Work,
    decode_mask,
    encode_mask,
)
from usrl.segmenter import Answer, Segmenter
from usrl.session import Learning, Marks, Point, Session, can_learn
from usrl.strict import Strict

MOST_MARKS = 200
"""Corrections of one structure."""
MOST_BOXES = 64
NO_CORRECTIONS = (
    "{0} takes no corrections: accept its masks or draw other boxes. Points can correct them if usrl "
    "annotate runs with the method {0}+pull."
)
_HELD = 4
"""Images that are kept in memory."""
_MEASURED = 8
"""Lesions whose axes are measured, the largest first."""
_LONGEST_PAUSE_S = 600.0
"""Most seconds that one request can add to the time spent."""
_MIN_SIDE_PX = 2.0
"""A narrower box is a slip of the hand."""
Verb = Literal["box", "unbox", "mask", "mark", "move", "unmark", "undo", "redo", "clear"]
T = TypeVar("T")
Origin = Literal["network", "existing", "accepted"]


class Act(Strict):
    """What a person does.

    Attributes:
        revision: That the person has seen.
        seconds: Spent since the last request.
        structure: Which one is worked on.
        verb: What is done: add or remove a box, begin from a mask, put down, move or remove a point, undo,
            redo, or begin anew.
        box: Of ``box``: x0, y0, x1, y1.
        origin: Of ``mask``: whose mask.
        kind: Of ``mark``.
        point: Of ``mark`` and ``move``: x, y.
        number: Of ``unbox``, ``move`` and ``unmark``, from 0 on.
    """

    revision: int
    seconds: float = 0.0
    structure: str
    verb: Verb
    box: list[float] | None = None
    origin: Origin | None = None
    kind: Kind | None = None
    point: list[float] | None = None
    number: int | None = None


class Acceptance(Strict):
    """That a person accepts the masks of an image.

    Attributes:
        revision: That the person has seen.
        seconds: Spent since the last request.
        is_empty: Whether there is nothing to segment.
    """

    revision: int
    seconds: float = 0.0
    is_empty: bool = False


class StaleError(Exception):
    """The image has been changed elsewhere, such as in another tab."""


@dataclass
class Bench:
    """A session of one structure, and the script that it is at; None if it is at no known one."""

    session: Session[Any]
    at: Script | None = None

    def bring(self, script: Script, image: GrayImage) -> Answer:
        """Return the answer after a script. What the session has done already is not done again."""
        at, self.at = self.at, None  # an error leaves the session anywhere
        session = self.session
        if at is None or (at.boxes, at.mask) != (script.boxes, script.mask):
            session.start(image, _start(script, image))
            done: tuple[Mark, ...] = ()
        else:
            done = at.marks
        same = 0
        while same < min(len(done), len(script.marks)) and done[same] == script.marks[same]:
            same += 1
        for _ in range(len(done) - same):
            session.undo()
        for mark in script.marks[same:]:
            session.correct(_as_marks(mark))
        self.at = script
        return session.answer


@dataclass
class Opened:
    """An image in memory."""

    image: GrayImage
    draft: Draft
    benches: dict[str, Bench] = field(default_factory=dict)


class Desk:
    """The images of a folder, one method, and what a person has done.

    Args:
        images: What is segmented.
        labels: Where it is written.
        method: What segments.
        network: An automatic segmenter whose mask an image can begin from.
        title: Name of the method in records, such as what the command line was given.
    """

    def __init__(
        self,
        images: ImageFolder,
        labels: LabelFolder,
        method: PageMethod,
        network: Segmenter | None = None,
        title: str | None = None,
    ) -> None:
        self._images, self._labels, self._method = images, labels, method
        self._network = find_network(method) if network is None else network
        self.title = title or method.name
        self._version = importlib.metadata.version("usrl")
        self._begun = labels.begun()
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.RLock()
        self._worker = ThreadPoolExecutor(1, "learning")
        self._learning: Future[None] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the images with their states, the structures and what the method can do."""
        with self._lock:
            self._images.scan()
            accepted = self._labels.accepted()
            method = self._method
            asks: str = method.asks if takes_corrections(method) else "nothing"
            colours = [
                PALETTE[1 + number % (len(PALETTE) - 1)] for number in range(len(self._labels.structures))
            ]
            return {
                "images": [self._list(name, name in accepted) for name in self._images.sources],
                "structures": [
                    {"name": name, "colour": list(colour)}
                    for name, colour in zip(self._labels.structures, colours, strict=True)
                ],
                "method": {
                    "name": self.title,
                    "asks": asks,
                    "note": "" if asks != "nothing" else NO_CORRECTIONS.format(self.title),
                    "takes_boxes": takes_boxes(method),
                    "network": None if self._network is None else self._network.name,
                },
                "version": self._version,
            }

    def warm_up(self) -> None:
        """Let the method segment and be corrected once, so that no person waits for what it compiles."""
        image, box = np.zeros((64, 64), np.uint8), (15.5, 15.5, 47.5, 47.5)
        image[16:48, 16:48] = 128
        session = Session(self._method)
        session.start(image, Marks(boxes=(box,)) if takes_boxes(self._method) else Marks(mask=image > 0))
        if takes_corrections(self._method):
            session.correct(
                _as_marks(Mark(kind="border" if self._method.asks == "border" else "inside", x=40, y=30))
            )
        measure(session.answer.mask, None)

    def learn_again(self) -> int:
        """Let a method that learns do so from all accepted masks, in the order in which they were accepted.

        Returns:
            The number of images.
        """
        if not can_learn(self._method):
            return 0
        names = [name for name in self._labels.accepted_in_order() if name in self._images.sources]
        for name in names:
            image = self._images.read(name)
            numbers = range(1, len(self._labels.structures) + 1)
            self._learn(image, [self._labels.read_mask(name, number, image.shape) for number in numbers])
        return len(names)

    def view(self, name: str) -> dict[str, Any]:
        """Return everything that the page shows of an image, except for its pixels."""
        with self._lock:
            opened = self._open(name)
            accepted = name in self._labels.accepted()
            height, width = opened.image.shape
            return {
                **self._list(name, accepted),
                "width": width,
                "height": height,
                "unit": "px" if self._spacing(name) is None else "mm",
                "revision": opened.draft.revision,
                "seconds": opened.draft.seconds,
                "origins": self._origins(name, accepted),
                "works": {
                    each: self._show(opened, each, self._spacing(name)) for each in self._labels.structures
                },
            }

    def pixels(self, name: str) -> GrayImage:
        """Return an image, uint8, (H, W)."""
        with self._lock:
            return self._open(name).image

    def act(self, name: str, act: Act) -> dict[str, Any]:
        """Return the view after a person has done something.

        Raises:
            StaleError: If the image has another revision.
            UserError: If it cannot be done; then nothing has changed.
        """
        with self._lock:
            opened = self._check(name, act)
            work = opened.draft.works.get(act.structure, Work())
            if act.verb in ("undo", "redo"):
                place = work.place + (1 if act.verb == "redo" else -1)
                if not 0 <= place < len(work.steps):
                    raise UserError(f"there is nothing to {act.verb}")
                work = work.model_copy(update={"place": place})
            else:
                work = _append(work, self._next(name, opened, act, work.now))
            works = opened.draft.works | {act.structure: work}
            draft = self._draft(opened, works=works, seconds=act.seconds, is_open=True)
            self._labels.write_draft(name, draft)
            opened.draft, self._begun[name] = draft, True
            return self.view(name)

    def accept(self, name: str, acceptance: Acceptance) -> dict[str, Any]:
        """Write the masks of an image, and return the view.

        Raises:
            StaleError: If the image has another revision.
            UserError: If nothing is segmented, and that is not what the person says.
        """
        with self._lock:
            opened = self._check(name, acceptance)
            names = () if acceptance.is_empty else self._labels.structures
            masks = {each: self._shown(opened, each) for each in names}
            found = {each: mask for each, mask in masks.items() if mask is not None and mask.any()}
            if not found and not acceptance.is_empty:
                raise UserError("nothing is segmented yet; draw a box, or say that there is nothing here")
            labels = np.zeros(opened.image.shape, np.uint8)
            overlap = 0
            for number, each in enumerate(self._labels.structures, 1):
                if each in found:
                    overlap += int((labels[found[each]] > 0).sum())
                    labels[found[each]] = number
            nothing = {each: _append(work, Step()) for each, work in opened.draft.works.items()}
            works = nothing if acceptance.is_empty else opened.draft.works
            draft = self._draft(opened, works=works, seconds=acceptance.seconds, is_open=False)
            record = self._record(name, opened, draft, found, labels)
            about = (self._images.groups(), self._images.spacings())
            self._labels.accept(name, opened.image, labels, record, draft, *about)
            opened.draft, self._begun[name] = draft, False
            # A person need not wait for it before the next image is shown.
            self._learning = self._worker.submit(self._learn, opened.image, list(found.values()))
            return self.view(name) | {"overlap_px": overlap}

    def moves(self, name: str, structure: str) -> list[list[Outline]]:
        """Return the outlines after each move of an agent to the present mask; none if there is no film."""
        with self._lock:
            opened = self._open(name)
            now = opened.draft.works.get(self._known(structure), Work()).now
            if now.script.is_empty or now.method != self.title:
                return []
            self._finish_learning()
            answer = self._bench(opened, structure).bring(now.script, opened.image)
            if encode_mask(answer.mask) != now.shown:
                return []
            moves = (
                []
                if now.script.marks
                else outline_steps(self._method, opened.image, _start(now.script, opened.image))
            )
            return moves or outline_moves(answer)

    def _learn(self, image: GrayImage, masks: Iterable[BoolMask]) -> None:
        """Let the method learn from accepted masks, if it is one that learns."""
        if isinstance(self._method, Learning):
            for mask in masks:
                self._method.accept(image, mask)

    def _open(self, name: str) -> Opened:
        if name not in self._images.sources:
            raise UserError(f"there is no image {name!r}; {suggest(name, self._images.sources)}")
        if name not in self._opened:
            image, draft = self._images.read(name), self._labels.read_draft(name)
            if not draft.works and name in self._labels.accepted():
                draft = draft.model_copy(update={"works": self._read_accepted(name, image)})
            self._opened[name] = Opened(image, draft)
            while len(self._opened) > _HELD:
                self._opened.popitem(last=False)
        self._opened.move_to_end(name)
        return self._opened[name]

    def _read_accepted(self, name: str, image: GrayImage) -> dict[str, Work]:
        """Return works that show an accepted mask whose draft is gone."""
        works = {}
        for number, structure in enumerate(self._labels.structures, 1):
            mask = self._labels.read_mask(name, number, image.shape)
            if mask.any():
                text = encode_mask(mask)
                step = Step(script=Script(mask=text, source="accepted mask"), shown=text)
                works[structure] = _append(Work(), step)
        return works

    def _check(self, name: str, request: Act | Acceptance) -> Opened:
        opened = self._open(name)
        if request.revision != opened.draft.revision:
            raise StaleError
        if isinstance(request, Act):
            self._known(request.structure)
        return opened

    def _known(self, structure: str) -> str:
        if structure not in self._labels.structures:
            raise UserError(f"unknown structure {structure!r}; {suggest(structure, self._labels.structures)}")
        return structure

    def _draft(self, opened: Opened, *, works: dict[str, Work], seconds: float, is_open: bool) -> Draft:
        """Return the draft that follows the present one."""
        spent = min(max(seconds, 0.0), _LONGEST_PAUSE_S)
        return Draft(
            revision=opened.draft.revision + 1,
            seconds=round(opened.draft.seconds + spent, 1),
            is_open=is_open,
            works=works,
        )

    def _finish_learning(self) -> None:
        """Wait until the method has learned from what was accepted last."""
        learning, self._learning = self._learning, None
        if learning is not None:
            learning.result()

    def _next(self, name: str, opened: Opened, act: Act, now: Step) -> Step:
        """Return the step after a person has done something with a structure."""
        self._finish_learning()
        if act.verb == "clear":
            return Step()
        if act.verb == "mask":
            return self._begin_from(name, opened, act)
        if act.verb in ("box", "unbox"):
            return self._change_boxes(opened, act, now)
        return self._correct(opened, act, now)

    def _begin_from(self, name: str, opened: Opened, act: Act) -> Step:
        """Return the step that begins from a mask that is there already."""
        number = 1 + self._labels.structures.index(act.structure)
        if act.origin == "network":
            if self._network is None:
                raise UserError("there is no network to start from; start usrl annotate with --network")
            mask, source = self._network.segment(opened.image, None).mask, self._network.name
        elif act.origin == "accepted":
            mask, source = self._labels.read_mask(name, number, opened.image.shape), "accepted mask"
        else:
            count = len(self._labels.structures)
            mask = self._images.read_mask(name, number, count, opened.image.shape)
            source = "existing mask"
        if not mask.any():
            raise UserError(f"{source}: there is no {act.structure} on this image; draw a box")
        return self._reach(opened, act.structure, Script(mask=encode_mask(mask), source=source))

    def _change_boxes(self, opened: Opened, act: Act, now: Step) -> Step:
        """Return the step after a box was drawn or removed."""
        script, is_own = now.script, now.method in ("", self.title)
        if not takes_boxes(self._method):
            raise UserError(f"{self.title} finds everything by itself and takes no box; start from its mask")
        if act.verb == "unbox":
            if script.mask is not None or not is_own:
                raise UserError("this box has become part of a mask; undo, or begin anew")
            removed = _pick(script.boxes, act.number, "box")
            boxes = tuple(box for number, box in enumerate(script.boxes) if number != act.number)
            if not boxes:
                return Step()
            marks = tuple(mark for mark in script.marks if _nearest(script.boxes, mark) != removed)
            return self._reach(opened, act.structure, Script(boxes=boxes, source="box", marks=marks))
        box = _fit_box(act.box, opened.image.shape)
        if len(script.boxes) >= MOST_BOXES:
            raise UserError(f"there are {MOST_BOXES} boxes already; accept them, or remove one")
        boxes = (*script.boxes, box)
        if script.mask is None and is_own:
            marks = script.marks
            return self._reach(opened, act.structure, Script(boxes=boxes, source="box", marks=marks))
        # There are no boxes from which the present mask could be made again.
        added = Session(self._method).start(opened.image, Marks(boxes=(box,))).mask
        shown = self._shown(opened, act.structure)
        mask = added if shown is None else added | shown
        source = " and ".join(filter(None, (script.source, "box")))
        after = Script(boxes=boxes, mask=encode_mask(mask), source=source)
        if isinstance(self._method, Once):  # which would move the rest of the mask too
            return Step(script=after, shown=after.mask, method=self.title)
        return self._reach(opened, act.structure, after)

    def _correct(self, opened: Opened, act: Act, now: Step) -> Step:
        """Return the step after a point was put down, moved or removed."""
        if not takes_corrections(self._method):
            raise UserError(NO_CORRECTIONS.format(self.title))
        if now.script.is_empty:
            raise UserError("there is nothing to correct yet; draw a box, or start from a mask")
        script = self._reproduce(opened, act.structure, now)
        if act.verb == "mark":
            if len(script.marks) >= MOST_MARKS:
                raise UserError(f"there are {MOST_MARKS} points already; remove one")
            x, y = _fit_point(act.point, opened.image.shape)
            if act.kind is None or (act.kind == "border") != (self._method.asks == "border"):
                wanted = (
                    "points on the border" if self._method.asks == "border" else "clicks inside or outside"
                )
                raise UserError(f"{self.title} is corrected by {wanted}, got {act.kind}")
            marks = (*script.marks, Mark(kind=act.kind, x=x, y=y))
        else:
            if script is not now.script:
                raise UserError("the points were put down for another method; put down new ones")
            changed = _pick(script.marks, act.number, "point")
            number = act.number or 0
            before, after = script.marks[:number], script.marks[number + 1 :]
            if act.verb == "unmark":
                marks = (*before, *after)
            else:
                x, y = _fit_point(act.point, opened.image.shape)
                marks = (*before, changed.model_copy(update={"x": x, "y": y}), *after)
        return self._reach(opened, act.structure, script.model_copy(update={"marks": marks}))

    def _reproduce(self, opened: Opened, structure: str, now: Step) -> Script:
        """Return a script whose session shows the present mask.

        That of the present step does, unless it was of another method, or its weights have changed.
        """
        if now.method == self.title:
            answer = self._bench(opened, structure).bring(now.script, opened.image)
            if encode_mask(answer.mask) == now.shown:
                return now.script
        return Script(
            boxes=now.script.boxes, mask=now.shown, source=f"mask of {now.method or now.script.source}"
        )

    def _reach(self, opened: Opened, structure: str, script: Script) -> Step:
        answer = self._bench(opened, structure).bring(script, opened.image)
        return Step(script=script, shown=encode_mask(answer.mask), method=self.title)

    def _bench(self, opened: Opened, structure: str) -> Bench:
        return opened.benches.setdefault(structure, Bench(Session(self._method)))

    def _shown(self, opened: Opened, structure: str) -> BoolMask | None:
        shown = opened.draft.works.get(structure, Work()).now.shown
        return None if shown is None else decode_mask(shown, opened.image.shape)

    def _show(self, opened: Opened, structure: str, spacing: Spacing | None) -> dict[str, Any]:
        """Return what the page shows of a structure."""
        work, mask = opened.draft.works.get(structure, Work()), self._shown(opened, structure)
        return {
            "boxes": work.now.script.boxes,
            "marks": [mark.model_dump() for mark in work.now.script.marks],
            "source": work.now.script.source,
            "mask": work.now.shown,
            "can_undo": work.place > 0,
            "can_redo": work.place < len(work.steps) - 1,
            "size": None if mask is None else measure(mask, spacing),
        }

    def _list(self, name: str, is_accepted: bool) -> dict[str, Any]:
        """Return the name and state of an image."""
        is_open, fault = self._begun.get(name), self._images.sources[name].fault
        if fault:
            state = "unreadable"
        elif is_accepted:
            state = "changed" if is_open else "accepted"
        else:
            state = "new" if is_open is None else "begun"
        return {"name": name, "state": state, "fault": fault}

    def _origins(self, name: str, is_accepted: bool) -> list[str]:
        """Return the masks that an image can begin from."""
        can = {
            "network": self._network is not None,
            "existing": self._images.has_mask(name),
            "accepted": is_accepted,
        }
        return [origin for origin, is_there in can.items() if is_there]

    def _record(
        self, name: str, opened: Opened, draft: Draft, found: dict[str, BoolMask], labels: GrayImage
    ) -> dict[str, Any]:
        """Return what is written beside a mask."""
        spacing, height, width = self._spacing(name), *opened.image.shape
        works = {each: draft.works[each].now for each in found}
        only = len(self._labels.structures) == 1
        return {
            "image": self._images.sources[name].path.name,
            "width_px": width,
            "height_px": height,
            **({} if spacing is None else {"spacing_mm": list(spacing)}),
            "version": f"usrl {self._version}",
            "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": draft.seconds,
            "structures": {
                each: {
                    "value": 255 if only else 1 + self._labels.structures.index(each),
                    "method": now.method,
                    "start": now.script.source,
                    "boxes": [list(box) for box in now.script.boxes],
                    "points": [mark.model_dump() for mark in now.script.marks],
                    **_without_ends(measure(labels == 1 + self._labels.structures.index(each), spacing)),
                }
                for each, now in works.items()
            },
        }

    def _spacing(self, name: str) -> Spacing | None:
        return self._images.sources[name].spacing_mm


def measure(mask: BoolMask, spacing: Spacing | None) -> dict[str, Any]:
    """Return the area of a mask, bool, (H, W), and area and axes of its largest lesions.

    Keys have the unit, px or mm; axes are in px of the image too, as ends (x, y).
    """
    unit, squared = ("px", "px") if spacing is None else ("mm", "mm2")
    labels, areas = label_components(mask)
    lesions = []
    for number in sorted(range(1, len(areas)), key=lambda each: -areas[each])[:_MEASURED]:
        part = labels == number
        axes = measure_axes(part, spacing)
        assert axes is not None  # a component has a pixel
        lesions.append(
            {
                f"area_{squared}": _round(measure_area(part, spacing)),
                f"long_{unit}": _round(axes.long),
                f"short_{unit}": _round(axes.short),
                "axes": [
                    [list(map(_round, end)) for end in ends] for ends in (axes.long_ends, axes.short_ends)
                ],
            }
        )
    return {
        f"area_{squared}": _round(measure_area(mask, spacing)),
        "components": len(areas) - 1,
        "lesions": lesions,
    }


def _without_ends(size: dict[str, Any]) -> dict[str, Any]:
    """Return measurements without where the axes end."""
    lesions = [{key: value for key, value in each.items() if key != "axes"} for each in size["lesions"]]
    return size | {"lesions": lesions}


def _append(work: Work, step: Step) -> Work:
    """Return a work that goes on with a step; what was undone is forgotten."""
    steps = (*work.steps[: work.place + 1], step)[-MOST_STEPS:]
    return Work(steps=steps, place=len(steps) - 1)


def _start(script: Script, image: GrayImage) -> Marks:
    """Return what a session begins with: the mask if there is one, else the boxes."""
    if script.mask is None:
        return Marks(boxes=script.boxes)
    return Marks(mask=decode_mask(script.mask, image.shape))


def _as_marks(mark: Mark) -> Marks:
    point = ((mark.x, mark.y),)
    if mark.kind == "border":
        return Marks(border=point)
    return Marks(inside=point) if mark.kind == "inside" else Marks(outside=point)


def _pick(things: tuple[T, ...], number: int | None, what: str) -> T:
    if number is None or not 0 <= number < len(things):
        raise UserError(f"there are {len(things)} of them, from 0 on, got {what} {number}")
    return things[number]


def _fit_box(sides: list[float] | None, shape: tuple[int, ...]) -> Box:
    """Return a box within an image (H, W), its corners in order."""
    if sides is None or len(sides) != 4:
        raise UserError(f"a box is x0, y0, x1, y1 in pixels, got {sides}")
    (x0, y0), (x1, y1) = (_fit_point(sides[corner : corner + 2], shape) for corner in (0, 2))
    box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if min(box[2] - box[0], box[3] - box[1]) < _MIN_SIDE_PX:
        raise UserError(
            f"a box must be {_MIN_SIDE_PX:g} pixels wide and high on the image; draw a larger one"
        )
    return box


def _fit_point(point: list[float] | None, shape: tuple[int, ...]) -> Point:
    """Return the nearest point of an image (H, W)."""
    if point is None or len(point) != 2:
        raise UserError(f"a point is x, y in pixels, got {point}")
    (x, y), (height, width) = point, shape[:2]
    return min(max(x, -0.5), width - 0.5), min(max(y, -0.5), height - 0.5)


def _nearest(boxes: tuple[Box, ...], mark: Mark) -> Box:
    """Return the box that a point is nearest to; within a box the distance is 0."""

    def away(box: Box) -> float:
        x0, y0, x1, y1 = box
        return math.hypot(max(x0 - mark.x, mark.x - x1, 0.0), max(y0 - mark.y, mark.y - y1, 0.0))

    return min(boxes, key=away)


def _round(value: float) -> float:
    return round(float(value), 2)
