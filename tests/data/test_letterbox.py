import cv2
import numpy as np
import pytest

from usrl.data.letterbox import Letterbox
from usrl.errors import UserError

SHAPES = [(40, 50), (300, 211), (128, 128), (61, 500), (1, 7), (33, 17)]


def test_fit_of_a_wide_image_pads_above_and_below():
    box = Letterbox.fit((50, 100), 20)
    assert (box.resized_shape, box.top, box.left, box.scale) == ((10, 20), 5, 0, 0.2)


def test_fit_of_a_tall_image_pads_left_and_right():
    box = Letterbox.fit((100, 50), 20)
    assert (box.resized_shape, box.top, box.left) == ((20, 10), 0, 5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [36, 128])
def test_points_come_back_from_the_working_image(shape, size):
    box = Letterbox.fit(shape, size)
    points = np.random.default_rng(0).uniform(0, 30, (5, 4, 2))
    there = box.points_to_working(points)
    back = box.points_to_native(there)
    assert there.dtype == back.dtype == np.float32
    np.testing.assert_allclose(back, points, atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_corners_of_the_image_map_to_corners_of_the_resized_image(shape):
    box = Letterbox.fit(shape, 64)
    corners = np.array([[-0.5, -0.5], [shape[1] - 0.5, shape[0] - 0.5]])
    rows, columns = box.resized_shape
    expected = [[box.left - 0.5, box.top - 0.5], [box.left + columns - 0.5, box.top + rows - 0.5]]
    np.testing.assert_allclose(box.points_to_working(corners), expected, atol=1e-4)


def test_a_known_point_maps_as_computed_by_hand():
    # (100, 50) in a square of 20: both scales 0.2, five columns of padding.
    box = Letterbox.fit((100, 50), 20)
    np.testing.assert_allclose(
        box.points_to_working([[12.0, 7.0]]), [[12.5 * 0.2 - 0.5 + 5, 7.5 * 0.2 - 0.5]]
    )


def test_boxes_move_as_their_corners_do_and_come_back():
    box = Letterbox.fit((100, 50), 20)
    native = [(12.0, 7.0, 22.0, 27.0), (0.0, 0.0, 49.0, 99.0)]
    working = box.boxes_to_working(native)
    np.testing.assert_allclose(working[0], [7.0, 1.0, 9.0, 5.0], atol=1e-6)
    np.testing.assert_allclose(box.boxes_to_native(working), native, atol=1e-4)
    assert box.boxes_to_working(()).shape == (0, 4)


@pytest.mark.parametrize(
    ("shape", "size"), [((203, 331), 64), ((331, 203), 64), ((31, 47), 128), ((47, 31), 90)]
)
def test_points_and_masks_move_together(shape, size):
    mask = np.zeros(shape, np.uint8)
    centre, axes = (shape[1] // 2 + 3, shape[0] // 2 - 2), (shape[1] // 4, shape[0] // 5)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
    box = Letterbox.fit(shape, size)
    y, x = np.nonzero(mask)
    expected = box.points_to_working([x.mean(), y.mean()])
    y, x = np.nonzero(box.target(mask > 0))
    np.testing.assert_allclose([x.mean(), y.mean()], expected, atol=0.15)


def test_a_linear_ramp_is_resized_to_the_values_at_the_mapped_points():
    ramp = np.tile(np.arange(200, dtype=np.uint8), (151, 1))
    box = Letterbox.fit(ramp.shape, 83)
    x = np.arange(5, 78)
    native_x = box.points_to_native(np.stack([x, np.full_like(x, 41)], axis=1))[:, 0]
    np.testing.assert_allclose(box.image(ramp)[41, x], native_x, atol=0.6)


def test_an_image_of_the_working_size_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(Letterbox.fit((64, 64), 64).image(image), image)


def test_an_image_smaller_than_the_working_size_is_enlarged_and_padded_with_zeros():
    working = Letterbox.fit((10, 20), 80).image(np.full((10, 20), 200, np.uint8))
    assert working.shape == (80, 80)
    assert (working[20:60] == 200).all()
    assert not working[:20].any()
    assert not working[60:].any()


def test_to_native_inverts_image_for_smooth_maps():
    y, x = np.mgrid[:90, :120]
    smooth = (127 + 80 * np.sin(x / 25) * np.cos(y / 20)).astype(np.uint8)
    for size in (64, 200):
        box = Letterbox.fit(smooth.shape, size)
        back = box.to_native(box.image(smooth).astype(np.float64))
        assert back.shape == smooth.shape
        assert back.dtype == np.float32
        assert np.abs(back - smooth).max() < 9
        assert np.abs(back - smooth).mean() < 1


def test_area_of_a_mask_scales_with_the_square_of_the_scale():
    y, x = np.mgrid[:300, :300]
    mask = (y - 150) ** 2 + (x - 140) ** 2 < 80**2
    assert Letterbox.fit((300, 300), 100).target(mask).sum() == pytest.approx(mask.sum() / 9, rel=0.01)


def test_an_array_of_another_shape_is_refused():
    box = Letterbox.fit((40, 50), 32)
    with pytest.raises(UserError, match=r"fits arrays of shape \(40, 50\), got \(50, 40\)"):
        box.image(np.zeros((50, 40), np.uint8))
    with pytest.raises(UserError, match=r"fits arrays of shape \(40, 50\), got \(50, 40\)"):
        box.target(np.zeros((50, 40), np.bool_))
    with pytest.raises(UserError, match=r"must be of shape \(32, 32\), got \(40, 50\)"):
        box.to_native(np.zeros((40, 50)))


@pytest.mark.parametrize(("shape", "size"), [((0, 5), 32), ((5, 5), 0)])
def test_empty_shapes_are_refused(shape, size):
    with pytest.raises(UserError, match="at least 1 px"):
        Letterbox.fit(shape, size)
