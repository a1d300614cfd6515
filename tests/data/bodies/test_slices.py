"""Slices of bodies as images with masks."""

import numpy as np

from usrl.data.bodies.slices import PER_BODY, make_slices
from usrl.data.catalogue import load_split


def test_slices_of_a_body_are_one_group_and_equal_for_equal_seeds():
    first, again, other = make_slices(0, 3), make_slices(0, 3), make_slices(1, 3)
    assert len(first) == PER_BODY
    assert {sample.group for sample in first} == {"body-0003"}
    assert len({sample.name for sample in first}) == PER_BODY
    assert all(np.array_equal(one.image, two.image) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0].image, other[0].image)
    assert first[0].image.shape == (64, 64)
    assert first[0].spacing_mm == (0.75, 0.75)


def test_masks_are_the_lesion_which_is_darker_than_the_organ_around_it():
    seen = [sample for index in range(6) for sample in make_slices(0, index) if sample.target.sum() > 60]
    assert len(seen) > 10
    gray = [
        (sample.image[sample.target].mean(), sample.image[20:][~sample.target[20:]].mean()) for sample in seen
    ]
    assert all(inside < around for inside, around in gray)


def test_about_half_of_the_slices_show_the_lesion_and_splits_keep_bodies_whole():
    parts = {part: load_split("slices", part, count=20) for part in ("train", "val", "test")}
    share = np.mean([sample.target.any() for part in parts.values() for sample in part])
    assert 0.35 < share < 0.65
    groups = [{sample.group for sample in part} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20
