import numpy as np
import pytest

from usrl.errors import UserError
from usrl.metrics.detection import detection_rate

EMPTY = np.zeros((20, 40), bool)
TWO = EMPTY.copy()
TWO[2:8, 2:8] = TWO[10:16, 20:30] = True


def test_a_lesion_is_found_by_a_region_with_an_iou_above_one_half():
    pred = EMPTY.copy()
    pred[2:8, 2:5] = True  # half of the first lesion: an IoU of one half is not enough
    pred[10:16, 20:26] = True  # six tenths of the second
    assert detection_rate(pred, TWO) == 0.5
    pred[2, 5] = True
    assert detection_rate(pred, TWO) == 1.0


def test_a_region_over_everything_finds_nothing():
    assert detection_rate(~EMPTY, TWO) == 0.0


def test_background_finds_nothing_however_much_of_a_lesion_it_covers():
    pred = EMPTY.copy()
    pred[0, 0] = True
    assert detection_rate(pred, ~TWO) == 0.0


def test_parts_of_a_lesion_do_not_find_it_together():
    pred = TWO.copy()
    pred[:, 25] = False
    pred[:, 24] = False
    assert detection_rate(pred, TWO) == 0.5


def test_regions_beside_the_lesions_change_nothing():
    pred = TWO.copy()
    pred[18, 1:4] = True
    assert detection_rate(pred, TWO) == 1.0


def test_empty_masks_agree_if_both_are_empty():
    assert detection_rate(EMPTY, EMPTY) == 1.0
    assert detection_rate(EMPTY, TWO) == detection_rate(TWO, EMPTY) == 0.0


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match="same shape"):
        detection_rate(EMPTY, EMPTY[1:])
