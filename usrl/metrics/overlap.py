"""Overlap of two binary masks.

Rules of every function here: both masks empty is perfect agreement, 1.0; exactly one empty is 0.0 where
the ratio has no denominator. All values are in [0, 1], unitless.
"""

from typing import NamedTuple

import numpy as np

from usrl.data.sample import BoolMask
from usrl.errors import UserError


class Counts(NamedTuple):
    """Pixels by agreement: true and false positives, false and true negatives."""

    tp: int
    fp: int
    fn: int
    tn: int


def check_masks(pred: BoolMask, target: BoolMask) -> None:
    """Raise unless two masks are bool and of one shape.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: If a mask is not a bool (H, W) array, or the shapes differ; the message gives both.
    """
    for name, mask in (("pred", pred), ("target", target)):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise UserError(
                f"{name} must be a bool mask of shape (H, W), got {mask.dtype} {mask.shape}; threshold it"
            )
    if pred.shape != target.shape:
        raise UserError(
            f"pred and target must have the same shape, got {pred.shape} and {target.shape}; resample one"
        )


def count_pixels(pred: BoolMask, target: BoolMask) -> Counts:
    """Return the confusion counts of two masks.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: See `check_masks`.
    """
    check_masks(pred, target)
    tp = int(np.count_nonzero(pred & target))
    fp = int(np.count_nonzero(pred)) - tp
    fn = int(np.count_nonzero(target)) - tp
    return Counts(tp, fp, fn, pred.size - tp - fp - fn)


def dice(pred: BoolMask, target: BoolMask) -> float:
    """Return the Dice overlap, 2 TP / (2 TP + FP + FN); both empty is 1, exactly one empty 0.

    The F1 score of pixels is the same number.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: See `check_masks`.

    Source:
        Dice (1945), Ecology 26(3):297-302, doi:10.2307/1932409.
    """
    tp, fp, fn, _ = count_pixels(pred, target)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(pred: BoolMask, target: BoolMask) -> float:
    """Return the intersection over union (Jaccard index), TP / (TP + FP + FN); both empty is 1.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: See `check_masks`.

    Source:
        Jaccard (1912), New Phytologist 11(2):37-50, doi:10.1111/j.1469-8137.1912.tb05611.x.
    """
    tp, fp, fn, _ = count_pixels(pred, target)
    return _ratio(tp, tp + fp + fn)


def sensitivity(pred: BoolMask, target: BoolMask) -> float:
    """Return the share of the target that is found (recall), TP / (TP + FN).

    Both empty is 1; an empty target with a prediction is 0.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: See `check_masks`.
    """
    tp, fp, fn, _ = count_pixels(pred, target)
    return _ratio(tp, tp + fn, otherwise=float(fp == 0))


def precision(pred: BoolMask, target: BoolMask) -> float:
    """Return the share of the prediction that is right, TP / (TP + FP).

    Both empty is 1; an empty prediction of a target is 0.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: See `check_masks`.
    """
    tp, fp, fn, _ = count_pixels(pred, target)
    return _ratio(tp, tp + fp, otherwise=float(fn == 0))


def specificity(pred: BoolMask, target: BoolMask) -> float:
    """Return the share of the background that is left alone, TN / (TN + FP); 1 where there is none.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: See `check_masks`.
    """
    _, fp, _, tn = count_pixels(pred, target)
    return _ratio(tn, tn + fp)


def accuracy(pred: BoolMask, target: BoolMask) -> float:
    """Return the share of pixels that are right, (TP + TN) / all.

    Args:
        pred: Predicted mask, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).

    Raises:
        UserError: See `check_masks`.
    """
    tp, fp, fn, tn = count_pixels(pred, target)
    return _ratio(tp + tn, tp + fp + fn + tn)


def _ratio(numerator: int, denominator: int, otherwise: float = 1.0) -> float:
    return numerator / denominator if denominator else otherwise
