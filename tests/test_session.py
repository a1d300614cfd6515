"""Sessions: corrections, and what undoes them."""

from dataclasses import dataclass

import numpy as np
import pytest

from usrl.classical import CLASSICAL
from usrl.errors import UserError
from usrl.segmenter import Answer
from usrl.session import Asks, Marks, Proposed, Session

IMAGE = np.zeros((20, 30), np.uint8)
BOX = ((5.0, 5.0, 15.0, 15.0),)


@dataclass(frozen=True)
class Painter:
    """Adds the pixel of every click to what it began with."""

    name: str = "painter"
    asks: Asks = "clicks"

    def begin(self, image: np.ndarray, marks: Marks) -> np.ndarray:
        return np.zeros(image.shape, bool) if marks.mask is None else marks.mask

    def correct(self, state: np.ndarray, marks: Marks) -> np.ndarray:
        painted = state.copy()
        for x, y in marks.inside:
            painted[int(y), int(x)] = True
        for x, y in marks.outside:
            painted[int(y), int(x)] = False
        return painted

    def answer(self, state: np.ndarray) -> Answer:
        return Answer(state)


def click(x: float, y: float) -> Marks:
    return Marks(inside=((x, y),))


@pytest.fixture
def session() -> Session[np.ndarray]:
    session = Session(Painter())
    session.start(IMAGE, Marks(boxes=BOX))
    return session


def count(answer: Answer) -> int:
    return int(answer.mask.sum())


def test_corrections_add_up_and_are_undone_one_by_one(session: Session[np.ndarray]) -> None:
    assert [count(session.correct(click(x, 3))) for x in (1, 2, 3)] == [1, 2, 3]
    assert session.corrections == 3
    assert [count(session.undo()) for _ in range(3)] == [2, 1, 0]
    assert session.corrections == 0
    with pytest.raises(UserError, match="no correction to undo"):
        session.undo()


def test_what_was_undone_is_done_again_until_there_is_a_new_correction(session: Session[np.ndarray]) -> None:
    session.correct(click(1, 3)), session.correct(click(2, 3))
    session.undo(), session.undo()
    assert count(session.redo()) == 1
    session.correct(Marks(outside=((1.0, 3.0),)))
    with pytest.raises(UserError, match="no undone"):
        session.redo()
    assert count(session.answer) == 0


def test_a_changed_correction_makes_the_later_ones_again(session: Session[np.ndarray]) -> None:
    for x in (1, 2, 3):
        session.correct(click(x, 3))
    answer = session.change(0, click(9, 9))
    assert np.flatnonzero(answer.mask.any(axis=0)).tolist() == [2, 3, 9]
    assert session.corrections == 3
    with pytest.raises(UserError, match="outside the image"):
        session.change(1, click(99, 9))
    assert session.corrections == 3
    with pytest.raises(UserError, match="from 0 on, got number 3"):
        session.change(3, click(1, 1))


def test_a_start_forgets_everything(session: Session[np.ndarray]) -> None:
    session.correct(click(1, 3))
    mask = np.ones(IMAGE.shape, bool)
    assert count(session.start(IMAGE, Marks(mask=mask))) == mask.size
    assert session.corrections == 0


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (Marks(), "corrected by clicks inside or outside, got none"),
        (Marks(border=((1.0, 1.0),)), "Marks.border means nothing as a correction of painter; give clicks"),
        (Marks(boxes=BOX), "Marks.boxes means nothing as a correction"),
        (Marks(mask=np.zeros(IMAGE.shape, bool)), "Marks.mask means nothing"),
        (click(31, 1), "point 31,1 is outside the image, which is 30 x 20"),
        (click(float("nan"), 1), "not finite"),
    ],
)
def test_wrong_corrections_are_refused(session: Session[np.ndarray], marks: Marks, message: str) -> None:
    with pytest.raises(UserError, match=message):
        session.correct(marks)
    assert session.corrections == 0


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (Marks(), "a box around each lesion or with a mask, got neither"),
        (Marks(boxes=BOX, inside=((1.0, 1.0),)), "Marks.inside means nothing to begin with"),
        (Marks(boxes=((5.0, 5.0, 5.0, 9.0),)), "no area"),
        (Marks(mask=np.zeros((3, 3), bool)), r"bool of shape \(20, 30\), got bool \(3, 3\)"),
    ],
)
def test_wrong_starts_are_refused(marks: Marks, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Session(Painter()).start(IMAGE, marks)


def test_nothing_is_corrected_before_the_start() -> None:
    with pytest.raises(UserError, match=r"call start\(\) before"):
        Session(Painter()).correct(click(1, 1))


def test_a_method_starts_from_the_masks_of_a_segmenter() -> None:
    method = Proposed(CLASSICAL["proposal"](), Painter())
    answer = Session(method).start(IMAGE, Marks(boxes=BOX))
    assert method.name == "proposal+painter"
    assert method.asks == "clicks"
    assert count(answer) == pytest.approx(np.pi * 25, rel=0.1)


def test_a_box_in_which_a_segmenter_finds_nothing_gives_its_ellipse() -> None:
    answer = Session(Proposed(CLASSICAL["otsu"](), Painter())).start(IMAGE, Marks(boxes=BOX))
    assert count(answer) > 0
