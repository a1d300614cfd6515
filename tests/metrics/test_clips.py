"""Scores of a segmentation over time."""

import numpy as np
import pytest

from usrl.errors import UserError
from usrl.metrics.clips import clip_dice, false_frames, flicker, frame_dice
from usrl.metrics.overlap import dice


def row(*cells: int) -> np.ndarray:
    """Return frames of one row of four pixels, each given by how many of the first pixels are set."""
    return np.array([[[place < cell for place in range(4)]] for cell in cells])


def test_frame_dice_is_the_dice_of_each_frame() -> None:
    first, second = row(2, 0, 4, 0), row(4, 0, 0, 1)
    assert frame_dice(first, second).tolist() == pytest.approx([2 * 2 / 6, 1, 0, 0])
    assert frame_dice(first, second).tolist() == [dice(a, b) for a, b in zip(first, second, strict=True)]


def test_the_dice_of_a_clip_leaves_frames_without_a_target_out() -> None:
    # Frames with a target score 2 * 2 / 6 and 1; the found pixel where there is none does not count here.
    assert clip_dice(row(2, 3, 1), row(4, 3, 0)) == pytest.approx((2 / 3 + 1) / 2)
    with pytest.raises(UserError, match="no frame has one"):
        clip_dice(row(1, 1), row(0, 0))


def test_false_frames_are_those_without_a_target_in_which_something_is_found() -> None:
    assert false_frames(row(2, 3, 1, 0), row(4, 0, 0, 0)) == pytest.approx(2 / 3)
    assert false_frames(row(2, 3), row(4, 1)) == 0


def test_flicker_is_what_the_masks_change_more_than_the_target() -> None:
    # The target stands still, and the prediction goes from 2 to 4 pixels and back: 1 - 2 * 2 / 6 each time.
    assert flicker(row(2, 4, 2), row(3, 3, 3)) == pytest.approx(1 / 3)
    # It vanishes for a frame: both changes are whole.
    assert flicker(row(2, 0, 2), row(2, 2, 2)) == 1
    # The target grows from 2 to 4 as well, and then stands still: only the second change counts.
    assert flicker(row(2, 4, 2), row(2, 4, 4)) == pytest.approx((0 + 1 / 3) / 2)


def test_a_prediction_that_comes_and_goes_with_the_target_does_not_flicker() -> None:
    target = row(0, 2, 3, 0, 0)
    assert flicker(target, target) == 0
    assert flicker(row(2, 2, 2, 2, 2), target) == 0  # stands still, which its Dice pays for
    assert flicker(row(0, 0, 0, 1, 0), row(0, 0, 0, 0, 0)) == pytest.approx(2 / 4)  # appears and vanishes


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(UserError, match="neighbouring frames, got 1"):
        flicker(row(1), row(1))
    with pytest.raises(UserError, match="must be bool of one shape"):
        frame_dice(row(1, 2), row(1))
    with pytest.raises(UserError, match="must be bool of one shape"):
        flicker(row(1, 2).astype(int), row(1, 2))
