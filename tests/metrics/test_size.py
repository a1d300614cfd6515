import numpy as np
import pytest
from skimage.draw import disk
from skimage.measure import perimeter_crofton

from usrl.errors import UserError
from usrl.metrics.size import measure_area, measure_perimeter


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
