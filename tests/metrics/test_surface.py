import cv2
import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.distance import directed_hausdorff
from skimage.draw import ellipse

from usrl.errors import UserError
from usrl.metrics.overlap import iou
from usrl.metrics.surface import boundary_iou, find_boundary, measure_surface, surface_distances

EMPTY = np.zeros((30, 40), bool)


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


def test_two_single_pixels_are_as_far_apart_as_pythagoras_says():
    assert measure_surface(dot(2, 3), dot(5, 7), 2.0) == pytest.approx((5.0, 5.0, 5.0, 5.0, 0.0))


def test_spacing_turns_rows_and_columns_into_millimetres():
    far = np.hypot(3, 2)
    assert measure_surface(dot(2, 3), dot(5, 7), 4.0, (1.0, 0.5)) == pytest.approx((far, far, far, far, 1.0))


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
    assert scores.asd == pytest.approx(sum(there) / 20)
    assert scores.assd == pytest.approx((sum(there) + sum(back)) / 40)
    assert scores.nsd == pytest.approx(38 / 40)


def test_two_empty_masks_are_at_distance_zero_and_agree():
    assert measure_surface(EMPTY, EMPTY, 2.0) == (0.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("pair", [(EMPTY, dot(1, 1)), (dot(1, 1), EMPTY)], ids=["no pred", "no target"])
def test_one_empty_mask_is_the_diagonal_of_the_image_away_and_disagrees_whatever_the_tolerance(pair):
    assert measure_surface(*pair, 1e9) == (50.0, 50.0, 50.0, 50.0, 0.0)
    assert measure_surface(*pair, 1e9, (2.0, 2.0)) == (100.0, 100.0, 100.0, 100.0, 0.0)


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
    for found, is_symmetric in ((scores.asd, False), (scores.assd, True)):
        mean = compute_average_surface_distance(*tensors, symmetric=is_symmetric, spacing=spacing).item()
        assert found == pytest.approx(mean, rel=1e-5)
    share = compute_surface_dice(*tensors, tolerance, spacing=spacing).item()
    assert scores.nsd == pytest.approx(share, rel=1e-5)


def test_hausdorff_agrees_with_scipy():
    pred, target = blob(20, 30), blob(30, 35, 12)
    edges = [np.argwhere(find_boundary(mask)) for mask in (pred, target)]
    expected = max(directed_hausdorff(*edges)[0], directed_hausdorff(*edges[::-1])[0])
    assert measure_surface(pred, target, 2.0).hd == pytest.approx(expected)


def test_surface_distances_are_those_to_the_nearest_point_of_a_search_tree():
    pred, target = blob(20, 30), blob(30, 35, 12)
    points = [np.argwhere(find_boundary(mask)) * (0.3, 0.2) for mask in (pred, target)]
    there, back = surface_distances(pred, target, (0.3, 0.2))
    np.testing.assert_allclose(there, cKDTree(points[1]).query(points[0])[0])
    np.testing.assert_allclose(back, cKDTree(points[0]).query(points[1])[0])


def test_the_larger_directed_percentile_sees_what_the_pooled_one_hides():
    # Of two parts the smaller is missed: 8 of 104 boundary pixels of the target, and 8 of 200 of both masks.
    target = np.zeros((60, 200), bool)
    target[10:30, 10:40] = True
    pred = target.copy()
    target[50:52, 180:184] = True
    there, back = surface_distances(pred, target)
    assert there.max() == 0
    scores = measure_surface(pred, target, 2.0)
    assert scores.hd95 == pytest.approx(np.percentile(back, 95))
    assert scores.hd95 > 100
    assert np.percentile(np.concatenate([there, back]), 95) == 0


def test_boundary_iou_has_the_value_computed_by_hand():
    # A block of 10 by 10 and one that is a column further, in an image whose diagonal is 50: bands of one px.
    pred, target = EMPTY.copy(), EMPTY.copy()
    pred[5:15, 5:15] = True
    target[5:15, 6:16] = True
    # Frames of 36 px share two rows of 9 px; pred's right column is in no frame of target's, and so on.
    assert boundary_iou(pred, target) == pytest.approx(18 / (36 + 36 - 18))


@pytest.mark.parametrize("seed", range(4))
def test_boundary_iou_is_that_of_masks_less_what_repeated_erosion_leaves(seed):
    rng = np.random.default_rng(seed)
    pred, target = (blob(*rng.uniform(0, 60, 2), radius=rng.uniform(6, 25)) for _ in range(2))
    kernel, bands = np.ones((3, 3), np.uint8), []
    for mask in (pred, target):
        eroded = cv2.erode(np.pad(mask.view(np.uint8), 1), kernel, iterations=3)[1:-1, 1:-1]
        bands.append(mask & (eroded == 0))
    expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
    assert boundary_iou(pred, target, 3 / np.hypot(60, 70)) == pytest.approx(expected)


def test_boundary_iou_of_thin_masks_is_the_iou():
    pred, target = blob(20, 30, 4), blob(21, 33, 4)
    assert boundary_iou(pred, target, 0.5) == iou(pred, target)


def test_boundary_iou_of_empty_masks_is_one_if_both_are_and_else_zero():
    assert boundary_iou(EMPTY, EMPTY) == 1.0
    assert boundary_iou(EMPTY, dot(1, 1)) == boundary_iou(dot(1, 1), EMPTY) == 0.0


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
        surface_distances(EMPTY, blob(20, 20))


def test_a_spacing_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="two positive sizes"):
        surface_distances(EMPTY, EMPTY, (0.0, 0.1))


def test_distances_are_transformed_around_the_lesion_only(monkeypatch):
    transform, shapes = ndimage.distance_transform_edt, []

    def record(mask, sampling):
        shapes.append(mask.shape)
        return transform(mask, sampling=sampling)

    monkeypatch.setattr(ndimage, "distance_transform_edt", record)
    pred, target = blob(500, 500, shape=(2000, 2000)), blob(504, 500, shape=(2000, 2000))
    measure_surface(pred, target, 2.0)
    assert len(shapes) == 2
    assert all(max(shape) < 40 for shape in shapes)
