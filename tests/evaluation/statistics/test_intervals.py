import numpy as np
import pytest
from scipy import stats

from usrl.errors import UserError
from usrl.evaluation.statistics.intervals import (
    adjust_holm,
    bootstrap_iqm,
    bootstrap_mean,
    interquartile_mean,
    mean_by_group,
    paired_wilcoxon,
)


def test_bootstrap_interval_of_single_cases_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(0.7, 0.1, 400)
    interval = bootstrap_mean(values, [str(i) for i in range(400)])
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.0007)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.0007)


def test_ten_copies_of_each_patient_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(0.7, 0.1, 50)
    groups = [str(i) for i in range(50)]
    once = bootstrap_mean(values, groups, seed=1)
    copied = bootstrap_mean(np.repeat(values, 10), list(np.repeat(groups, 10)), seed=1)
    assert copied == pytest.approx(once)
    ignorant = bootstrap_mean(np.repeat(values, 10), [str(i) for i in range(500)], seed=1)
    assert ignorant.high - ignorant.low < 0.5 * (once.high - once.low)


def test_mean_weighs_cases_not_groups():
    assert bootstrap_mean([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"]).mean == 0.75


def test_bootstrap_of_two_groups_takes_the_three_values_that_can_be_drawn():
    interval = bootstrap_mean([0.0, 1.0], ["a", "b"])
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_one_group_has_an_interval_of_no_width():
    assert bootstrap_mean([0.2, 0.4], ["a", "a"]) == pytest.approx((0.3, 0.3, 0.3))


def test_same_seed_gives_the_same_interval():
    values, groups = np.linspace(0, 1, 9), list("abcdefghi")
    assert bootstrap_mean(values, groups, seed=3) == bootstrap_mean(values, groups, seed=3)
    assert bootstrap_mean(values, groups, seed=3) != bootstrap_mean(values, groups, seed=4)


def test_bootstrap_refuses_groups_that_do_not_match():
    with pytest.raises(UserError, match="equally many"):
        bootstrap_mean([0.1, 0.2], ["a"])


def test_mean_by_group_is_in_order_of_names():
    np.testing.assert_allclose(mean_by_group([1.0, 2.0, 4.0], ["b", "a", "b"]), [2.0, 2.5])


def test_wilcoxon_of_six_gains_is_two_in_two_to_the_sixth():
    first = np.array([0.6, 0.7, 0.8, 0.5, 0.9, 0.4])
    gains = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    assert paired_wilcoxon(first + gains, first) == pytest.approx(2 / 64)


def test_wilcoxon_agrees_with_scipy_where_nothing_ties():
    first, second = np.random.default_rng(0).random((2, 40))
    assert paired_wilcoxon(first, second) == pytest.approx(stats.wilcoxon(first, second).pvalue)


def test_wilcoxon_of_equal_scores_is_one():
    assert paired_wilcoxon([0.5, 0.6], [0.5, 0.6]) == 1.0


def test_wilcoxon_refuses_other_lengths():
    with pytest.raises(UserError, match="equally many"):
        paired_wilcoxon([0.5], [0.5, 0.6])


def test_holm_gives_the_values_computed_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; the last must not fall.
    assert adjust_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_stays_at_most_one_and_takes_no_tests():
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0]
    assert adjust_holm([]) == []


def test_interquartile_mean_leaves_out_the_outer_quarters():
    assert interquartile_mean([100.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -50.0]) == 4.5
    assert interquartile_mean([1.0, 2.0, 3.0]) == 2.0


def test_iqm_interval_of_one_run_is_that_of_the_trimmed_mean():
    values = np.random.default_rng(0).normal(0.7, 0.1, (1, 400))
    interval = bootstrap_iqm(values, [str(i) for i in range(400)])
    assert interval.mean == pytest.approx(stats.trim_mean(values[0], 0.25))
    # The variance of a mean of a winsorised sample (Tukey and McLaughlin, 1963).
    half = 1.96 * np.asarray(stats.mstats.winsorize(values[0], (0.25, 0.25))).std() / 0.5 / 20
    assert interval.low == pytest.approx(interval.mean - half, abs=0.0015)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.0015)


def test_cases_of_a_run_rise_and_fall_together():
    runs = np.repeat([[0.0], [1.0]], 50, axis=1)
    assert bootstrap_iqm(runs, [str(i) for i in range(50)]) == (0.5, 0.0, 1.0)


def test_copies_of_a_patients_cases_do_not_narrow_the_iqm():
    scores = np.random.default_rng(0).normal(0.7, 0.1, (3, 20))
    groups = [str(i) for i in range(20)]
    once = bootstrap_iqm(scores, groups)
    copied = bootstrap_iqm(np.repeat(scores, 4, axis=1), list(np.repeat(groups, 4)))
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.1)


def test_a_constant_gain_is_sure_however_much_runs_and_cases_vary():
    scores, groups = np.random.default_rng(0).random((3, 20)), [str(i) for i in range(20)]
    assert bootstrap_iqm(scores + 0.01, groups, minus=scores) == pytest.approx((0.01, 0.01, 0.01))
    alone = bootstrap_iqm(scores, groups)
    assert alone.high - alone.low > 0.1


def test_iqm_refuses_what_is_not_paired():
    with pytest.raises(UserError, match="a row per run and a column per case"):
        bootstrap_iqm([[0.1, 0.2]], ["a"])
    with pytest.raises(UserError, match="equally many runs, got 1 and 2"):
        bootstrap_iqm([[0.1]], ["a"], minus=[[0.1], [0.2]])
