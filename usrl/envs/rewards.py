"""Rewards of contour refinement: how a fit is scored, so that a step is paid the change of score."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """How well contours fit.

    Attributes:
        dice: Dice of contour and target, (B,).
        distance_px: Mean distance of the vertices from the target's boundary, (B,).
        target_area: Square pixels, (B,).
    """

    dice: Tensor
    distance_px: Tensor
    target_area: Tensor


def dice_score(fit: Fit) -> Tensor:
    """Return Dice."""
    return fit.dice


def iou_score(fit: Fit) -> Tensor:
    """Return the intersection over union, which Dice determines."""
    return fit.dice / (2 - fit.dice)


def dice_boundary_score(fit: Fit) -> Tensor:
    """Return Dice minus the vertices' mean distance in units of the target's equivalent radius.

    A boundary that is off by d everywhere costs a disc of radius r about d / r of Dice: in this unit
    both terms weigh the same.
    """
    return fit.dice - fit.distance_px / torch.sqrt(fit.target_area / math.pi)


SCORES: dict[str, Callable[[Fit], Tensor]] = {
    "dice": dice_score,
    "iou": iou_score,
    "dice+boundary": dice_boundary_score,
}
