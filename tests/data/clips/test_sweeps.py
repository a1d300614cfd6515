"""Probe sweeps over simulated bodies."""

import numpy as np
import pytest

from usrl.data.catalogue import check_dataset, list_parts, load_cases
from usrl.data.clips.sweeps import MAX_FRAMES, MIN_FRAMES, make_sweep
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError

SWEEPS = [make_sweep(0, index) for index in range(4)]


def test_equal_seeds_give_equal_bytes() -> None:
    again = make_sweep(0, 2)
    assert np.array_equal(again.frames, SWEEPS[2].frames)
    assert np.array_equal(again.masks, SWEEPS[2].masks)
    assert make_sweep(0, 2, variety=1.0).frames.shape[1:] == (64, 64)


def test_the_target_comes_and_goes() -> None:
    for clip in SWEEPS:
        assert clip.masks is not None
        assert MIN_FRAMES <= len(clip.frames) <= MAX_FRAMES
        shown = clip.masks.any(axis=(1, 2))
        assert 0.1 < shown.mean() < 0.9
        assert not shown[[0, -1]].all()


def test_the_target_is_darker_than_what_is_around_it() -> None:
    for clip in SWEEPS:
        full = clip.masks.sum(axis=(1, 2)) > 100
        inside = clip.frames[full][clip.masks[full]].mean()
        outside = clip.frames[full][~clip.masks[full]].mean()
        assert inside < outside - 20


def test_neighbouring_frames_show_nearly_the_same_target() -> None:
    for clip in SWEEPS:
        sizes = clip.masks.sum(axis=(1, 2))
        both = (sizes[1:] > 60) & (sizes[:-1] > 60)
        shared = (clip.masks[1:] & clip.masks[:-1]).sum(axis=(1, 2))
        assert (2 * shared[both] / (sizes[1:] + sizes[:-1])[both]).mean() > 0.75


def test_the_catalogue_splits_sweeps_by_body_and_brings_their_masks() -> None:
    data = DataRecipe(name="sweeps", count=8, size=32)
    parts = list_parts(data)
    cases = load_cases(data, "val")
    assert list(cases.names) == parts["val"]
    assert cases.groups[0].startswith("body-")
    assert cases.masks is not None
    assert cases.masks.shape == cases.frames.shape
    report = check_dataset(DataRecipe(name="sweeps", count=2))
    assert report.counts == {"sweeps": 2}
    with pytest.raises(UserError, match="at most 4096 are allowed"):
        list_parts(DataRecipe(name="sweeps", count=5000))
