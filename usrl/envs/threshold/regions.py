"""The regions of threshold selection, and the masks and Dice of their settings."""

from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.compute.rng import episode_keys, uniform
from usrl.data.bank import Bank
from usrl.data.components import clean_mask
from usrl.data.sample import Box
from usrl.envs.threshold import kernels
from usrl.envs.threshold.features import describe_settings, describe_shape, describe_tile
from usrl.envs.threshold.filters import filter_speckle
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.envs.threshold.tables import (
    Tables,
    ascend_tiles,
    best_alone,
    best_tiles,
    dice_from,
    join_tiles,
    spread_tiles,
)
from usrl.geometry.boxes import boxes_of_masks, move_sides
from usrl.geometry.regions import Region, Window, cut_region

_BOX_SEED = 2**41
"""Seed of the boxes of a bank's rows."""


class ThresholdRegions:
    """The regions of a bank: one after the other for each row, or one if the region is the image.

    There are C cases. A case is a region, or one of its sub-images, one after the other for each region.
    Settings are ranks, int64 (B, T): of a tile's threshold (``level``) and of its opening (``size``). Tables
    are prepared on first use, because the spaces of a task do not need them. ``boxes`` in working px, one per
    row of the bank, replace jittered ones.

    Attributes:
        tiles: T, of a case.
        windows: What a region's cases are, as rows and columns of the region.
        per_row: Cases of a row of the bank.
    """

    def __init__(self, bank: Bank, settings: ThresholdSettings, boxes: Sequence[Box] | None) -> None:
        if settings.roi == "network" and boxes is None:
            bank.require_proposals("roi='network'")
        self.settings = settings
        self.tiles = settings.tiling**2
        self.windows = list_windows(settings)
        self._regions_per_row = settings.boxes if settings.roi != "image" and boxes is None else 1
        self.per_row = self._regions_per_row * len(self.windows)
        self.tile = torch.arange(self.tiles, device=bank.device)
        self._bank = bank
        self._boxes = boxes

    @cached_property
    def cut(self) -> list[Region]:
        """The regions, one row of the bank after the other."""
        settings, images = self.settings, self._bank.images.cpu().numpy()
        ellipse = settings.support == "ellipse" and settings.roi != "image"
        image_of_region = self._bank.image_of_row.repeat_interleave(self._regions_per_row).tolist()
        return [
            cut_region(images[image], box, settings.margin, settings.side, is_ellipse=ellipse)
            for image, box in zip(image_of_region, self._prompts(), strict=True)
        ]

    @cached_property
    def cases(self) -> list[Region]:
        """The regions, or their sub-images."""
        if self.settings.cut == "tiles":
            return self.cut
        return [region.cut_window(window) for region in self.cut for window in self.windows]

    @cached_property
    def tables(self) -> Tables:
        """Masks and counts of every setting of every case."""
        settings = self.settings
        whole = self._bank.targets.cpu().numpy()
        targets, areas = [], []
        for number, case in enumerate(self.cases):
            target = whole[number // self.per_row]
            targets.append(case.cut_mask(target))
            # A sub-image answers for itself alone.
            missed = case.area_outside(target) if settings.cut == "tiles" else 0
            areas.append(targets[-1].sum() + missed)
        regions = [filter_speckle(r.image, settings.filter, settings.filter_px) for r in self.cut]
        smooth = [region[window] for region in regions for window in self.windows]
        return Tables.build(self.cases, smooth, targets, areas, settings, self._bank.device)

    @cached_property
    def best(self) -> Tensor:
        """The setting of each tile that gives the highest Dice, int64, (C, T, 2): opening and threshold.

        It is the global maximum. If several tiles are cleaned together, it is what ascent tile by tile finds
        from the maximum without cleaning. Of a sub-image it is the setting with the fewest wrong pixels.
        """
        if self.settings.cut == "subimages":
            return best_alone(self.tables)
        best = best_tiles(self.tables)
        if not self.settings.is_cleaned_per_step:
            return best
        case = torch.arange(len(self.tables), device=best.device)
        counts = (len(self.settings.diameters), self.settings.thresholds)
        return ascend_tiles(best, counts, lambda chosen: self.dice(case, chosen[..., 1], chosen[..., 0]))

    @cached_property
    def features(self) -> Tensor:
        """Features of every tile at every setting, uint8, (C, T, Z, K, 4).

        The fourth of a shape is its place: the number of the tile or the sub-image.
        """
        grid, has_shape = self.settings.tiling, self.settings.observation == "shape"
        opened = self._join(self.tables.opened.flatten(0, 1)).unflatten(0, (len(self.tables), -1))
        parts = zip(opened.cpu().numpy(), self.tables.levels.cpu().numpy(), self.cases, strict=True)
        describe = describe_shape if has_shape else describe_tile
        rows = [describe_settings(gray, levels, case.support, grid, describe) for gray, levels, case in parts]
        found = np.stack(rows)
        if has_shape:
            place = np.arange(self.places, dtype=np.uint8).reshape(-1, self.tiles, 1, 1, 1)
            place = np.tile(place, (len(found) // len(place), 1, *found.shape[2:4], 1))
            found = np.concatenate([found, place], axis=-1)
        return torch.from_numpy(found).to(self._bank.device)

    @property
    def places(self) -> int:
        """Number of tiles, or sub-images, of a region."""
        return self.tiles * len(self.windows)

    def dice(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the Dice of settings (B, T), float32, (B,)."""
        if is_compiled_for(case) and not self.settings.is_cleaned_per_step:
            parts = (self.tables.counts, self.tables.target_area, case, level, size)
            return torch.from_numpy(kernels.measure_dice(*(part.numpy() for part in parts)))
        return dice_from(self._counts(case, level, size), self.tables.target_area[case])

    def error(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the wrong pixels of settings (B, T) as a share of the case's pixels, float32, (B,).

        They are the exclusive or of mask and target, with the part of the target that a region leaves out.
        """
        taken, hit = self._counts(case, level, size).unbind(dim=1)
        return (taken + self.tables.target_area[case] - 2 * hit) / self.tables.targets[0].numel()

    def masks(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the masks of settings (B, T), bool, (B, s, s)."""
        gray = self.gray(case, size)
        # Shapes are made equal before the comparison, because a broadcast takes ten times as long.
        masks = gray <= spread_tiles(self.levels(case, level), self.settings.tiling, torch.empty_like(gray))
        if self.settings.clean == "none":
            return masks
        cleaned = [clean_mask(mask, self.settings.clean) for mask in masks.cpu().numpy()]
        return torch.from_numpy(np.stack(cleaned)).to(masks.device)

    def gray(self, case: Tensor, size: Tensor) -> Tensor:
        """Return regions opened by each tile's size (B, T), uint8, (B, s, s)."""
        opened = self.tables.opened
        tile = (case[:, None] * opened.shape[1] + size) * self.tiles + self.tile
        # index_select moves whole rows, but indexing would move bytes.
        rows = opened.view(-1, opened.shape[3]).index_select(0, tile.flatten())  # (B T, h * h)
        return self._join(rows.view(*size.shape, -1))

    def levels(self, case: Tensor, level: Tensor) -> Tensor:
        """Return the levels of thresholds (B, T) on the opened regions, uint8, (B, T)."""
        place = case[:, None] * self.settings.thresholds + level
        return self.tables.levels.view(-1).index_select(0, place.flatten()).view_as(level)

    def vote(self, masks: Tensor) -> Tensor:
        """Return the masks of whole regions, bool (R, s, s), from those of their sub-images, bool (C, h, w).

        A pixel is taken if at least half of the sub-images that hold it take it.
        """
        of_region = masks.unflatten(0, (-1, len(self.windows)))
        shape = (len(of_region), self.settings.side, self.settings.side)
        votes = torch.zeros(shape, dtype=torch.int64, device=masks.device)
        voters = torch.zeros_like(votes[0])
        for number, (rows, columns) in enumerate(self.windows):
            votes[:, rows, columns] += of_region[:, number]
            voters[rows, columns] += 1
        return 2 * votes >= voters

    def _counts(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the pixels that settings (B, T) take, and the target pixels among them, (B, 2)."""
        if self.settings.is_cleaned_per_step:
            mask = self.masks(case, level, size)
            hit = (mask & self.tables.targets[case]).flatten(1).sum(dim=1)
            return torch.stack([mask.flatten(1).sum(dim=1), hit], dim=1)
        counts = self.tables.counts  # (C, T, Z, K, 2)
        place = (case[:, None] * self.tiles + self.tile) * counts.shape[2] + size
        entry = (place * self.settings.thresholds + level).flatten()  # (B T,)
        return counts.view(-1, 2).index_select(0, entry).view(*level.shape, 2).sum(dim=1)

    def _join(self, tiles: Tensor) -> Tensor:
        """Return the tiles of regions or sub-images, uint8 (B, T, pixels), as pictures (B, h, w)."""
        if self.settings.cut == "tiles":
            return join_tiles(tiles, self.settings.grid)
        rows, columns = self.windows[0]
        return tiles.view(len(tiles), rows.stop, columns.stop)

    def _prompts(self) -> list[Box | None]:
        """Return the box of every region, or None for a whole image."""
        if self.settings.roi == "image":
            return [None] * len(self._bank)
        if self._boxes is not None:
            return list(self._boxes)
        network = self._bank.proposals if self.settings.roi == "network" else None
        masks = self._bank.targets if network is None else network
        exact = boxes_of_masks(masks.cpu()).repeat_interleave(self._regions_per_row, dim=0)  # (R, 4)
        cases = torch.arange(len(exact))
        shares = 2 * uniform(episode_keys(torch.full_like(cases, _BOX_SEED), cases), 4) - 1  # (R, 4)
        # The boxes of users are in double precision too.
        moved = move_sides(exact.double(), (shares * self.settings.jitter).double())
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in moved.tolist()]


def list_windows(settings: ThresholdSettings) -> list[Window]:
    """Return what is cut out of a region: all of it, or sub-images in raster order that overlap by half."""
    side = settings.side
    if settings.cut == "tiles":
        return [(slice(0, side), slice(0, side))]
    height, width = side // (2 * settings.grid), side // settings.grid
    corners = product(range(0, side - height + 1, height // 2), range(0, side - width + 1, width // 2))
    return [(slice(top, top + height), slice(left, left + width)) for top, left in corners]
