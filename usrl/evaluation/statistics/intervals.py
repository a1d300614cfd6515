"""How sure a mean is, whether two methods differ, and how well an uncertainty tells good cases from bad ones.

A user may keep only the cases that a method is surest of. The coverage is the share of cases kept, and the
risk is their mean 1 - Dice. An uncertainty is useful if the risk grows with the coverage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from usrl.errors import UserError

Floats = NDArray[np.float64]
RESAMPLES = 2000
"""Samples of a bootstrap."""
PERCENTILES = (2.5, 97.5)
"""Ends of a 95% interval."""


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: ArrayLike, groups: Sequence[str], *, seed: int = 0) -> Interval:
    """Return a mean with its 95% percentile interval from a bootstrap over whole groups.

    Images of one patient resemble each other, so the bootstrap draws groups and not images.

    Args:
        values: One number per case, shape (n,).
        groups: The group of each case, n names.
        seed: Seed of the resampling.

    Returns:
        Mean over cases and the interval; a single group gives an interval without width.

    Raises:
        UserError: If there are no values, or a value has no group.

    Source:
        Field and Welsh (2007), J R Stat Soc B 69(3):369-390, doi:10.1111/j.1467-9868.2007.00593.x.
    """
    sums, sizes = _sum_by_group(values, groups)
    low, high = np.percentile(draw_means(values, groups, seed), PERCENTILES)
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high))


def draw_means(values: ArrayLike, groups: Sequence[str], seed: int | Sequence[int]) -> Floats:
    """Return the means of the samples of `bootstrap_mean`, (RESAMPLES,)."""
    sums, sizes = _sum_by_group(values, groups)
    count = len(sums)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)  # (resamples, groups)
    return np.asarray((draws @ sums) / (draws @ sizes), np.float64)


def mean_by_group(values: ArrayLike, groups: Sequence[str]) -> Floats:
    """Return the mean of each group, in the sorted order of group names; see `bootstrap_mean`."""
    sums, sizes = _sum_by_group(values, groups)
    return np.asarray(sums / sizes, np.float64)


def paired_wilcoxon(first: ArrayLike, second: ArrayLike) -> float:
    """Return the two-sided p-value of the Wilcoxon signed-rank test of paired values, (n,) each.

    Equal pairs count as Pratt (1959) proposed. If every pair is equal, the p-value is 1.

    Source:
        Wilcoxon (1945), Biometrics Bulletin 1(6):80-83, doi:10.2307/3001968, by scipy.stats.wilcoxon.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.size == 0:
        raise UserError(f"a paired test needs equally many values, 1 or more, got {one.size} and {two.size}")
    if np.array_equal(one, two):
        return 1.0
    return float(stats.wilcoxon(one, two, zero_method="pratt").pvalue)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down method, in the order given.

    Source:
        Holm (1979), Scandinavian Journal of Statistics 6(2):65-70, jstor:4615733.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def interquartile_mean(values: ArrayLike) -> float:
    """Return the mean of scores, (n,), without the lowest and the highest quarter, rounded down.

    Source:
        Agarwal et al. (2021), NeurIPS, arXiv:2108.13264, as the summary over seeds.
    """
    scores = np.asarray(values, np.float64).ravel()
    if scores.size == 0:
        raise UserError("an interquartile mean needs at least one value, got none")
    return float(stats.trim_mean(scores, 0.25))


def bootstrap_iqm(
    scores: ArrayLike, groups: Sequence[str], *, minus: ArrayLike | None = None, seed: int = 0
) -> Interval:
    """Return the interquartile mean over runs and cases with its 95% percentile interval.

    Each bootstrap sample draws whole runs and, independently, whole groups of cases, with replacement.
    Agarwal et al. draw the runs of each task on their own, because each of their scores is a separate
    training. Here one training gives the scores of all cases, which rise and fall together.

    Args:
        scores: One score per run and case, shape (R, N).
        groups: The group of each case, N names.
        minus: Scores of another method in the same runs and cases, (R, N): the result is the difference
            of the two interquartile means, which share what each sample draws.
        seed: Seed of the resampling.

    Source:
        Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice, NeurIPS,
        arXiv:2108.13264; drawing two crossed factors: Owen (2007), The pigeonhole bootstrap, Ann Appl Stat
        1(2):386-411, doi:10.1214/07-AOAS122.
    """
    own = check_scores(scores, groups)
    other = None if minus is None else check_scores(minus, groups)
    if other is not None and other.shape != own.shape:
        raise UserError(f"a paired difference needs equally many runs, got {len(own)} and {len(other)}")

    def measure(rows: NDArray[np.int64], cases: NDArray[np.int64]) -> float:
        drawn = np.ix_(rows, cases)
        return interquartile_mean(own[drawn]) - (0 if other is None else interquartile_mean(other[drawn]))

    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        rows, drawn = rng.integers(len(own), size=len(own)), rng.integers(len(members), size=len(members))
        values.append(measure(rows, np.concatenate([members[group] for group in drawn])))
    low, high = np.percentile(values, PERCENTILES)
    return Interval(measure(np.arange(own.shape[0]), np.arange(own.shape[1])), float(low), float(high))


@dataclass(frozen=True)
class RiskCoverage:
    """The curve of one method."""

    coverage: Floats  # (n,), share of cases kept, from 1 / n to 1
    risk: Floats  # (n,), mean 1 - Dice of these

    @property
    def area(self) -> float:
        """The area under the curve (AURC): the mean of its n risks.

        Source:
            Geifman, Uziel, El-Yaniv (2019), Bias-reduced uncertainty estimation for deep neural classifiers,
            ICLR, arXiv:1805.08206.
        """
        return float(self.risk.mean())


def risk_coverage(uncertainty: Sequence[float], dice: Sequence[float]) -> RiskCoverage:
    """Return the curve of cases that are kept in ascending order of uncertainty.

    Cases of equal uncertainty have no order. Each counts with their mean risk, which random orders give on
    average, so that equal uncertainties everywhere give a flat curve.

    Source:
        Geifman, El-Yaniv (2017), Selective classification for deep neural networks, NeurIPS,
        arXiv:1705.08500.
    """
    if not len(dice) or len(uncertainty) != len(dice):
        raise UserError(f"wanted an uncertainty for each Dice, got {len(uncertainty)} for {len(dice)}")
    _, rank, count = np.unique(uncertainty, return_inverse=True, return_counts=True)
    risk = np.bincount(rank, weights=1 - np.asarray(dice)) / count  # of each uncertainty, ascending
    kept = np.arange(1, len(dice) + 1)
    return RiskCoverage(kept / len(dice), np.repeat(risk, count).cumsum() / kept)


def perfect_order(dice: Sequence[float]) -> RiskCoverage:
    """Return the lowest possible curve, of cases kept in descending order of Dice."""
    return risk_coverage([-value for value in dice], dice)


def check_scores(scores: ArrayLike, groups: Sequence[str]) -> Floats:
    """Return scores as an array of runs and cases, (R, N)."""
    numbers = np.asarray(scores, np.float64)
    if numbers.ndim != 2 or numbers.shape[1] != len(groups) or numbers.size == 0:
        raise UserError(
            f"scores want a row per run and a column per case, at least one; got {numbers.shape} for "
            f"{len(groups)} cases"
        )
    return numbers


def _sum_by_group(values: ArrayLike, groups: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the sum and the number of values of each group, each of shape (groups,)."""
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (len(groups),) or numbers.size == 0:
        raise UserError(
            f"values and groups must be equally many, at least one; got {numbers.shape} and {len(groups)}"
        )
    _, row = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(row, weights=numbers).astype(np.float64), np.bincount(row).astype(np.float64)
