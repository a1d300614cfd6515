"""Grades against values worked out by hand."""

import numpy as np
import pytest

from usrl.errors import UserError
from usrl.metrics.grading import area_under_roc, quadratic_kappa


def test_the_area_under_roc_counts_pairs_in_the_right_order() -> None:
    scores, positive = [0.1, 0.4, 0.35, 0.8], [False, False, True, True]
    # Pairs of a positive and a negative: .35 > .1, .35 < .4, .8 > .1, .8 > .4.
    assert area_under_roc(scores, positive) == 0.75
    assert area_under_roc([-score for score in scores], positive) == 0.25


def test_equal_scores_count_half() -> None:
    assert area_under_roc([1, 1, 1, 1], [True, False, True, False]) == 0.5
    assert area_under_roc([0, 1, 1, 2], [False, False, True, True]) == pytest.approx(3.5 / 4)


def test_the_area_under_roc_is_the_share_of_pairs_of_any_scores() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 9, 60), rng.random(60) < 0.4
    ahead = scores[positive][:, None] - scores[~positive]
    assert area_under_roc(scores, positive) == pytest.approx(((ahead > 0) + 0.5 * (ahead == 0)).mean())


@pytest.mark.parametrize("positive", [[True, True], [False, False], [True]])
def test_cases_of_one_kind_have_no_roc_curve(positive: list[bool]) -> None:
    with pytest.raises(UserError, match=r"cases of both kinds|a score is wanted for each case"):
        area_under_roc([0.1, 0.2], positive)


def test_kappa_is_one_for_equal_grades_and_falls_with_the_square_of_the_distance() -> None:
    grades = [0, 1, 2, 3]
    assert quadratic_kappa(grades, grades) == 1
    # Observed: 1 of 4 cases is one off, 0.25. Expected: mean over all pairs of (0, 1, 2, 3) and (0, 1, 2, 2).
    near, expected = [0, 1, 2, 2], np.square(np.subtract.outer(grades, [0, 1, 2, 2])).mean()
    assert quadratic_kappa(grades, near) == pytest.approx(1 - 0.25 / expected)
    assert quadratic_kappa(grades, near) > quadratic_kappa(grades, [0, 1, 2, 0])
    assert quadratic_kappa(grades, grades[::-1]) == pytest.approx(-1)


def test_kappa_is_that_of_the_table_of_both_gradings() -> None:
    rng = np.random.default_rng(1)
    one = rng.integers(0, 4, 80)
    other = np.clip(one + rng.integers(-1, 2, 80), 0, 3)
    table = np.zeros((4, 4))
    np.add.at(table, (one, other), 1 / 80)
    weights = np.square(np.subtract.outer(np.arange(4), np.arange(4)))
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0))
    wanted = 1 - (weights * table).sum() / (weights * by_chance).sum()
    assert quadratic_kappa(one, other) == pytest.approx(wanted)


def test_gradings_that_do_not_vary_agree_or_not() -> None:
    assert quadratic_kappa([2, 2], [2, 2]) == 1
    assert quadratic_kappa([2, 2], [1, 1]) == 0
    with pytest.raises(UserError, match="two grades are wanted for each case"):
        quadratic_kappa([], [])
