"""Points on the true border: what each says to the vertices of a contour near it.

A point belongs to the vertex that is nearest to it, its foot. How far the point lies outside the contour is
measured along the foot's normal. The other vertices are told the same, and how sure they may be of it falls
off along the contour.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from usrl.geometry.kernels import NORMAL_REACH


@dataclass(frozen=True)
class Guides:
    """What the nearest point says to each vertex of a contour.

    Attributes:
        offset: How far outside the contour the point lies, in pixels, float32, (B, N); 0 without a point.
        gap: Vertices from the vertex to the point's foot, int64, (B, N); N without a point.
    """

    offset: Tensor
    gap: Tensor


def find_guides(vertices: Tensor, points: Tensor, count: Tensor) -> Guides:
    """Return what points say to the vertices of contours. Of two at the same gap the newer counts.

    Sums of floats have no part in it, so that on a CPU a row is the same to the bit in every batch.

    Args:
        vertices: (B, N, 2).
        points: In the order in which they were given, (B, R, 2), R at least 1; those from ``count`` on mean
            nothing.
        count: Points of each contour, int64, (B,).
    """
    number, rounds = vertices.shape[1], points.shape[1]
    foot = find_feet(vertices, points)[..., None]  # (B, R, 1)
    before, after = (_pick(vertices, (foot + reach) % number) for reach in (-NORMAL_REACH, NORMAL_REACH))
    chord_x, chord_y = (after - before).unbind(dim=-1)  # (B, R)
    length = torch.sqrt(chord_x * chord_x + chord_y * chord_y).clamp_min(1e-6)
    away_x, away_y = (points - _pick(vertices, foot)).unbind(dim=-1)  # (B, R)
    outside = (away_x * chord_y - away_y * chord_x) / length  # (B, R)
    place = torch.arange(number, device=vertices.device)
    along = (place - foot).abs()  # (B, R, N)
    order = torch.arange(rounds, device=vertices.device)
    is_given = (order < count[:, None])[..., None]  # (B, R, 1)
    gap = torch.where(is_given, torch.minimum(along, number - along), number)
    nearest = (gap * rounds + (rounds - 1 - order)[:, None]).argmin(dim=1)  # (B, N)
    gap = gap.gather(1, nearest[:, None]).squeeze(1)  # (B, N)
    return Guides(torch.where(gap < number, outside.gather(1, nearest), 0.0), gap)


def find_feet(vertices: Tensor, points: Tensor) -> Tensor:
    """Return the vertex of each contour (B, N, 2) that is nearest to each of its points (B, R, 2), (B, R)."""
    x, y = (points[:, :, None] - vertices[:, None]).unbind(dim=-1)  # (B, R, N)
    return (x * x + y * y).argmin(dim=2)


@cache
def falloff(width: float, vertices: int, device: torch.device) -> Tensor:
    """Return how sure a vertex may be of a point at each gap, from 1 to 0, float32, (N + 1,).

    It is a Gaussian whose standard deviation is a share ``width`` of the contour. Every call returns the same
    tensor: do not change it.
    """
    gap = torch.arange(vertices + 1, dtype=torch.float64)
    sure = torch.exp(-0.5 * (gap / (width * vertices)) ** 2).float()
    sure[vertices] = 0
    return sure.to(device)


def _pick(vertices: Tensor, which: Tensor) -> Tensor:
    """Return the vertices of indices (B, R, 1), (B, R, 2)."""
    return vertices.gather(1, which.expand(-1, -1, 2))
