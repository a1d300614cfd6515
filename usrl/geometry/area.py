"""Polygons and masks: overlap, rasters, and distances of vertices from boundaries.

By Green's theorem the area of a polygon is the contour integral of x dy. Its overlap with a mask is the
integral of P(x, y) dy: P(x, y) is the sum of the mask along its row from the left border to x. P is prepared
once per mask, and then a few samples per edge give the overlap without a raster.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.geometry import kernels
from usrl.geometry.kernels import SAMPLES_PER_EDGE
from usrl.geometry.polygon import neighbours, signed_area

SMOOTHING_PX = 0.7
"""Blur that takes the stairs off a mask's outline before it is sampled, in pixels of the mask."""
_FINE_SIDE = 512


@dataclass(frozen=True)
class RowSums:
    """Masks prepared for `measure_dice`, on a finer grid and with their stairs smoothed.

    A polygon that follows a lesion perfectly cuts the corners of the mask's pixels. Against the pixels
    themselves it would score a few hundredths of Dice too low.

    Sums change only inside the bounding box of a mask: to its left they are 0, to its right they are the sum
    of the row, above and below they are 0. So only the box is kept, with an empty row above and below.

    Attributes:
        sums: Fine pixels to the left of each place of a mask's box, int16, (h + 2, w + 1) flattened, mask
            after mask.
        box: First column and row kept of each mask, and last column and row counted from these, in fine
            pixels, float32, (M, 4).
        place: Where a mask's sums begin, and the length of their rows, int64, (M, 2).
        area: Square pixels of each mask, float32, (M,).
        factor: Fine pixels per pixel of the mask along a side.
    """

    sums: Tensor
    box: Tensor
    place: Tensor
    area: Tensor
    factor: int

    @classmethod
    def of(cls, targets: Tensor) -> "RowSums":
        """Prepare masks, bool, (M, S, S), on a grid of the largest multiple of S up to 512, at least S."""
        factor = max(1, _FINE_SIDE // targets.shape[-1])
        cut = [_sum_rows(target, factor) for target in targets.cpu().numpy()]
        shapes = np.array([sums.shape for sums, _ in cut])
        ends = np.cumsum(shapes.prod(axis=1))
        box = np.hstack([[corner for _, corner in cut], shapes[:, ::-1] - 1])
        area = [sums[:, -1].sum(dtype=np.int64) / factor**2 for sums, _ in cut]

        def send(array: Any, dtype: type) -> Tensor:
            return torch.from_numpy(np.asarray(array, dtype)).to(targets.device)

        return cls(
            sums=send(np.concatenate([sums.ravel() for sums, _ in cut]), np.int16),
            box=send(box, np.float32),
            place=send(np.stack([np.append(0, ends[:-1]), shapes[:, 1]], axis=1), np.int64),
            area=send(area, np.float32),
            factor=factor,
        )

    @cached_property
    def arrays(self) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """Sums, box, place and area for the compiled loops; torch takes microseconds to give them."""
        return self.sums.numpy(), self.box.numpy(), self.place.numpy(), self.area.numpy()


def _sum_rows(target: NDArray[np.bool_], factor: int) -> tuple[NDArray[np.int16], tuple[int, int]]:
    """Return the sums of one mask, (h + 2, w + 1), and the first column and row of its box."""
    fine = target.shape[0] * factor
    large = cv2.resize(target.astype(np.float32), (fine, fine), interpolation=cv2.INTER_LINEAR)
    smooth = cv2.GaussianBlur(large, (0, 0), SMOOTHING_PX * factor)
    inside = smooth > 0.5 if smooth.max() > 0.5 else large > 0.5  # a few pixels would blur away
    left, top, width, height = cv2.boundingRect(inside.view(np.uint8))
    sums = np.zeros((height + 2, width + 1), np.int16)
    np.cumsum(inside[top : top + height, left : left + width], axis=1, out=sums[1:-1, 1:])
    return sums, (left, top - 1)


def measure_dice(vertices: Tensor, masks: RowSums, index: Tensor) -> Tensor:
    """Return the Dice of simple polygons (B, N, 2) in the image and the masks of an index, float32, (B,)."""
    if is_compiled_for(vertices):
        dice = kernels.measure_dice(vertices.numpy(), index.numpy(), *masks.arrays, masks.factor)
        return torch.from_numpy(dice)
    total = signed_area(vertices) + masks.area[index]
    return (2 * overlap_area(vertices, masks, index) / total.clamp_min(1e-6)).clamp(0, 1)


def overlap_area(vertices: Tensor, masks: RowSums, index: Tensor) -> Tensor:
    """Return the square pixels of each polygon inside its mask, float32, (B,); see `measure_dice`."""
    edge = (neighbours(vertices, 1)[1] - vertices) * masks.factor  # (B, N, 2)
    start = (vertices + 0.5) * masks.factor  # in fine pixels, from the image's corner
    part = (torch.arange(SAMPLES_PER_EDGE, device=vertices.device) + 0.5) / SAMPLES_PER_EDGE  # (Q,)
    left, top, right, bottom = masks.box[index, None, None].unbind(dim=-1)  # (B, 1, 1)
    first, width = masks.place[index, None, None].unbind(dim=-1)  # (B, 1, 1)
    zero = left.new_zeros(())
    # x is half a place further, so that cutting off the fraction rounds it: sums are between pixels.
    x = torch.addcmul(start[..., :1] + 0.5, edge[..., :1], part).sub_(left).clamp_(zero, right)  # (B, N, Q)
    y = torch.addcmul(start[..., 1:], edge[..., 1:], part).sub_(top).clamp_(zero, bottom)  # (B, N, Q)
    cell = y.to(torch.int64).mul_(width).add_(x.to(torch.int64)).add_(first)
    sums = masks.sums[cell]  # (B, N, Q)
    return (sums.sum(dim=-1) * edge[..., 1]).sum(dim=1) / (SAMPLES_PER_EDGE * masks.factor**2)


def rasterise(vertices: Tensor, height: int, width: int) -> Tensor:
    """Return the pixels whose centres lie inside each polygon, bool, (B, H, W).

    Every edge marks, in each row that it passes, the first pixel centre to its right. The running sum of
    these marks along the row is the winding number.
    """
    batch = vertices.shape[0]
    x, y = vertices.unbind(dim=-1)  # (B, N)
    next_x, next_y = neighbours(vertices, 1)[1].unbind(dim=-1)
    rows = torch.arange(height, device=vertices.device, dtype=vertices.dtype)  # (H,)
    below, next_below = y[..., None] <= rows, next_y[..., None] <= rows  # (B, N, H)
    winding = next_below.to(torch.int8) - below.to(torch.int8)
    slope = (next_x - x) / torch.where(next_y == y, 1.0, next_y - y)  # (B, N)
    crossing = x[..., None] + (rows - y[..., None]) * slope[..., None]  # (B, N, H)
    column = crossing.clamp(0, width).ceil().to(torch.int64)
    marks = torch.zeros(batch, height * (width + 1), dtype=torch.int8, device=vertices.device)
    place = torch.arange(height, device=vertices.device) * (width + 1) + column  # (B, N, H)
    marks.scatter_add_(1, place.flatten(1), winding.flatten(1))
    return marks.view(batch, height, width + 1).cumsum(dim=2, dtype=torch.int8)[..., :width] != 0


def signed_distances(masks: Tensor) -> Tensor:
    """Return the pixels from every pixel centre to each mask's boundary, negative inside, (M, S, S)."""

    def reach(side: NDArray[np.bool_], edge: bool) -> NDArray[np.float32]:
        padded = np.pad(side, 1, constant_values=edge).astype(np.uint8)
        return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)

    # Both count to the nearest pixel centre of the other side. The boundary is half a pixel before it.
    maps = [np.where(m, 0.5 - reach(m, False), reach(~m, True) - 0.5) for m in masks.cpu().numpy()]
    return torch.from_numpy(np.stack(maps)).to(masks.device)


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
