"""How well grades are told: the area under the ROC curve, and kappa for grades that have an order."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from usrl.errors import UserError


def area_under_roc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the probability that a positive case has a higher score than a negative one, in [0, 1].

    Equal scores count half.

    Args:
        scores: One number per case, (n,).
        positive: Which cases are positive, bool, (n,).

    Raises:
        UserError: If there are not both kinds of cases, or the shapes differ.

    Source:
        Hanley and McNeil (1982), Radiology 143(1):29-36, doi:10.1148/radiology.143.1.7063747.
    """
    values, is_positive = np.asarray(scores, np.float64), np.asarray(positive, np.bool_)
    if values.shape != is_positive.shape or values.ndim != 1:
        raise UserError(f"a score is wanted for each case, got {values.shape} for {is_positive.shape} cases")
    count = int(is_positive.sum())
    if not 0 < count < len(values):
        raise UserError(f"the ROC curve wants cases of both kinds, got {count} positive of {len(values)}")
    ranks = stats.rankdata(values)[is_positive]
    return float((ranks.sum() - count * (count + 1) / 2) / (count * (len(values) - count)))


def quadratic_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Return Cohen's kappa of two gradings with quadratic weights, at most 1; 0 is agreement by chance.

    Gradings that are equal and do not vary have a kappa of 1.

    Args:
        first: Whole grades, (n,).
        second: Whole grades of the same cases, (n,).

    Raises:
        UserError: If the shapes differ or there is no case.

    Source:
        Cohen (1968), Weighted kappa, Psychological Bulletin 70(4):213-220, doi:10.1037/h0026256.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise UserError(f"two grades are wanted for each case, got {one.shape} and {other.shape}")
    observed = float(np.square(one - other).mean())
    # Of all pairs of a first and a second grade, drawn apart from each other.
    expected = float(one.var() + other.var() + (one.mean() - other.mean()) ** 2)
    return 1 - observed / expected if expected else 1.0
