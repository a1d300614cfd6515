"""Slices of bodies as a probe sees them."""

import math
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.data.bodies import kernels
from usrl.data.bodies.poses import rotations
from usrl.data.bodies.tissues import (
    FASCIA,
    FLOOR_DB,
    LOSS_STEP_DB,
    SOFT_LOSS_DB_MM,
    SPECKLE_FLOOR_DB,
    SPECKLE_RANGE_DB,
)
from usrl.data.bodies.volumes import LABEL, SHAPE, SPACING_MM, Volumes

DYNAMIC_RANGE_DB = 60.0
GAIN_DB = 7.0
"""Gain on top of time gain compensation; a level of 0 dB would else be white."""
SPECULAR_DB = 25.0
"""How much weaker a fascia is that the beam grazes: by this times the squared sine of its angle."""
SECTOR_RADIUS, SECTOR_HALF_ANGLE = 0.75, math.radians(30)
"""Radius of a curved probe's face as a share of the depth of its slice, and half its opening."""
_MIDDLE = (SHAPE[0] - 1) / 2
"""Voxel below the middle of the skin, along x and y."""
_GRAY_PER_DB = 255 / DYNAMIC_RANGE_DB


class Scanner:
    """Computes B-mode slices and the labels in them.

    Along each ray, the echo level of the tissue and its speckle add up in dB, and what the tissue above took
    away is subtracted. The sum is compressed to gray levels. Speckle belongs to the tissue.

    Args:
        volumes: The bodies.
        side: S, side of slices, px.
        depth_mm: Depth of a slice, and width of that of a linear probe, mm.
        geometry: ``linear`` for parallel rays, ``sector`` for those of a curved probe.
    """

    def __init__(
        self,
        volumes: Volumes,
        side: int = 64,
        depth_mm: float = 48.0,
        geometry: Literal["linear", "sector"] = "linear",
    ) -> None:
        self._volumes = volumes
        self.side, device = side, volumes.device
        place = (np.arange(self.side) + 0.5) / self.side - 0.5  # of each pixel's middle, from -0.5 to 0.5
        if geometry == "linear":
            ones, step = np.ones(self.side), depth_mm / self.side
            rays = np.stack([place * depth_mm, 0 * ones, 0 * ones, step * ones], axis=1)
            self._table = None
        else:
            rays, step, table = _sector(place, depth_mm)
            self._table = torch.from_numpy(table.clip(0)).to(device)
            self._inside = torch.from_numpy((table >= 0).astype(np.uint8)).to(device)
        self._rays = torch.from_numpy(rays.astype(np.float32)).to(device)
        code = [-FLOOR_DB / 255, LOSS_STEP_DB * step, SPECKLE_RANGE_DB / 255]  # dB per code
        self._levels = torch.tensor(code, device=device) * _GRAY_PER_DB
        base_db = DYNAMIC_RANGE_DB + FLOOR_DB + GAIN_DB + SPECKLE_FLOOR_DB
        physics = [base_db, SOFT_LOSS_DB_MM * step, SPECULAR_DB]
        scaled = [value * _GRAY_PER_DB for value in physics]
        self._physics = torch.tensor([*scaled, FASCIA], device=device)

    def scan(
        self, body: Tensor, poses: Tensor, squeeze: Tensor | None = None, lit: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return slices and the labels in them, uint8, (B, S, S) each: rows along depth, columns across.

        What is above the skin, outside of the sector or without contact is 0 in both.

        Args:
            body: Row of each body, int64, (B,).
            poses: Poses of the probes in the coordinates of the bodies, (B, 5).
            squeeze: Factor by which pressing makes depths shrink, float32, (B,); 1 if None.
            lit: Share of the rays, from the middle outwards, that touch the skin, float32, (B,); 1 if None.
        """
        ones = torch.ones(len(body), device=poses.device)
        squeeze, lit = (ones if given is None else given for given in (squeeze, lit))
        place = poses[:, :2] / SPACING_MM + _MIDDLE
        origin = torch.cat([place, torch.full_like(ones, -0.5)[:, None]], dim=1)
        axes = rotations(poses)[:, :, ::2].transpose(1, 2).contiguous() / SPACING_MM  # (B, 2, 3)
        arguments = (body, origin, axes, self._rays, squeeze, lit, self._levels, self._physics)
        if is_compiled_for(poses):
            shape = (2, len(body), self.side, self.side)
            gray, labels = torch.empty(shape, dtype=torch.uint8)
            packed = self._volumes.voxels.numpy().view(np.uint32)[..., 0]
            numbers = [argument.numpy() for argument in (*arguments, gray, labels)]
            kernels.scan(packed, *numbers)
        else:
            gray, labels = scan_tensors(self._volumes.voxels, *arguments)
        return self._convert(gray), self._convert(labels)

    def _convert(self, polar: Tensor) -> Tensor:
        """Return a slice by pixel from one by sample and ray."""
        if self._table is None:
            return polar
        shown = polar.flatten(1).index_select(1, self._table) * self._inside
        return shown.view_as(polar)


def _sector(
    place: NDArray[np.float64], depth_mm: float
) -> tuple[NDArray[np.float64], float, NDArray[np.int64]]:
    """Return rays of a curved probe (S, 4), mm per sample, and the sample of each pixel, (S * S,), or -1.

    The middle of the probe's curved face touches the skin; its ends are above the skin, in the gel.
    """
    side, radius = len(place), SECTOR_RADIUS * depth_mm
    angle = 2 * place * SECTOR_HALF_ANGLE
    sine, cosine = np.sin(angle), np.cos(angle)
    step = depth_mm / side
    rays = np.stack([radius * sine, radius * (cosine - 1), step * sine, step * cosine], axis=1)
    across = 2 * place[None, :] * (radius + depth_mm) * np.sin(SECTOR_HALF_ANGLE)  # the width of the sector
    drop = radius * (1 - np.cos(SECTOR_HALF_ANGLE))  # of the face's ends
    down = (place[:, None] + 0.5) * (depth_mm + drop) + radius - drop
    ray = np.floor((np.arctan2(across, down) / SECTOR_HALF_ANGLE + 1) / 2 * side)
    sample = np.floor((np.hypot(across, down) - radius) / step)
    is_inside = (ray >= 0) & (ray < side) & (sample >= 0) & (sample < side)
    return rays, step, np.where(is_inside, sample * side + ray, -1).astype(np.int64).ravel()


def scan_tensors(
    voxels: Tensor,
    body: Tensor,
    origin: Tensor,
    axes: Tensor,
    rays: Tensor,
    squeeze: Tensor,
    lit: Tensor,
    levels: Tensor,
    physics: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return what `kernels.scan` writes, from the same arguments as tensors of any device."""
    side, (_, rows, columns, depths, _) = len(rays), voxels.shape
    start = rays[:, :2] @ axes  # (B, S, 3): of each ray
    step = rays[:, 2:] @ axes
    cosine = step[..., 2] / step.norm(dim=2)
    glance = physics[2] * (1 - cosine**2)  # (B, S)
    ones = torch.ones_like(squeeze)
    press = torch.stack([ones, ones, squeeze], dim=1)[:, None]  # (B, 1, 3)
    begin, step = origin[:, None] + start * press, step * press
    count = torch.arange(side, device=rays.device) + 0.5
    x, y, z = (begin[:, None] + count[:, None, None] * step[:, None]).unbind(dim=3)  # (B, samples, rays) each
    reach = (2 * count / side - 1).abs()
    dark = (z < -0.5) | (reach > lit[:, None])[:, None]
    x, y, z = x.clamp(0, columns - 1), y.clamp(0, rows - 1), z.clamp(0, depths - 1)
    j, i, k = (part.long().clamp_max(most - 2) for part, most in ((x, columns), (y, rows), (z, depths)))
    fx, fy, fz = x - j, y - i, z - k
    flat = voxels.view(torch.int32).flatten()
    place = ((body[:, None, None] * rows + i) * columns + j) * depths + k
    corner = partial(_corner, flat, place, (columns * depths, depths, 1))
    sums = [torch.zeros_like(x) for _ in range(3)]
    for at in range(8):
        di, dj, dk = at >> 2, at >> 1 & 1, at & 1
        weight = (fy if di else 1 - fy) * (fx if dj else 1 - fx) * (fz if dk else 1 - fz)
        packed = corner(di, dj, dk)
        for channel, total in enumerate(sums):
            total += weight * (packed >> 8 * channel & 255)
    nearest = corner((fy >= 0.5).long(), (fx >= 0.5).long(), (fz >= 0.5).long())
    labels = nearest >> 8 * LABEL & 255
    echo, loss, speckle = (total.masked_fill(dark, 0) for total in sums)
    taken = (loss * levels[1] - physics[1]).masked_fill(dark, 0)
    lost = taken.cumsum(dim=1) - taken
    value = physics[0] + echo * levels[0] + speckle * levels[2] - lost
    value = value - glance[:, None] * (labels == physics[3])
    gray = value.clamp(0, 255).to(torch.uint8).masked_fill(dark, 0)
    return gray, labels.to(torch.uint8).masked_fill(dark, 0)


def _corner(
    flat: Tensor,
    place: Tensor,
    strides: tuple[int, int, int],
    di: int | Tensor,
    dj: int | Tensor,
    dk: int | Tensor,
) -> Tensor:
    """Return the packed voxels next to places, each some rows, columns and depths away."""
    return flat[place + di * strides[0] + dj * strides[1] + dk * strides[2]]
