"""Moves of closed polygons that are smooth, and never make them cross themselves or turn inside out."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.geometry import kernels
from usrl.geometry.polygon import displace, ellipse_in_box, is_valid, respace

SMOOTHING_VERTICES = (2.0, 4.0)
"""Standard deviations, in vertices, of the smoothings that are tried when a move would spoil the polygon."""


def fourier_basis(count: int, vertices: int, device: torch.device | str = "cpu") -> Tensor:
    """Return 1, cos t, sin t, cos 2t, ... at evenly spaced vertices, float32, (C, N); t runs once around."""
    angle = torch.arange(vertices, device=device) * (2 * torch.pi / vertices)
    place = torch.arange(count, device=device)
    order = (place + 1) // 2  # 0, 1, 1, 2, 2, ...
    phase = torch.where((place % 2 == 0) & (place > 0), -torch.pi / 2, 0.0)
    return torch.cos(order[:, None] * angle + phase[:, None])


def combine(weights: Tensor, functions: Tensor) -> Tensor:
    """Return the sums (B, N) of functions (C, N) with weights (B, C).

    On the CPU a row's sum is the same to the bit whatever the other rows. A matrix product would round by
    the size of the batch.
    """
    if is_compiled_for(weights):
        return torch.from_numpy(kernels.combine(weights.contiguous().numpy(), functions.numpy()))
    return weights @ functions


@cache
def smoothing_matrices(count: int, device: torch.device) -> Tensor:
    """Return the smoothings that `move_simply` tries, the gentlest first: Gaussians along a closed sequence.

    They are symmetric, float32, (K, N, N). Every call returns the same tensor: do not change it.
    """
    place = torch.arange(count, device=device)
    gap = (place[:, None] - place[None, :]).abs()
    around = torch.minimum(gap, count - gap)
    weights = torch.stack([torch.exp(-0.5 * (around / sigma) ** 2) for sigma in SMOOTHING_VERTICES])
    return weights / weights.sum(dim=2, keepdim=True)


def move_simply(vertices: Tensor, displacement: Tensor, smoothings: Tensor, limit: float) -> Tensor:
    """Return polygons after a move, valid (`is_valid`) and with no vertices bunched.

    The move as asked for is tried first, then smoothed ones, and last no move. The first that keeps a
    polygon valid is made.

    Args:
        vertices: Valid polygons, (B, N, 2).
        displacement: Outward moves in pixels, (B, N).
        smoothings: From `smoothing_matrices`, (K, N, N).
        limit: Largest coordinate; the smallest is 0.
    """
    if is_compiled_for(vertices):
        contours, moves = vertices.contiguous().numpy(), displacement.contiguous().numpy()
        return torch.from_numpy(kernels.move(contours, moves, smoothings.numpy(), np.float32(limit)))
    moved = displace(vertices, displacement, limit)
    settled = is_valid(moved)  # (B,)
    # To ask a GPU whether anything is left to try would cost more than to try in vain.
    for smoothing in smoothings:
        # The matrix is on the right, so that the batch is one product and not B of them.
        smooth = (vertices.mT @ smoothing).mT.contiguous()  # (B, N, 2)
        gentler = displace(smooth, displacement @ smoothing, limit)
        moved = torch.where(settled[:, None, None], moved, gentler)
        settled = settled | is_valid(gentler)
    return torch.where(settled[:, None, None], moved, vertices)


def keep_inside(vertices: Tensor, limit: float) -> Tensor:
    """Return valid polygons (B, N, 2) with their vertices clamped to the image, and still valid.

    Clamping lays vertices on one another in the image's corners, and flattens what hardly reaches into the
    image. A polygon that this spoils is spaced evenly again. If that does not help, it becomes the ellipse in
    its box, which is at least a pixel wide. `limit` is the largest coordinate, at least 1.
    """
    inside = vertices.clamp(0, limit)
    if is_compiled_for(inside) and is_valid(inside).all():  # to ask a GPU would cost more than to go on
        return inside
    low = inside.amin(dim=1).clamp_max(limit - 1)  # (B, 2)
    high = torch.maximum(inside.amax(dim=1), low + 1)
    ellipses = ellipse_in_box(torch.cat([low, high], dim=1), vertices.shape[1])
    for other in (respace(inside), ellipses):
        inside = torch.where(is_valid(inside)[:, None, None], inside, other)
    return inside
