"""Clips as objects and as cases."""

from typing import Any

import numpy as np
import pytest

from usrl.data.clips.clips import Clip, Clips
from usrl.errors import UserError


def clip(frames: int = 3, gray: int = 7, **fields: Any) -> Clip:
    values = np.full((frames, 4, 6), gray, np.uint8)
    return Clip(values, 20.0, None, f"clip-{gray}", "patient", "made", **fields)


def test_frames_of_clips_follow_each_other_and_are_held_once() -> None:
    cases = Clips.from_clips([clip(3, 7), clip(2, 9)], size=6)

    assert cases.frames.shape == (5, 6, 6)
    assert cases.first.tolist() == [0, 3]
    assert cases.lengths.tolist() == [3, 2]
    assert cases.frames[:, 3, 3].tolist() == [7, 7, 7, 9, 9]
    assert cases.frames[:, 0].max() == 0  # padding above an image of 4 x 6
    assert cases.informative is None


def test_masks_and_known_frames_are_kept_if_every_clip_has_them() -> None:
    masks = np.zeros((3, 4, 6), np.bool_)
    masks[1] = True
    known = np.array([True, False, True])
    cases = Clips.from_clips([clip(masks=masks, informative=known)] * 2, size=6)

    assert cases.masks is not None
    assert cases.masks.sum(dim=(1, 2)).tolist() == [0, 24, 0] * 2
    assert cases.informative is not None
    assert cases.informative.tolist() == known.tolist() * 2
    assert Clips.from_clips([clip(masks=masks), clip()], size=6).masks is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"frames": 1}, r"at least two frames, got uint8 \(1, 4, 6\)"),
        ({"masks": np.zeros((2, 4, 6), np.bool_)}, r"masks must be bool of shape \(3, 4, 6\)"),
        ({"informative": np.zeros(3)}, r"informative must be bool of shape \(3,\), got float64"),
    ],
)
def test_clips_that_do_not_fit_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        clip(**fields)


def test_a_rate_that_is_not_positive_is_refused() -> None:
    with pytest.raises(UserError, match=r"clip-7: fps must be positive, got 0"):
        Clip(np.zeros((2, 4, 4), np.uint8), 0, None, "clip-7", "patient", "made")


def test_no_clip_is_refused() -> None:
    with pytest.raises(UserError, match="at least one clip"):
        Clips.from_clips([], size=8)
