"""How much and how surely methods differ: effect sizes, ranks of all methods, and figures over several seeds.

Scores of runs of a method are arrays (R, N) of R runs and N cases. Every interval draws whole groups of cases
and, where there are several runs, runs: see `usrl.evaluation.statistics.intervals.bootstrap_iqm`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from usrl.errors import UserError
from usrl.evaluation.statistics.intervals import (
    PERCENTILES,
    Floats,
    Interval,
    adjust_holm,
    check_scores,
    draw_means,
    paired_wilcoxon,
)

_SAMPLES = 500
"""Samples of the bootstrap of a profile or a probability, whose noise is below what a plot shows."""


def rank_biserial(first: ArrayLike, second: ArrayLike) -> float:
    """Return the matched-pairs rank-biserial correlation of paired scores, (n,) each, in [-1, 1].

    It is the share of the rank sum of the differences that favours the first, less the share that favours the
    second: 1 if the first is higher in every pair, 0 if both win alike. Equal pairs are left out; if all are
    equal it is 0. It is the effect size of the Wilcoxon signed-rank test.

    Source:
        Kerby (2014), The simple difference formula, Comprehensive Psychology 3:1, doi:10.2466/11.IT.3.1.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.size == 0:
        raise UserError(f"an effect size needs equally many values, 1 or more, got {one.size} and {two.size}")
    gains = (one - two)[one != two]
    if not gains.size:
        return 0.0
    ranks = stats.rankdata(np.abs(gains))
    return float((ranks * np.sign(gains)).sum() / ranks.sum())


@dataclass(frozen=True)
class Ranks:
    """How methods rank over the same blocks, such as patients.

    Attributes:
        mean_ranks: Mean rank of each method, by name, from the best; 1 is the highest score in every block.
        blocks: Number of blocks.
        statistic: Friedman's chi-squared, corrected for ties.
        p: Its p-value: whether the methods differ at all.
        critical_difference: Nemenyi's: mean ranks that are further apart differ at 5%.
        cliques: Methods that do not differ at 5% by Wilcoxon tests adjusted by Holm's method, as groups of
            neighbours in the order of ranks; each has two names or more.
    """

    mean_ranks: Mapping[str, float]
    blocks: int
    statistic: float
    p: float
    critical_difference: float
    cliques: Sequence[Sequence[str]]


def rank_methods(scores: Mapping[str, ArrayLike]) -> Ranks:
    """Rank methods by their scores on the same blocks, (n,) each, higher is better.

    Nemenyi's verdict on two methods depends on the mean ranks of the others. So the groups of methods that do
    not differ are found by Wilcoxon signed-rank tests of each pair, as Benavoli et al. advise. Nemenyi's
    critical difference is given too.

    Raises:
        UserError: If there are fewer than three methods or two blocks, or the blocks differ in number.

    Source:
        Friedman (1937), J Am Stat Assoc 32(200):675-701; Demsar (2006), J Mach Learn Res 7:1-30, for critical
        difference and diagram; Benavoli, Corani and Mangili (2016), J Mach Learn Res 17(5):1-10.
    """
    names, columns = list(scores), [np.asarray(values, np.float64) for values in scores.values()]
    sizes = {column.shape for column in columns}
    if len(names) < 3 or len(sizes) > 1 or columns[0].ndim != 1 or columns[0].size < 2:
        told = ", ".join(str(column.shape) for column in columns)
        raise UserError(f"ranks want three methods or more on the same two blocks or more, got {told}")
    table = np.stack(columns, axis=1)  # (blocks, methods)
    blocks, count = table.shape
    ranks = stats.rankdata(-table, axis=1)
    means = dict(sorted(zip(names, ranks.mean(axis=0).tolist(), strict=True), key=lambda item: item[1]))
    is_tied = bool((table == table[:, :1]).all())  # SciPy divides by zero then
    found = (0.0, 1.0) if is_tied else stats.friedmanchisquare(*columns)
    # The studentized range over the root of two is tabulated for infinite degrees of freedom.
    critical = stats.studentized_range.ppf(0.95, count, np.inf) / np.sqrt(2)
    return Ranks(
        mean_ranks=means,
        blocks=blocks,
        statistic=float(found[0]),
        p=float(found[1]),
        critical_difference=float(critical * np.sqrt(count * (count + 1) / (6 * blocks))),
        cliques=_find_cliques(list(means), dict(zip(names, columns, strict=True))),
    )


def _find_cliques(order: Sequence[str], scores: Mapping[str, Floats]) -> list[list[str]]:
    """Return the longest runs of neighbours in an order in which no pair differs."""
    pairs = list(combinations(order, 2))
    p_values = adjust_holm([paired_wilcoxon(scores[first], scores[second]) for first, second in pairs])
    differ = {pair for pair, p in zip(pairs, p_values, strict=True) if p < 0.05}
    cliques: list[list[str]] = []
    for start in range(len(order)):
        end = start
        while end + 1 < len(order) and not any(
            (name, order[end + 1]) in differ for name in order[start : end + 1]
        ):
            end += 1
        clique = list(order[start : end + 1])
        if len(clique) > 1 and not (cliques and set(clique) <= set(cliques[-1])):
            cliques.append(clique)
    return cliques


@dataclass(frozen=True)
class Profile:
    """A performance profile: the share of scores above each threshold, with the ends of its 95% band."""

    thresholds: Floats  # (T,)
    share: Floats  # (T,)
    low: Floats  # (T,)
    high: Floats  # (T,)


def performance_profile(
    scores: ArrayLike, groups: Sequence[str], thresholds: ArrayLike, *, seed: int = 0
) -> Profile:
    """Return the share of all runs and cases whose score is above each threshold.

    Args:
        scores: One score per run and case, (R, N).
        groups: The group of each case, N names.
        thresholds: (T,).
        seed: Seed of the resampling.

    Source:
        Agarwal et al. (2021), NeurIPS, arXiv:2108.13264: the score distribution of section 4.2; their band is
        pointwise too.
    """
    own, limits = check_scores(scores, groups), np.asarray(thresholds, np.float64)
    above = own[:, :, None] > limits  # (R, N, T)

    def measure(rows: NDArray[np.int64], cases: NDArray[np.int64]) -> Floats:
        counts = np.bincount(cases, minlength=own.shape[1])
        return np.asarray(np.einsum("n,rnt->t", counts, above[rows]) / (len(rows) * len(cases)), np.float64)

    share, low, high = _resample(measure, own.shape[0], groups, seed)
    return Profile(limits, share, low, high)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, groups: Sequence[str], *, seed: int = 0
) -> Interval:
    """Return how probable it is that a run of the first scores higher than one of the second, in [0, 1].

    On each case every run of the first meets every run of the second, and equal scores count half (the
    Mann-Whitney statistic). The result is the mean over cases. A half says that neither is better.

    Args:
        first: One score per run and case, (R, N).
        second: Scores of another method on the same cases, (S, N).
        groups: The group of each case, N names.
        seed: Seed of the resampling.

    Source:
        Agarwal et al. (2021), NeurIPS, arXiv:2108.13264, section 4.3, with cases as tasks.
    """
    one, two = check_scores(first, groups), check_scores(second, groups)
    gains = np.sign(one[:, None] - two)  # (R, S, N)

    def measure(rows: NDArray[np.int64], cases: NDArray[np.int64]) -> Floats:
        mine, other = rows[rows < len(one)], rows[rows >= len(one)] - len(one)
        return np.atleast_1d(0.5 + gains[np.ix_(mine, other)].mean(axis=(0, 1))[cases].mean() / 2)

    mean, low, high = _resample(measure, (len(one), len(two)), groups, seed)
    return Interval(float(mean[0]), float(low[0]), float(high[0]))


def bootstrap_difference(
    first: ArrayLike,
    first_groups: Sequence[str],
    second: ArrayLike,
    second_groups: Sequence[str],
    *,
    seed: int = 0,
) -> Interval:
    """Return the mean of a sample less that of an independent one, with its 95% interval over groups.

    Each bootstrap sample draws groups of both samples on their own; see `bootstrap_mean`.

    Args:
        first: One number per case, (n,).
        first_groups: The group of each case, n names.
        second: One number per case of other images, (m,).
        second_groups: m names, which have nothing to do with those of the first.
        seed: Seed of the resampling.
    """
    own, other = (
        draw_means(values, groups, [seed, place])
        for place, (values, groups) in enumerate(((first, first_groups), (second, second_groups)))
    )
    low, high = np.percentile(own - other, PERCENTILES)
    mean = np.asarray(first, np.float64).mean() - np.asarray(second, np.float64).mean()
    return Interval(float(mean), float(low), float(high))


def _resample(
    measure: Callable[[NDArray[np.int64], NDArray[np.int64]], Floats],
    runs: int | Sequence[int],
    groups: Sequence[str],
    seed: int,
) -> tuple[Floats, Floats, Floats]:
    """Return what is measured of all runs and cases, and the ends of its interval.

    Runs of several methods are numbered on, and each method draws from its own (strata).
    """
    ends = np.cumsum([0, *([runs] if isinstance(runs, int) else runs)])
    strata = list(pairwise(ends.tolist()))
    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng, values = np.random.default_rng(seed), []
    for _ in range(_SAMPLES):
        rows = np.concatenate([rng.integers(low, high, high - low) for low, high in strata])
        drawn = rng.integers(len(members), size=len(members))
        values.append(measure(rows, np.concatenate([members[group] for group in drawn])))
    low, high = np.percentile(values, PERCENTILES, axis=0)
    return measure(np.arange(ends[-1]), np.arange(len(names))), low, high
