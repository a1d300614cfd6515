"""Profiles along the normals of a contour: of the image, and of the distance from the first contour.

A profile reads the nearest pixel of a finer grid. On a grid twice as fine a read is at most a quarter of a
pixel off, and one read of four packed channels costs a quarter of a bilinear one.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.geometry import kernels
from usrl.geometry.polygon import outward_normals

COARSE_SIGMA_PX = 2.0
"""Blur of the coarse channel, in pixels of the working image."""
EDGE_SIGMA_PX = 1.0
"""Blur under the edge channel, in pixels of the working image."""
EDGE_GAIN = 4.0
"""Gray levels of the edge channel per gray level a pixel of slope."""
_FINE_SIDE = 256


@dataclass(frozen=True)
class ProfileAtlas:
    """Images prepared for `sample_profiles`, each once however many contours are moved on it.

    Attributes:
        cells: The four bytes of a cell are image, blur, edge strength and zero, int32, (P, F, F).
        image_of_row: The image of each row of the bank, int64, (M,).
    """

    cells: Tensor
    image_of_row: Tensor

    @classmethod
    def of(cls, images: Tensor, image_of_row: Tensor) -> "ProfileAtlas":
        """Prepare images, uint8, (P, S, S); F is the largest multiple of S up to 256, or S if S is larger."""
        factor = max(1, _FINE_SIDE // images.shape[-1])
        fine = images.shape[-1] * factor
        cells = np.empty((len(images), fine, fine, 4), np.uint8)
        for cell, image in zip(cells, images.cpu().numpy(), strict=True):
            cell[:] = _channels(image, factor)
        return cls(torch.from_numpy(cells).view(torch.int32).squeeze(-1).to(images.device), image_of_row)

    @cached_property
    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Cells and images of rows for the compiled loops; torch takes microseconds to give them."""
        return self.cells.numpy(), self.image_of_row.numpy()


def _channels(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the packed channels of one image, uint8, (F, F, 4)."""
    coarse = cv2.GaussianBlur(image, (0, 0), COARSE_SIGMA_PX)
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), EDGE_SIGMA_PX)
    slope_y, slope_x = np.gradient(smooth)
    edge = np.minimum(EDGE_GAIN * np.hypot(slope_x, slope_y), 255).astype(np.uint8)
    packed = np.stack([image, coarse, edge, np.zeros_like(image)], axis=-1)
    return cv2.resize(packed, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def sample_profiles(
    atlas: ProfileAtlas,
    index: Tensor,
    vertices: Tensor,
    offsets: Tensor,
    unit: Tensor,
    size: int,
    start: Tensor | None = None,
) -> Tensor:
    """Return profiles along the normals of contours, uint8, (B, 3, N, K): image, blur, edge strength.

    Places outside the image read its border. If the starts of the contours are given, a fourth channel says
    how far each place lies outside its start: 0 at K / 2 units inside or more, 127 on it, 255 at K / 2
    outside or more.

    Args:
        atlas: The prepared images.
        index: Row of each contour, int64, (B,).
        vertices: (B, N, 2), in pixels of the working image.
        offsets: Places along the outward normal, in units, float32, (K,).
        unit: Pixels of a unit, float32, (B, 1).
        size: Side S of the working image.
        start: Contours at the start of the episodes, (B, N, 2), or None.
    """
    scale = atlas.cells.shape[-1] / size
    if is_compiled_for(vertices):
        seen = np.empty((len(vertices), 3 if start is None else 4, vertices.shape[1], len(offsets)), np.uint8)
        rows, contours, places, units = index.numpy(), vertices.numpy(), offsets.numpy(), unit.numpy()
        kernels.sample_images(*atlas.arrays, rows, contours, places, units, np.float32(scale), seen)
        if start is not None:
            kernels.sample_starts(contours, start.numpy(), places, units, seen)
        return torch.from_numpy(seen)
    image = atlas.image_of_row[index]  # (B,)
    profiles = _image_profiles(atlas.cells, image, vertices, offsets, unit * scale, scale)
    if start is None:
        return profiles
    return torch.cat([profiles, _start_profiles(vertices, start, offsets, unit)[:, None]], dim=1)


def _image_profiles(
    cells: Tensor, image: Tensor, vertices: Tensor, offsets: Tensor, unit: Tensor, scale: float
) -> Tensor:
    """Return the channels of images, uint8, (B, 3, N, K), given unit and pixel in fine pixels."""
    fine = cells.shape[-1]
    step = outward_normals(vertices) * unit[..., None]  # (B, N, 2)
    middle = (vertices + 0.5) * scale
    x = torch.addcmul(middle[..., :1], step[..., :1], offsets).clamp_(0, fine - 1)  # (B, N, K)
    y = torch.addcmul(middle[..., 1:], step[..., 1:], offsets).clamp_(0, fine - 1)
    cell = y.to(torch.int32).mul_(fine).add_(x.to(torch.int32))  # of one image: half the memory to move
    cell = cell + image[:, None, None] * (fine * fine)
    packed = cells.view(-1)[cell]  # (B, N, K)
    channels = packed.view(torch.uint8).view(*packed.shape, 4)[..., :3]  # (B, N, K, 3)
    return channels.permute(0, 3, 1, 2).contiguous()


def _start_profiles(vertices: Tensor, start: Tensor, offsets: Tensor, unit: Tensor) -> Tensor:
    """Return how far places lie outside the starts of their contours, uint8, (B, N, K).

    The distance of a vertex is measured from the tangent of the start at its nearest vertex, and grows along
    the profile by one per place. Near the start this is the signed distance, and it costs one matrix of
    distances instead of a map per episode.
    """
    nearest = torch.cdist(vertices, start).argmin(dim=2, keepdim=True).expand(-1, -1, 2)  # (B, N, 2)
    away = vertices - start.gather(1, nearest)
    distance = (away * outward_normals(start).gather(1, nearest)).sum(dim=-1) / unit  # (B, N)
    places = (distance[..., None] + offsets) / (len(offsets) / 2)  # (B, N, K)
    return (127.5 * (1 + places.clamp(-1, 1))).to(torch.uint8)
