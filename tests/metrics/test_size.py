import numpy as np
import pytest
from skimage.draw import disk
from skimage.measure import perimeter_crofton

from usrl.data.sets.hc18 import Ellipse
from usrl.errors import UserError
from usrl.metrics.size import (
    fit_mask,
    measure_area,
    measure_axes,
    measure_circumference,
    measure_perimeter,
    relative_area_error,
)


@pytest.fixture
def circle():
    mask = np.zeros((200, 200), bool)
    mask[disk((100, 100), 60)] = True
    return mask


def test_area_counts_pixels_or_millimetres():
    mask = np.ones((4, 5), bool)
    assert measure_area(mask) == 20
    assert measure_area(mask, (0.5, 0.2)) == pytest.approx(2.0)


@pytest.mark.parametrize("seed", range(3))
def test_perimeter_of_square_pixels_is_scikit_images(seed):
    mask = np.random.default_rng(seed).random((30, 40)) < 0.5
    assert measure_perimeter(mask) == pytest.approx(perimeter_crofton(mask, directions=4))


def test_perimeter_of_a_circle_is_that_of_the_formula(circle):
    assert measure_perimeter(circle) == pytest.approx(2 * np.pi * 60, rel=0.01)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_perimeter_in_millimetres_does_not_depend_on_how_a_circle_was_sampled(circle, step):
    assert measure_perimeter(circle[::step], (0.2 * step, 0.2)) == pytest.approx(2 * np.pi * 12, rel=0.02)
    assert measure_perimeter(circle[:, ::step], (0.2, 0.2 * step)) == pytest.approx(2 * np.pi * 12, rel=0.02)


def test_holes_add_to_the_perimeter(circle):
    with_hole = circle.copy()
    with_hole[disk((100, 100), 20)] = False
    assert measure_perimeter(with_hole) == pytest.approx(2 * np.pi * 80, rel=0.02)


def test_a_mask_at_the_border_is_closed_along_it(circle):
    assert measure_perimeter(circle[100:]) > np.pi * 60 + 100


def test_an_empty_mask_has_no_size():
    assert measure_area(np.zeros((3, 3), bool)) == measure_perimeter(np.zeros((3, 3), bool)) == 0.0


def test_a_spacing_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="two positive sizes"):
        measure_perimeter(np.ones((3, 3), bool), (0.0, 1.0))


def test_the_axes_of_a_rectangle_are_its_diagonal_and_the_line_across_it():
    mask = np.zeros((30, 60), bool)
    mask[10:20, 10:50] = True
    axes = measure_axes(mask)
    assert axes.long == pytest.approx(np.hypot(40, 10))
    assert axes.short == pytest.approx(10 / np.cos(np.arctan2(10, 40)))
    assert np.hypot(*np.subtract(*axes.long_ends)) == pytest.approx(axes.long)
    assert np.hypot(*np.subtract(*axes.short_ends)) == pytest.approx(axes.short)
    assert {end[1] for end in axes.short_ends} == {9.5, 19.5}
    assert np.dot(np.subtract(*axes.long_ends), np.subtract(*axes.short_ends)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("degrees", [0, 30, 75, 120])
def test_the_axes_of_an_ellipse_are_its_own_however_it_is_turned(degrees):
    rows, columns = np.mgrid[:200, :200] - 100.0
    angle = np.deg2rad(degrees)
    along, across = (
        columns * np.cos(angle) + rows * np.sin(angle),
        rows * np.cos(angle) - columns * np.sin(angle),
    )
    axes = measure_axes((along / 80) ** 2 + (across / 30) ** 2 <= 1)
    assert axes.long == pytest.approx(160, abs=2)
    assert axes.short == pytest.approx(60, abs=2)


def test_axes_in_millimetres_are_at_right_angles_in_millimetres(circle):
    assert measure_axes(circle, (0.5, 0.5)).long == pytest.approx(60, abs=1)
    axes = measure_axes(circle, (0.2, 0.1))  # twice as high as wide
    assert (axes.long, axes.short) == (pytest.approx(24, abs=0.5), pytest.approx(12, abs=0.5))
    ends = [np.subtract(*ends) * (0.1, 0.2) for ends in (axes.long_ends, axes.short_ends)]
    assert np.dot(*ends) == pytest.approx(0, abs=1e-6)


def test_the_axes_of_a_pixel_are_its_diagonals_and_nothing_has_none():
    mask = np.zeros((5, 5), bool)
    assert measure_axes(mask) is None
    mask[2, 2] = True
    axes = measure_axes(mask)
    assert (axes.long, axes.short) == (pytest.approx(2**0.5), pytest.approx(2**0.5))


def test_relative_area_error_has_the_values_computed_by_hand():
    target, empty = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    target[:10, :10] = True
    larger, smaller = target.copy(), target.copy()
    larger[10:15, :10] = True
    smaller[8:] = False
    assert relative_area_error(larger, target) == 0.5
    assert relative_area_error(smaller, target) == pytest.approx(0.2)
    assert relative_area_error(empty, target) == 1.0
    assert relative_area_error(empty, empty) == 0.0
    assert relative_area_error(target, empty) == np.inf


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.3])
def test_circumference_of_an_ellipse_is_that_of_the_formula(angle):
    drawn = Ellipse((110.3, 95.6), (80.0, 55.0), angle)
    mask = drawn.fill((200, 220))
    assert measure_circumference(mask) == pytest.approx(drawn.circumference, rel=0.002)
    assert measure_circumference(mask, 0.1) == pytest.approx(measure_circumference(mask) / 10)


def test_circumference_of_a_head_that_the_border_cuts_is_that_of_the_whole_ellipse():
    drawn = Ellipse((100.0, 75.0), (90.0, 80.0), 0.0)
    assert measure_circumference(drawn.fill((140, 200))) == pytest.approx(drawn.circumference, rel=0.005)


def test_circumference_is_of_the_largest_region_without_its_holes():
    drawn = Ellipse((100.0, 100.0), (70.0, 60.0), 0.0)
    mask = drawn.fill((200, 200))
    mask[95:105, 95:105] = False
    mask[2:8, 2:8] = True
    assert measure_circumference(mask) == pytest.approx(drawn.circumference, rel=0.002)


def test_a_mask_that_no_ellipse_fits_has_a_circumference_of_zero():
    line = np.zeros((30, 40), bool)
    for mask in (line.copy(), line):
        assert fit_mask(mask) is None
        assert measure_circumference(mask) == 0.0
        line[10, 5:25] = True
