import numpy as np
import pytest
from scipy import stats

from usrl.errors import UserError
from usrl.evaluation.statistics.effects import (
    bootstrap_difference,
    performance_profile,
    probability_of_improvement,
    rank_biserial,
    rank_methods,
)


def names(count: int) -> list[str]:
    return [str(place) for place in range(count)]


def test_rank_biserial_has_the_value_computed_by_hand():
    # Differences 1, -2, 3, 4, 0: ranks 1, 2, 3, 4 of which 8 are for and 2 against, of 10.
    assert rank_biserial([1, 0, 3, 4, 5], [0, 2, 0, 0, 5]) == pytest.approx(0.6)
    assert rank_biserial([0, 2, 0, 0, 5], [1, 0, 3, 4, 5]) == pytest.approx(-0.6)


def test_rank_biserial_is_one_if_every_pair_gains_and_zero_if_all_are_equal():
    assert rank_biserial([0.2, 0.9], [0.1, 0.3]) == 1.0
    assert rank_biserial([0.2, 0.9], [0.2, 0.9]) == 0.0


def test_rank_biserial_follows_from_the_statistic_of_wilcoxon():
    first, second = np.random.default_rng(0).random((2, 30))
    least = stats.wilcoxon(first, second).statistic
    assert abs(rank_biserial(first, second)) == pytest.approx(1 - 2 * least / (30 * 31 / 2))


def test_rank_biserial_refuses_other_lengths():
    with pytest.raises(UserError, match="equally many"):
        rank_biserial([1.0], [1.0, 2.0])


def test_ranks_have_the_values_computed_by_hand():
    # The order is a, b, c in four blocks of five and b, a, c in the last.
    scores = {"c": [0.1] * 5, "a": [0.9, 0.9, 0.9, 0.9, 0.5], "b": [0.6] * 5}
    ranks = rank_methods(scores)
    assert list(ranks.mean_ranks) == ["a", "b", "c"]
    assert ranks.mean_ranks == pytest.approx({"a": 1.2, "b": 1.8, "c": 3.0})
    # 12 n / (k (k + 1)) times the sum of squares of the mean ranks less 2: 5 (0.64 + 0.04 + 1).
    assert ranks.statistic == pytest.approx(5 * 1.68)
    assert ranks.p == pytest.approx(np.exp(-5 * 1.68 / 2))  # chi-squared of two degrees of freedom
    # Demsar (2006), table 5: 2.343 for three methods.
    assert ranks.critical_difference == pytest.approx(2.343 * np.sqrt(12 / 30), abs=1e-3)


@pytest.mark.parametrize(("count", "value"), [(3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_the_published_table(count, value):
    rng = np.random.default_rng(0)
    ranks = rank_methods({str(place): rng.random(20) for place in range(count)})
    assert ranks.critical_difference == pytest.approx(value * np.sqrt(count * (count + 1) / 120), abs=1e-3)


def test_methods_that_do_not_differ_form_a_clique_and_others_none():
    rng = np.random.default_rng(0)
    base = rng.random(40)
    scores = {"best": base + 1, "same": base + rng.normal(0, 0.01, 40), "base": base, "last": base - 1}
    ranks = rank_methods(scores)
    assert tuple(ranks.mean_ranks)[::3] == ("best", "last")
    assert [set(clique) for clique in ranks.cliques] == [{"same", "base"}]


def test_cliques_may_overlap_where_neighbours_do_not_differ_and_ends_do():
    # A step of 1.85 standard errors has a p-value of 0.064, and two independent ones have 0.009.
    step = stats.norm.ppf((np.arange(200) + 0.5) / 200) + 1.85 / np.sqrt(200)
    other = np.random.default_rng(0).permutation(step)
    scores = {"a": 0 * step, "b": step, "c": step + other}
    ranks = rank_methods(scores)
    assert [set(clique) for clique in ranks.cliques] == [{"b", "c"}, {"a", "b"}]


def test_methods_that_always_tie_do_not_differ():
    ranks = rank_methods({name: [0.5, 0.7] for name in "abc"})
    assert (ranks.statistic, ranks.p) == (0.0, 1.0)
    assert set(ranks.mean_ranks.values()) == {2.0}
    assert [len(clique) for clique in ranks.cliques] == [3]


def test_friedmans_test_is_scipys_with_ties():
    scores = np.random.default_rng(0).integers(0, 4, (4, 25)).astype(float)
    ranks = rank_methods(dict(zip("abcd", scores, strict=True)))
    expected = stats.friedmanchisquare(*scores)
    assert (ranks.statistic, ranks.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_ranks_want_three_methods_on_the_same_blocks():
    for scores in (
        {"a": [1, 2], "b": [2, 1]},
        {"a": [1], "b": [1], "c": [1]},
        {"a": [1, 2], "b": [1], "c": [1]},
    ):
        with pytest.raises(UserError, match="three methods or more on the same two blocks"):
            rank_methods(scores)


def test_a_profile_is_the_share_of_runs_and_cases_above_each_threshold():
    profile = performance_profile([[0.2, 0.8], [0.4, 0.8]], ["a", "b"], [0.0, 0.2, 0.5, 0.8])
    assert profile.share.tolist() == [1.0, 0.75, 0.5, 0.0]
    assert (profile.low <= profile.share).all()
    assert (profile.share <= profile.high).all()
    # Both of two groups of cases may be drawn twice.
    assert (profile.low[2], profile.high[2]) == (0.0, 1.0)


def test_the_band_of_a_profile_is_that_of_a_share():
    scores = np.random.default_rng(0).random((1, 400))
    profile = performance_profile(scores, names(400), [0.5])
    half = 1.96 * np.sqrt(profile.share[0] * (1 - profile.share[0]) / 400)
    assert profile.high[0] - profile.low[0] == pytest.approx(2 * half, rel=0.15)


def test_copies_of_a_patients_cases_do_not_narrow_a_profile():
    scores = np.random.default_rng(0).random((1, 40))
    once = performance_profile(scores, names(40), [0.5])
    copied = performance_profile(np.repeat(scores, 5, axis=1), list(np.repeat(names(40), 5)), [0.5])
    for part in ("share", "low", "high"):
        np.testing.assert_allclose(getattr(copied, part), getattr(once, part))


def test_probability_of_improvement_has_the_value_computed_by_hand():
    # On the first case 3 of 4 meetings are won and one is a tie; on the second one of 4 is won.
    first, second = [[0.9, 0.1], [0.5, 0.7]], [[0.5, 0.6], [0.4, 0.8]]
    found = probability_of_improvement(first, second, ["a", "b"])
    assert found.mean == pytest.approx((3.5 / 4 + 1 / 4) / 2)
    assert probability_of_improvement(second, first, ["a", "b"]).mean == pytest.approx(1 - found.mean)


def test_improvement_is_sure_if_every_run_is_better_everywhere_and_a_half_if_all_tie():
    scores = np.random.default_rng(0).random((3, 10))
    better = scores.max(axis=0) + np.ones((2, 10))
    assert probability_of_improvement(better, scores, names(10)) == (1.0, 1.0, 1.0)
    assert probability_of_improvement(scores[:1], scores[:1], names(10)) == (0.5, 0.5, 0.5)


def test_improvement_of_one_run_each_is_the_share_of_cases_won():
    first, second = np.random.default_rng(0).random((2, 1, 200))
    found = probability_of_improvement(first, second, names(200))
    share = (first > second).mean()
    assert found.mean == pytest.approx(share)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 200), rel=0.15)


def test_seeds_that_disagree_widen_the_interval_of_improvement():
    level = np.full((1, 50), 0.5)
    runs = np.array([0.4, 0.6])[:, None] * np.ones(50)
    assert probability_of_improvement(runs, level, names(50)) == (0.5, 0.0, 1.0)


def test_a_difference_of_independent_samples_has_the_interval_of_the_normal_law():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.8, 0.1, 400), rng.normal(0.7, 0.2, 100)
    found = bootstrap_difference(first, names(400), second, names(100))
    half = 1.96 * np.sqrt(first.var() / 400 + second.var() / 100)
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.004)


def test_groups_of_equal_names_in_two_samples_are_drawn_apart():
    found = bootstrap_difference([0.0, 1.0], ["a", "b"], [0.0, 1.0], ["a", "b"])
    assert (found.mean, found.low, found.high) == (0.0, -1.0, 1.0)
