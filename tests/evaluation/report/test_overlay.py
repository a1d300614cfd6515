import numpy as np
import pytest

from usrl.errors import UserError
from usrl.evaluation.report.overlay import STYLES, fit_scale, overlay

IMAGE = np.full((40, 60), 100, np.uint8)


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(IMAGE.shape, bool)
    mask[rows, columns] = True
    return mask


def is_gray(picture: np.ndarray) -> np.ndarray:
    return (picture == picture[..., :1]).all(axis=2)


def test_overlay_without_masks_is_the_gray_image():
    picture = overlay(IMAGE, {})
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.repeat(IMAGE[..., None], 3, 2))


def test_outline_colours_the_rim_of_a_mask_and_nothing_else():
    picture = overlay(IMAGE, {"pred": block(slice(10, 30), slice(20, 40))})
    coloured = ~is_gray(picture)
    rows, columns = np.nonzero(coloured)
    assert 8 <= rows.min() <= 10 <= 29 <= rows.max() <= 31
    assert 18 <= columns.min() <= 20 <= 39 <= columns.max() <= 41
    assert not coloured[13:27, 23:37].any()


def test_every_kind_of_outline_has_its_own_colour():
    mask = block(slice(10, 30), slice(20, 40))
    for name, style in STYLES.items():
        picture = overlay(IMAGE, {name: mask}, scale=10)
        assert (picture == style.color).all(axis=2).any()
    assert len({style.color for style in STYLES.values()}) == len(STYLES)


def test_boxes_are_drawn_in_dashes():
    picture = overlay(IMAGE, {}, ((10, 10, 50, 30),), scale=10)
    line = (picture[105] > 200).all(axis=1)[100:500]
    assert 0.2 < line.mean() < 0.8


def test_scale_enlarges_the_picture():
    assert overlay(IMAGE, {}, scale=3).shape == (120, 180, 3)
    assert fit_scale(IMAGE, 480) == 8
    assert fit_scale(IMAGE, 10) == 1


def test_a_mask_at_the_border_is_closed_along_it():
    picture = overlay(IMAGE, {"pred": block(slice(0, 20), slice(0, 20))}, scale=4)
    assert not is_gray(picture)[0, 5:70].any()


def test_an_empty_mask_draws_nothing():
    assert is_gray(overlay(IMAGE, {"pred": np.zeros(IMAGE.shape, bool)})).all()


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(UserError, match=r"\(4, 4\) and \(40, 60\)"):
        overlay(IMAGE, {"pred": np.zeros((4, 4), bool)})
