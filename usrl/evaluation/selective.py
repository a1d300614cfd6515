"""How well an uncertainty tells good cases from bad ones: risk over coverage.

A user may keep only the cases that a method is surest of. The coverage is the share of cases kept, and the
risk is their mean 1 - Dice. An uncertainty is useful if the risk grows with the coverage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usrl.errors import UserError


@dataclass(frozen=True)
class RiskCoverage:
    """The curve of one method."""

    coverage: NDArray[np.float64]  # (n,), share of cases kept, from 1 / n to 1
    risk: NDArray[np.float64]  # (n,), mean 1 - Dice of these

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
