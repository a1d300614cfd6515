"""Distance of polygons' vertices from the boundaries of masks."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def signed_distances(masks: Tensor) -> Tensor:
    """Return the pixels from every pixel centre to each mask's boundary, negative inside, (M, S, S)."""
    maps = np.stack([_signed_distance(mask) for mask in masks.cpu().numpy()])
    return torch.from_numpy(maps).to(masks.device)


def read_distances(maps: Tensor, index: Tensor, vertices: Tensor) -> Tensor:
    """Return bilinear reads (B, N) at vertices (B, N, 2) of the maps (M, S, S) that an index (B,) chooses.

    Vertices outside read the border.
    """
    size = maps.shape[-1]
    values = maps.view(-1)
    low = vertices.clamp(0, size - 1.001)
    cell = low.to(torch.int64)  # (B, N, 2)
    part = low - cell
    first = index[:, None] * (size * size) + cell[..., 1] * size + cell[..., 0]
    top = torch.lerp(values[first], values[first + 1], part[..., 0])
    bottom = torch.lerp(values[first + size], values[first + size + 1], part[..., 0])
    return torch.lerp(top, bottom, part[..., 1])


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    inside, outside = (
        cv2.distanceTransform(np.pad(side, 1, constant_values=edge).astype(np.uint8), cv2.DIST_L2, 5)[
            1:-1, 1:-1
        ]
        for side, edge in ((mask, False), (~mask, True))
    )
    # Both count to the nearest pixel centre of the other side. The boundary is half a pixel before it.
    return np.where(mask, 0.5 - inside, outside - 0.5).astype(np.float32)
