import numpy as np
import pytest

from usrl.errors import UserError
from usrl.metrics.uncertainty import measure_softness, measure_spread, vote


def row(*values: int) -> np.ndarray:
    return np.array([values], bool)


def test_half_of_the_masks_carry_a_pixel():
    masks = [row(1, 1, 1, 0), row(1, 1, 0, 0), row(1, 0, 0, 0), row(1, 0, 0, 1)]
    assert vote(masks).tolist() == [[True, True, False, False]]
    assert vote(masks[:3]).tolist() == [[True, True, False, False]]
    assert vote(masks[:1]).tolist() == masks[0].tolist()


def test_spread_is_one_minus_the_mean_dice_with_the_united_mask():
    united = row(1, 1, 0, 0)
    assert measure_spread([united, united], united) == 0
    # Dice 1 and 2 / 3, by hand.
    assert measure_spread([united, row(1, 0, 0, 0)], united) == pytest.approx(1 - (1 + 2 / 3) / 2)


def test_softness_is_one_minus_the_soft_dice():
    probability = np.array([[0.9, 0.8, 0.1, 0.0]], np.float32)
    assert measure_softness(probability, probability > 0.5) == pytest.approx(1 - 2 * 1.7 / (1.8 + 2))
    sure = np.array([[1, 1, 0, 0]], np.float32)
    assert measure_softness(sure, sure > 0.5) == 0


def test_what_finds_nothing_is_wholly_uncertain():
    empty = row(0, 0, 0)
    assert measure_spread([empty, empty], empty) == 1
    assert measure_softness(np.zeros((1, 3), np.float32), empty) == 1


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="same shape"):
        measure_softness(np.ones((2, 2), np.float32), row(1, 1))
