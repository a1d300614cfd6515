"""Scores of a fit beside Dice itself; a step is paid the change of a score."""

import math

import torch
from torch import Tensor


def iou_score(dice: Tensor) -> Tensor:
    """Return the intersection over union, (B,), which Dice determines."""
    return dice / (2 - dice)


def dice_boundary_score(dice: Tensor, distance_px: Tensor, target_area: Tensor) -> Tensor:
    """Return Dice minus the vertices' mean distance in units of the target's equivalent radius.

    A boundary that is off by d everywhere costs a disc of radius r about d / r of Dice: in this unit
    both terms weigh the same.

    Args:
        dice: Dice of contour and target, (B,).
        distance_px: Mean distance of the vertices from the target's boundary, (B,).
        target_area: Square pixels, (B,).
    """
    return dice - distance_px / torch.sqrt(target_area / math.pi)
