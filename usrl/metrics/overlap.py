"""Overlap of two binary masks.

All values are in [0, 1], unitless. Two empty masks agree perfectly and give 1.0, and an error of 0.0. If
exactly one mask is empty, a ratio without a denominator gives 0.0.
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

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN), also the F1 score of pixels.

        Source:
            Dice (1945), Ecology 26(3):297-302, doi:10.2307/1932409.
        """
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def f_measure(self, beta: float = 1.0) -> float:
        """Return the F-measure, (1 + b) TP / ((1 + b) TP + b FN + FP) with b the square of ``beta``.

        With a ``beta`` of 1 it is the Dice. Work on salient objects takes a square of 0.3, which gives
        precision more weight.

        Source:
            van Rijsbergen (1979), Information Retrieval, chapter 7; Achanta et al. (2009), CVPR 1597-1604,
            doi:10.1109/CVPR.2009.5206596, for 0.3.
        """
        square = beta * beta
        found = (1 + square) * self.tp
        return _ratio(found, found + square * self.fn + self.fp)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), the Jaccard index.

        Source:
            Jaccard (1912), New Phytologist 11(2):37-50, doi:10.1111/j.1469-8137.1912.tb05611.x.
        """
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), the share of the target that is found (recall)."""
        return _ratio(self.tp, self.tp + self.fn, otherwise=float(self.fp == 0))

    @property
    def precision(self) -> float:
        """TP / (TP + FP), the share of the prediction that is right."""
        return _ratio(self.tp, self.tp + self.fp, otherwise=float(self.fn == 0))

    @property
    def specificity(self) -> float:
        """TN / (TN + FP), the share of the background that is left alone; 1 if there is no background."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all, the share of pixels that are right."""
        return _ratio(self.tp + self.tn, sum(self))

    @property
    def mae(self) -> float:
        """(FP + FN) / all, the mean absolute error of the pixels of two masks: 1 - accuracy."""
        return _ratio(self.fp + self.fn, sum(self), otherwise=0.0)


OVERLAPS = ("dice", "iou", "sensitivity", "precision", "specificity", "accuracy", "mae")
"""Names of the metrics, in the order of the tables."""


def check_masks(pred: BoolMask, target: BoolMask) -> None:
    """Raise a `UserError` unless two masks are bool (H, W) arrays of the same shape."""
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
    """Return the counts of a predicted and a target mask, bool (H, W) each.

    Raises:
        UserError: If a mask is not bool (H, W), or the shapes differ.
    """
    check_masks(pred, target)
    tp = int(np.count_nonzero(pred & target))
    fp = int(np.count_nonzero(pred)) - tp
    fn = int(np.count_nonzero(target)) - tp
    return Counts(tp, fp, fn, pred.size - tp - fp - fn)


def measure_overlap(pred: BoolMask, target: BoolMask) -> dict[str, float]:
    """Return all `OVERLAPS` by name, from one count of pixels; see `count_pixels`."""
    counts = count_pixels(pred, target)
    return {name: getattr(counts, name) for name in OVERLAPS}


def dice(pred: BoolMask, target: BoolMask) -> float:
    """Return `Counts.dice`: 1 if both masks are empty, 0 if one is; see `count_pixels`."""
    return count_pixels(pred, target).dice


def iou(pred: BoolMask, target: BoolMask) -> float:
    """Return `Counts.iou`: 1 if both masks are empty, 0 if one is; see `count_pixels`."""
    return count_pixels(pred, target).iou


def _ratio(numerator: float, denominator: float, otherwise: float = 1.0) -> float:
    return numerator / denominator if denominator else otherwise
