"""Where a contour began, in the coordinates of its profiles."""

import torch
from torch import Tensor

from usrl.geometry.polygon import outward_normals


def start_profiles(vertices: Tensor, start: Tensor, unit: Tensor, offsets: Tensor) -> Tensor:
    """Return how far the places of a contour's profiles lie outside the polygon that it started as.

    The distance of a vertex is that from the start's tangent at its nearest vertex, and grows along the
    profile by one per place: near the start that is the signed distance, and it costs one matrix of
    distances instead of a map per episode.

    Args:
        vertices: Contours, (B, N, 2).
        start: What they started as, (B, N, 2).
        unit: Pixels between two places of a profile, (B, 1).
        offsets: Places along the normal, in units, (K,).

    Returns:
        uint8, (B, N, K): 0 at K / 2 units inside the start or more, 127 on it, 255 at K / 2 outside or more.
    """
    nearest = torch.cdist(vertices, start).argmin(dim=2, keepdim=True).expand(-1, -1, 2)  # (B, N, 2)
    away = vertices - start.gather(1, nearest)
    distance = (away * outward_normals(start).gather(1, nearest)).sum(dim=-1) / unit  # (B, N)
    reach = len(offsets) / 2
    places = (distance[..., None] + offsets) / reach  # (B, N, K)
    return (127.5 * (1 + places.clamp(-1, 1))).to(torch.uint8)
