import time

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.spatial.distance import directed_hausdorff
from skimage.draw import ellipse

from usrl.errors import UserError
from usrl.metrics.surface import (
    average_surface_distance,
    find_boundary,
    hausdorff,
    hd95,
    measure_surface,
    normalised_surface_dice,
    surface_distances,
)

EMPTY = np.zeros((30, 40), bool)
DISTANCES = [hausdorff, hd95, average_surface_distance]


def dot(row: int, column: int) -> np.ndarray:
    mask = EMPTY.copy()
    mask[row, column] = True
    return mask


def blob(row: float, column: float, radius: float = 8.0, shape=(60, 70)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[ellipse(row, column, radius, 1.3 * radius, shape=shape, rotation=0.4)] = True
    return mask


def test_boundary_of_a_block_is_its_frame():
    mask = EMPTY.copy()
    mask[5:9, 6:12] = True
    inner = EMPTY.copy()
    inner[6:8, 7:11] = True
    np.testing.assert_array_equal(find_boundary(mask), mask & ~inner)


def test_boundary_of_a_full_image_is_its_border():
    assert find_boundary(np.ones((5, 6), bool)).sum() == 18


@pytest.mark.parametrize("metric", DISTANCES)
def test_two_single_pixels_are_as_far_apart_as_pythagoras_says(metric):
    assert metric(dot(2, 3), dot(5, 7)) == pytest.approx(5.0)


@pytest.mark.parametrize("metric", DISTANCES)
def test_spacing_turns_rows_and_columns_into_millimetres(metric):
    assert metric(dot(2, 3), dot(5, 7), (1.0, 0.5)) == pytest.approx(np.hypot(3, 2))


def test_distances_of_two_lines_have_the_values_computed_by_hand():
    # Two parallel lines of 20 pixels, one row apart, but for one pixel of pred that lies 6 rows off.
    pred, target = EMPTY.copy(), EMPTY.copy()
    target[10, 5:25] = True
    pred[11, 5:24] = True
    pred[16, 24] = True
    there, back = [1.0] * 19 + [6.0], [1.0] * 19 + [np.sqrt(2)]
    scores = measure_surface(pred, target, tolerance=1.0)
    assert scores.hd == 6.0
    assert scores.hd95 == pytest.approx(1.0 + 0.05 * 5.0)  # percentile 95 of 20 values lies at index 18.05
    assert scores.asd == pytest.approx((sum(there) + sum(back)) / 40)
    assert scores.nsd == pytest.approx(38 / 40)


@pytest.mark.parametrize("metric", DISTANCES)
def test_two_empty_masks_are_at_distance_zero(metric):
    assert metric(EMPTY, EMPTY) == 0.0


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("pair", [(EMPTY, dot(1, 1)), (dot(1, 1), EMPTY)], ids=["no pred", "no target"])
def test_one_empty_mask_is_the_diagonal_of_the_image_away(metric, pair):
    assert metric(*pair) == 50.0
    assert metric(*pair, (2.0, 2.0)) == 100.0


def test_surface_dice_of_empty_masks_follows_the_rule():
    assert normalised_surface_dice(EMPTY, EMPTY, 2.0) == 1.0
    assert normalised_surface_dice(EMPTY, dot(1, 1), 1e9) == 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [None, (0.3, 0.2)])
def test_distances_agree_with_monai(seed, spacing):
    rng = np.random.default_rng(seed)
    pred = blob(*rng.uniform(15, 40, 2), radius=rng.uniform(4, 14)) | blob(30, 30, 3)
    target = blob(*rng.uniform(15, 40, 2), radius=rng.uniform(4, 14))
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (pred, target)]
    scores = measure_surface(pred, target, 1.5, spacing)
    tolerance = [1.5]
    assert scores.hd == pytest.approx(compute_hausdorff_distance(*tensors, spacing=spacing).item(), rel=1e-5)
    percentile = compute_hausdorff_distance(*tensors, spacing=spacing, percentile=95).item()
    assert scores.hd95 == pytest.approx(percentile, rel=1e-5)
    mean = compute_average_surface_distance(*tensors, symmetric=True, spacing=spacing).item()
    assert scores.asd == pytest.approx(mean, rel=1e-5)
    share = compute_surface_dice(*tensors, tolerance, spacing=spacing).item()
    assert scores.nsd == pytest.approx(share, rel=1e-5)


def test_hausdorff_agrees_with_scipy():
    pred, target = blob(20, 30), blob(30, 35, 12)
    edges = [np.argwhere(find_boundary(mask)) for mask in (pred, target)]
    expected = max(directed_hausdorff(*edges)[0], directed_hausdorff(*edges[::-1])[0])
    assert hausdorff(pred, target) == pytest.approx(expected)


def test_distances_do_not_depend_on_where_in_the_image_the_masks_lie():
    pred, target = blob(20, 30), blob(24, 33)
    moved = [np.roll(mask, (5, 9), (0, 1)) for mask in (pred, target)]
    assert measure_surface(pred, target, 2.0) == measure_surface(*moved, 2.0)


def test_directed_distances_swap_with_the_masks():
    pred, target = blob(20, 30), blob(24, 33, 5)
    there, back = surface_distances(pred, target)
    swapped_there, swapped_back = surface_distances(target, pred)
    np.testing.assert_array_equal(there, swapped_back)
    np.testing.assert_array_equal(back, swapped_there)


def test_other_shapes_are_refused_with_both_shapes():
    with pytest.raises(UserError, match=r"\(30, 40\) and \(60, 70\)"):
        hausdorff(EMPTY, blob(20, 20))


def test_a_spacing_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="two positive sizes"):
        hausdorff(EMPTY, EMPTY, (0.0, 0.1))


def test_a_small_lesion_in_a_large_image_is_measured_quickly():
    pred, target = blob(500, 500, shape=(2000, 2000)), blob(504, 500, shape=(2000, 2000))
    start = time.perf_counter()
    measure_surface(pred, target, 2.0)
    assert time.perf_counter() - start < 1.0
