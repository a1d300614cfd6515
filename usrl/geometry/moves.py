"""Moves of closed polygons that never make them cross themselves or turn inside out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from usrl.compiled import is_compiled_for
from usrl.geometry.polygon import displace, is_valid

SMOOTHING_VERTICES = (2.0, 4.0)
"""Standard deviations, in vertices, of the smoothing that is tried when a move would spoil the polygon."""


def smoothing_matrices(count: int, device: torch.device) -> list[Tensor]:
    """Return the smoothings that `move_simply` tries, the gentlest first: Gaussians along a closed sequence.

    Args:
        count: Number of vertices N.
        device: Where they are used.

    Returns:
        Symmetric matrices, float32, (N, N) each.
    """
    place = torch.arange(count, device=device)
    gap = (place[:, None] - place[None, :]).abs()
    around = torch.minimum(gap, count - gap)
    weights = [torch.exp(-0.5 * (around / sigma) ** 2) for sigma in SMOOTHING_VERTICES]
    return [weight / weight.sum(dim=1, keepdim=True) for weight in weights]


def move_simply(vertices: Tensor, displacement: Tensor, smoothings: Sequence[Tensor], limit: float) -> Tensor:
    """Return polygons after a move, valid (`is_valid`) and with no vertices bunched.

    Of several moves, from the one asked for over smoothed ones to none at all, the first that keeps a polygon
    valid is made.

    Args:
        vertices: Valid polygons, (B, N, 2).
        displacement: Outward moves in pixels, (B, N).
        smoothings: Of `smoothing_matrices`.
        limit: Largest coordinate; the smallest is 0.

    Returns:
        Valid polygons, (B, N, 2).
    """
    moved = displace(vertices, displacement, limit)
    settled = is_valid(moved)  # (B,)
    for smoothing in smoothings:
        if _all_known(settled):
            return moved
        # The matrix stands on the right, so that the batch is one product and not B of them.
        smooth = (vertices.mT @ smoothing).mT.contiguous()  # (B, N, 2)
        gentler = displace(smooth, displacement @ smoothing, limit)
        moved = torch.where(settled[:, None, None], moved, gentler)
        settled = settled | is_valid(gentler)
    return torch.where(settled[:, None, None], moved, vertices)


def _all_known(settled: Tensor) -> bool:
    """Return whether nothing is left to try.

    A GPU is not asked: to wait for its answer costs more than to try in vain.
    """
    return is_compiled_for(settled) and bool(settled.all())
