"""Regions that boxes cut out of images, and masks that go back."""

import numpy as np
import pytest

from usrl.geometry.regions import cut_region, grow_box, place_mask


def test_a_box_of_whole_pixels_is_cut_out_exactly() -> None:
    image = np.random.default_rng(0).integers(1, 256, (60, 80), np.uint8)
    region = cut_region(image, (9.5, 19.5, 41.5, 51.5), 0.0, 32, is_ellipse=False)
    assert region.box == (9.5, 19.5, 41.5, 51.5)
    np.testing.assert_array_equal(region.image, image[20:52, 10:42])
    assert region.support.all()


def test_a_region_ends_where_the_image_or_its_black_border_begins() -> None:
    image = np.zeros((64, 64), np.uint8)
    image[16:48] = 90  # a letterboxed image twice as wide as high
    region = cut_region(image, (40.0, 10.0, 70.0, 40.0), 0.1, 36, is_ellipse=False)
    assert region.box == (37.0, 15.5, 63.5, 43.0)
    assert (region.image == 90).all()


def test_the_whole_image_is_its_content() -> None:
    image = np.zeros((40, 40), np.uint8)
    image[10:30, 4:36] = 50
    assert cut_region(image, None, 0.3, 36, is_ellipse=False).box == (3.5, 9.5, 35.5, 29.5)
    assert cut_region(np.zeros_like(image), None, 0.0, 36, is_ellipse=False).box == (-0.5, -0.5, 39.5, 39.5)


def test_the_ellipse_is_that_of_the_grown_box_even_where_the_image_cuts_it() -> None:
    image = np.full((100, 100), 9, np.uint8)
    inner = cut_region(image, (20.0, 20.0, 80.0, 80.0), 0.1, 100, is_ellipse=True)
    assert inner.support.mean() == pytest.approx(np.pi / 4, abs=0.01)
    edge = cut_region(image, (-0.5, 20.0, 59.5, 80.0), 0.5, 100, is_ellipse=True)
    assert edge.support[:, 0].sum() > edge.support[:, -1].sum()


def test_a_mask_comes_back_where_it_was_cut() -> None:
    rows, columns = np.ogrid[:120, :160]
    mask = ((rows - 60) / 20) ** 2 + ((columns - 70) / 31) ** 2 <= 1
    image = np.full(mask.shape, 9, np.uint8)
    region = cut_region(image, (30.3, 35.1, 108.8, 88.2), 0.1, 64, is_ellipse=False)
    back = place_mask(region.cut_mask(mask), region.box, (120, 160))
    assert (back ^ mask).sum() < 0.02 * mask.sum()
    assert region.area_outside(mask) == 0


def test_what_a_region_leaves_out_is_counted_in_its_own_pixels() -> None:
    mask = np.zeros((50, 50), bool)
    mask[10:30, 10:30] = True
    region = cut_region(np.full(mask.shape, 9, np.uint8), (9.5, 9.5, 19.5, 29.5), 0.0, 40, is_ellipse=False)
    assert region.cut_mask(mask).sum() == pytest.approx(1600, abs=4)  # two corners are rounded
    assert region.area_outside(mask) == pytest.approx(1600)


def test_a_box_outside_or_of_no_width_still_gives_a_region() -> None:
    image = np.full((40, 40), 9, np.uint8)
    for box in ((100.0, 100.0, 120.0, 120.0), (5.0, 5.0, 5.1, 30.0)):
        x0, y0, x1, y1 = cut_region(image, box, 0.0, 36, is_ellipse=True).box
        assert 0 < x1 - x0
        assert 0 < y1 - y0


def test_a_region_beside_the_ellipse_of_its_box_may_hold_the_object_anywhere() -> None:
    image = np.zeros((60, 60), np.uint8)
    image[30:, 30:] = 9
    for box in ((0.0, 0.0, 20.0, 20.0), (0.0, 0.0, 32.0, 32.0)):  # off the content, or touching its corner
        assert cut_region(image, box, 0.0, 36, is_ellipse=True).support.all()


def test_a_grown_box_moves_each_side_by_its_share() -> None:
    assert grow_box((0.0, 10.0, 20.0, 50.0), 0.1) == (-2.0, 6.0, 22.0, 54.0)
