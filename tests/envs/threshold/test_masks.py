"""Filters, cleaning and features."""

import numpy as np
import pytest
from scipy import ndimage

from usrl.data.components import clean_mask, fill_holes
from usrl.envs.threshold.features import BINS, describe_settings, describe_tile
from usrl.envs.threshold.filters import filter_speckle


def make_speckle() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    dark = np.zeros((80, 80), bool)
    dark[:, 40:] = True
    level = np.where(dark, 60.0, 140.0)
    return np.clip(level * rng.gamma(12, 1 / 12, dark.shape), 0, 255).astype(np.uint8), dark


@pytest.mark.parametrize("name", ["median", "srad"])
def test_a_filter_reduces_speckle_and_keeps_means_and_edges(name: str) -> None:
    image, dark = make_speckle()
    smooth = filter_speckle(image, name, 5)  # type: ignore[arg-type]
    for side, level in ((dark, 60), (~dark, 140)):
        inside = ndimage.binary_erosion(side, iterations=4, border_value=1)
        assert smooth[inside].mean() == pytest.approx(level, rel=0.06)
        assert smooth[inside].std() < 0.6 * image[inside].std()
    assert smooth[:, 37].mean() - smooth[:, 42].mean() > 0.7 * 80


def test_no_filter_changes_nothing_and_a_flat_image_stays_flat() -> None:
    image, _ = make_speckle()
    assert (filter_speckle(image, "none", 5) == image).all()
    assert (filter_speckle(np.full((20, 20), 7, np.uint8), "srad", 5) == 7).all()


def test_cleaning_keeps_the_largest_component_and_fills_holes() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:12, 3:12] = True
    mask[6:8, 6:8] = False
    mask[15:18, 20:25] = True
    largest = clean_mask(mask, "largest")
    assert (largest == (mask & (np.arange(30) < 15))).all()
    assert clean_mask(mask, "holes").sum() == mask.sum() + 4
    assert clean_mask(mask, "largest+holes").sum() == 81
    assert (clean_mask(mask, "none") == mask).all()


def test_cleaning_an_empty_or_a_full_mask_changes_nothing() -> None:
    for mask in (np.zeros((5, 7), bool), np.ones((5, 7), bool)):
        assert (clean_mask(mask, "largest+holes") == mask).all()


def test_holes_are_those_that_scipy_finds() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(60, 50)), 1.5) > 0
    assert (fill_holes(mask) == ndimage.binary_fill_holes(mask)).all()


def test_features_of_known_masks() -> None:
    disc = np.hypot(*(np.ogrid[:48, :48][axis] - 23.5 for axis in (0, 1))) < 14
    area, compactness, position, objects = describe_tile(disc, disc.size, (0, 0), 48)
    assert area == int(BINS[0] * disc.mean())
    assert (compactness, position, objects) == (3, 0, 1)
    line = np.zeros((48, 48), bool)
    line[2, 3:45] = line[40, 5] = line[44, 30] = True
    assert describe_tile(line, line.size, (0, 0), 48).tolist() == [0, 0, 2, 2]
    assert describe_tile(np.zeros_like(line), line.size, (0, 0), 48).tolist() == [0, 0, 0, 0]
    assert describe_tile(np.ones_like(line), line.size, (0, 0), 48)[0] == BINS[0] - 1


def test_features_of_a_tile_are_placed_in_its_region() -> None:
    opened = np.full((1, 40, 40), 200, np.uint8)
    opened[0, :4, :4] = 10
    opened[0, 18:24, 18:24] = 10
    found = describe_settings(opened, np.array([50, 250], np.uint8), np.ones((40, 40), bool), 2)
    assert found.shape == (4, 1, 2, 4)
    # Of two objects in the first tile the larger lies in the region's corner; the last tile's in its centre.
    assert found[0, 0, 0].tolist() == [0, 3, 3, 2]
    assert found[3, 0, 0].tolist() == [0, 3, 0, 1]
    assert (found[:, 0, 1, 0] == BINS[0] - 1).all()
