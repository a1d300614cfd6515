from itertools import permutations

import numpy as np
import pytest

from usrl.errors import UserError
from usrl.evaluation.statistics.intervals import perfect_order, risk_coverage

DICE = [1.0, 0.0, 0.5]


def test_risk_is_the_running_mean_in_order_of_uncertainty():
    curve = risk_coverage([0.1, 0.9, 0.4], DICE)
    assert curve.coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert curve.risk.tolist() == pytest.approx([0, 0.25, 0.5])
    assert curve.area == pytest.approx(0.25)


def test_the_wrong_order_has_the_largest_area():
    assert risk_coverage([3, 1, 2], DICE).area == pytest.approx((1 + 0.75 + 0.5) / 3)


def test_the_perfect_order_is_the_best_of_all():
    areas = [risk_coverage(order, DICE).area for order in permutations(range(3))]
    assert perfect_order(DICE).area == min(areas) == pytest.approx(0.25)


def test_equal_uncertainties_count_as_random_orders_do_on_average():
    areas = [risk_coverage(order, DICE).area for order in permutations(range(3))]
    curve = risk_coverage([0.2, 0.2, 0.2], DICE)
    assert curve.area == pytest.approx(np.mean(areas)) == pytest.approx(0.5)
    assert risk_coverage([0.2, 0.2, 0.1], DICE).risk.tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert risk_coverage([0.1, 0.2, 0.2], DICE).risk.tolist() == pytest.approx([0, 0.375, 0.5])


def test_a_curve_wants_an_uncertainty_for_each_case():
    for uncertainty, dice in (([], []), ([0.1], DICE)):
        with pytest.raises(UserError, match="an uncertainty for each Dice"):
            risk_coverage(uncertainty, dice)
