"""The random walker from clicks."""

import numpy as np
import pytest

from usrl.classical.clicks import RandomWalkerClicks
from usrl.session import Marks, Session

rows, columns = np.mgrid[:80, :100]
TARGET = ((columns - 50) / 22) ** 2 + ((rows - 40) / 16) ** 2 <= 1
IMAGE = np.where(TARGET, 60, 160).astype(np.uint8)
BOX = ((27.5, 23.5, 72.5, 56.5),)


def test_a_box_on_a_clear_image_needs_no_click() -> None:
    mask = Session(RandomWalkerClicks()).start(IMAGE, Marks(boxes=BOX)).mask
    assert (mask & TARGET).sum() / (mask | TARGET).sum() > 0.9


def test_clicks_add_what_was_missing_and_take_away_what_was_too_much() -> None:
    session = Session(RandomWalkerClicks())
    blank = (100 + columns / 10).astype(np.uint8)
    start = session.start(blank, Marks(boxes=BOX)).mask
    more = session.correct(Marks(inside=((70.0, 26.0),))).mask
    assert more[26, 70]
    assert not start[26, 70]
    less = session.correct(Marks(outside=((30.0, 40.0),))).mask
    assert not less[40, 30]
    assert (session.undo().mask == more).all()


def test_a_mask_to_start_from_is_the_first_answer() -> None:
    session = Session(RandomWalkerClicks())
    mask = TARGET & (columns < 60)
    assert (session.start(IMAGE, Marks(mask=mask)).mask == mask).all()
    after = session.correct(Marks(inside=((66.0, 40.0),))).mask
    assert (after & TARGET).sum() / (after | TARGET).sum() > 0.85


def test_a_click_far_from_every_lesion_changes_nothing() -> None:
    session = Session(RandomWalkerClicks())
    start = session.start(IMAGE, Marks(boxes=BOX)).mask
    assert (session.correct(Marks(inside=((2.0, 2.0),))).mask == start).all()


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (-0.5, -0.5, 100.0, 80.0)])
def test_extreme_boxes_give_a_mask(box: tuple[float, float, float, float]) -> None:
    session = Session(RandomWalkerClicks())
    session.start(IMAGE, Marks(boxes=(box,)))
    assert session.correct(Marks(inside=((50.0, 40.0),), outside=((1.0, 1.0),))).mask.shape == IMAGE.shape
