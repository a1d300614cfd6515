"""The regions of threshold selection, and the masks and Dice of their settings."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.compute.rng import episode_keys, uniform
from usrl.data.bank import Bank
from usrl.data.components import clean_mask
from usrl.data.sample import Box
from usrl.envs.threshold import kernels
from usrl.envs.threshold.features import describe_settings
from usrl.envs.threshold.filters import filter_speckle
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.envs.threshold.tables import (
    Tables,
    ascend_tiles,
    best_tiles,
    dice_from,
    join_tiles,
    spread_tiles,
)
from usrl.geometry.boxes import boxes_of_masks, move_sides
from usrl.geometry.regions import Region, cut_region

_BOX_SEED = 2**41
"""Seed of the boxes of a bank's rows."""


class ThresholdRegions:
    """C regions of a bank: one after the other for each row, or one if the region is the image.

    Settings are ranks, int64 (B, T): of a tile's threshold (``level``) and of its opening (``size``). Tables
    are prepared on first use, because the spaces of a task do not need them. ``boxes`` in working px, one per
    row of the bank, replace jittered ones.
    """

    def __init__(self, bank: Bank, settings: ThresholdSettings, boxes: Sequence[Box] | None) -> None:
        if settings.roi == "network" and boxes is None:
            bank.require_proposals("roi='network'")
        self.settings = settings
        self.tiles = settings.grid**2
        self.per_row = settings.boxes if settings.roi != "image" and boxes is None else 1
        self.tile = torch.arange(self.tiles, device=bank.device)
        self._bank = bank
        self._boxes = boxes

    @cached_property
    def cut(self) -> list[Region]:
        """The regions, one row of the bank after the other."""
        settings, images = self.settings, self._bank.images.cpu().numpy()
        ellipse = settings.support == "ellipse" and settings.roi != "image"
        image_of_case = self._bank.image_of_row.repeat_interleave(self.per_row).tolist()
        return [
            cut_region(images[image], box, settings.margin, settings.side, is_ellipse=ellipse)
            for image, box in zip(image_of_case, self._prompts(), strict=True)
        ]

    @cached_property
    def tables(self) -> Tables:
        """Masks and counts of every setting of every region."""
        settings = self.settings
        whole = self._bank.targets.cpu().numpy()
        targets, areas = [], []
        for case, region in enumerate(self.cut):
            targets.append(region.cut_mask(whole[case // self.per_row]))
            areas.append(targets[-1].sum() + region.area_outside(whole[case // self.per_row]))
        smooth = [filter_speckle(r.image, settings.filter, settings.filter_px) for r in self.cut]
        return Tables.build(self.cut, smooth, targets, areas, settings, self._bank.device)

    @cached_property
    def best(self) -> Tensor:
        """The setting of each tile that gives the highest Dice, int64, (C, T, 2): opening and threshold.

        It is the global maximum. If several tiles are cleaned together, it is what ascent tile by tile finds
        from the maximum without cleaning.
        """
        best = best_tiles(self.tables)
        if not self.settings.is_cleaned_per_step:
            return best
        case = torch.arange(len(self.tables), device=best.device)
        counts = (self.settings.sizes, self.settings.thresholds)
        return ascend_tiles(best, counts, lambda chosen: self.dice(case, chosen[..., 1], chosen[..., 0]))

    @cached_property
    def features(self) -> Tensor:
        """Features of every tile at every setting, uint8, (C, T, Z, K, 4)."""
        grid, count = self.settings.grid, len(self.tables)
        opened = join_tiles(self.tables.opened.flatten(0, 1), grid).unflatten(0, (count, -1)).cpu().numpy()
        parts = zip(opened, self.tables.levels.cpu().numpy(), self.cut, strict=True)
        rows = [describe_settings(gray, levels, region.support, grid) for gray, levels, region in parts]
        return torch.from_numpy(np.stack(rows)).to(self._bank.device)

    def dice(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the Dice of settings (B, T), float32, (B,)."""
        if self.settings.is_cleaned_per_step:
            mask = self.masks(case, level, size)
            hit = (mask & self.tables.targets[case]).flatten(1).sum(dim=1)
            counts = torch.stack([mask.flatten(1).sum(dim=1), hit], dim=1)
        elif is_compiled_for(case):
            parts = (self.tables.counts, self.tables.target_area, case, level, size)
            return torch.from_numpy(kernels.measure_dice(*(part.numpy() for part in parts)))
        else:
            place = (case[:, None] * self.tiles + self.tile) * self.settings.sizes + size
            entry = (place * self.settings.thresholds + level).flatten()  # (B T,)
            counts = self.tables.counts.view(-1, 2).index_select(0, entry).view(*level.shape, 2).sum(dim=1)
        return dice_from(counts, self.tables.target_area[case])

    def masks(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the masks of settings (B, T), bool, (B, s, s)."""
        gray = self.gray(case, size)
        # Shapes are made equal before the comparison, because a broadcast takes ten times as long.
        masks = gray <= spread_tiles(self.levels(case, level), self.settings.grid, torch.empty_like(gray))
        if self.settings.clean == "none":
            return masks
        cleaned = [clean_mask(mask, self.settings.clean) for mask in masks.cpu().numpy()]
        return torch.from_numpy(np.stack(cleaned)).to(masks.device)

    def gray(self, case: Tensor, size: Tensor) -> Tensor:
        """Return regions opened by each tile's size (B, T), uint8, (B, s, s)."""
        opened = self.tables.opened
        tile = (case[:, None] * self.settings.sizes + size) * self.tiles + self.tile
        # index_select moves whole rows, but indexing would move bytes.
        rows = opened.view(-1, opened.shape[3]).index_select(0, tile.flatten())  # (B T, h * h)
        return join_tiles(rows.view(*size.shape, -1), self.settings.grid)

    def levels(self, case: Tensor, level: Tensor) -> Tensor:
        """Return the levels of thresholds (B, T) on the opened regions, uint8, (B, T)."""
        place = case[:, None] * self.settings.thresholds + level
        return self.tables.levels.view(-1).index_select(0, place.flatten()).view_as(level)

    def _prompts(self) -> list[Box | None]:
        """Return the box of every region, or None for a whole image."""
        if self.settings.roi == "image":
            return [None] * len(self._bank)
        if self._boxes is not None:
            return list(self._boxes)
        network = self._bank.proposals if self.settings.roi == "network" else None
        masks = self._bank.targets if network is None else network
        exact = boxes_of_masks(masks.cpu()).repeat_interleave(self.per_row, dim=0)  # (C, 4)
        cases = torch.arange(len(exact))
        shares = 2 * uniform(episode_keys(torch.full_like(cases, _BOX_SEED), cases), 4) - 1  # (C, 4)
        # The boxes of users are in double precision too.
        moved = move_sides(exact.double(), (shares * self.settings.jitter).double())
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in moved.tolist()]
