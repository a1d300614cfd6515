"""Areas, overlaps and masks of polygons.

By Green's theorem the area of a polygon is the contour integral of x dy, and its overlap with a mask
is that of P(x, y) dy, where P(x, y) is the mask summed along its row from the left border to x. With
P prepared once per mask, a few samples per edge give the overlap: no raster is made.
"""

import torch
from torch import Tensor

from usrl.geometry.polygon import neighbours

SAMPLES_PER_EDGE = 4
"""Midpoint samples of P on each edge; edges of a few pixels need no more (see tests)."""


def signed_area(vertices: Tensor) -> Tensor:
    """Return the shoelace area in square pixels, (B,), positive for positive orientation."""
    following = neighbours(vertices, 1)[1]
    cross = vertices[..., 0] * following[..., 1] - vertices[..., 1] * following[..., 0]
    return cross.sum(dim=1) / 2


def row_sums(targets: Tensor) -> Tensor:
    """Prepare masks for `overlap_area`.

    Each cell packs four int16 numbers into one int64, so that one read serves a bilinear sample: the
    row sum to the left of the pixel in this row and the next, and the pixel itself in both.

    Args:
        targets: bool, (M, S, S).

    Returns:
        int64, (M, S + 1, S): cell (r, c) describes rows r - 1 and r, with zeros outside.
    """
    count, height, width = targets.shape
    pixels = torch.zeros(count, height + 2, width, dtype=torch.int16, device=targets.device)
    pixels[:, 1:-1] = targets
    left = pixels.cumsum(dim=2).to(torch.int16) - pixels
    cells = torch.stack([left[:, :-1], left[:, 1:], pixels[:, :-1], pixels[:, 1:]], dim=-1)
    return cells.contiguous().view(torch.int64).squeeze(-1)


def overlap_area(vertices: Tensor, sums: Tensor, index: Tensor) -> Tensor:
    """Return the area of each polygon inside its mask.

    Args:
        vertices: (B, N, 2), simple, within the image.
        sums: What `row_sums` made of the masks, (M, S + 1, S).
        index: Mask of each polygon, int64, (B,).

    Returns:
        Square pixels, float32, (B,).
    """
    _, rows, width = sums.shape
    edge = neighbours(vertices, 1)[1] - vertices  # (B, N, 2)
    part = (torch.arange(SAMPLES_PER_EDGE, device=vertices.device) + 0.5) / SAMPLES_PER_EDGE  # (Q,)
    x = torch.addcmul(vertices[..., :1], edge[..., :1], part) + 0.5  # (B, N, Q), from the pixel's left side
    y = torch.addcmul(vertices[..., 1:], edge[..., 1:], part) + 1.0
    x = x.clamp_(0, width - 1e-3)
    y = y.clamp_(0, rows - 1e-3)
    column, row = x.floor(), y.floor()
    cell = (row * width + column).to(torch.int64) + index[:, None, None] * (rows * width)
    packed = sums.view(-1)[cell]  # (B, N, Q)
    left, right = packed.view(torch.int16).view(*packed.shape, 2, 2).float().unbind(dim=-2)  # (B, N, Q, 2)
    along = torch.addcmul(left, right, (x - column)[..., None])  # (B, N, Q, 2): P in both rows
    sample = torch.lerp(along[..., 0], along[..., 1], y - row)  # (B, N, Q)
    return (sample.mean(dim=-1) * edge[..., 1]).sum(dim=1)


def rasterise(vertices: Tensor, height: int, width: int) -> Tensor:
    """Return the pixels whose centres lie inside each polygon.

    Every edge marks, in each row that it passes, the first pixel centre to its right; the running sum
    of these marks along the row is the winding number.

    Args:
        vertices: (B, N, 2).
        height: Rows H of the masks.
        width: Columns W of the masks.

    Returns:
        bool, (B, H, W).
    """
    batch, count, _ = vertices.shape
    x, y = vertices.unbind(dim=-1)  # (B, N)
    next_x, next_y = neighbours(vertices, 1)[1].unbind(dim=-1)
    rows = torch.arange(height, device=vertices.device, dtype=vertices.dtype)  # (H,)
    below, next_below = y[..., None] <= rows, next_y[..., None] <= rows  # (B, N, H)
    winding = next_below.to(torch.int8) - below.to(torch.int8)
    slope = (next_x - x) / torch.where(next_y == y, 1.0, next_y - y)  # (B, N)
    crossing = x[..., None] + (rows - y[..., None]) * slope[..., None]  # (B, N, H)
    column = crossing.clamp(0, width).ceil().to(torch.int64)
    marks = torch.zeros(batch, height, width + 1, dtype=torch.int8, device=vertices.device)
    place = torch.arange(height, device=vertices.device) * (width + 1) + column  # (B, N, H)
    marks.view(batch, -1).scatter_add_(1, place.flatten(1), winding.flatten(1))
    return marks.cumsum(dim=2)[..., :width] != 0
