"""Look-up tables of every mask that thresholds and openings can give, and of its overlap with the target.

A flat opening commutes with thresholding: the opening of the pixels below t are the pixels of the gray
closing below t. So one gray image per opening size gives the mask of every threshold. Cumulative histograms
of that image give the pixels, and the target pixels, of each mask exactly. A step of an environment is then
a look-up.

Source:
    Serra (1982), Image Analysis and Mathematical Morphology, Academic Press: flat operators commute with
    thresholding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from torch import Tensor

from usrl.data.components import CleanName, clean_mask
from usrl.data.sample import BoolMask, GrayImage
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.geometry.kernels import Bytes
from usrl.geometry.regions import Region

NEVER = 255
"""Level of the pixels outside the support. No threshold takes them."""
_WORDS = ((torch.int64, 8), (torch.int32, 4), (torch.int16, 2), (torch.uint8, 1))
_SHARES = (0.01, 0.99)
"""Thresholds run between these quantiles of a region's gray levels: extremes would waste most of them."""


@dataclass(frozen=True)
class Tables:
    """Look-ups of C regions of side s, each with T tiles, Z openings and K thresholds.

    A sub-image is a region of one tile, (h, w) instead of (s, s).

    Attributes:
        images: Regions without filter, uint8, (C, s, s).
        opened: Gray closings of the filtered region (inverted if objects are bright), tile by tile, uint8,
            (C, Z, T, s * s / T); 255 outside the support.
        levels: Thresholds on ``opened``, uint8, (C, K), in rising order. A mask has the pixels up to a level.
        counts: Pixels taken, and target pixels among them, int32, (C, T, Z, K, 2); of the cleaned
            mask if there is one tile.
        targets: bool, (C, s, s).
        target_area: Size of the whole target, also outside the region, in px of the region, float32, (C,).
        start: The threshold nearest to Otsu's, int64, (C,).
    """

    images: Tensor
    opened: Tensor
    levels: Tensor
    counts: Tensor
    targets: Tensor
    target_area: Tensor
    start: Tensor

    @classmethod
    def build(
        cls,
        regions: Sequence[Region],
        filtered: Sequence[GrayImage],
        targets: Sequence[BoolMask],
        areas: Sequence[float],
        settings: ThresholdSettings,
        device: torch.device,
    ) -> "Tables":
        """Return the tables of regions, given the filtered images and targets (s, s) of each.

        ``areas`` are those of the whole targets, in px of the region.
        """
        rows = [
            _tabulate(smooth, region.support, target, settings)
            for region, smooth, target in zip(regions, filtered, targets, strict=True)
        ]
        opened, levels, counts, start = (np.stack(column) for column in zip(*rows, strict=True))
        images, tiles = np.stack([region.image for region in regions]), split_tiles(opened, settings.tiling)
        sizes = np.array(areas, np.float32)
        arrays = (images, tiles, levels, counts, np.stack(targets), sizes, start)
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))

    def __len__(self) -> int:
        """Return the number of regions C."""
        return len(self.images)


def split_tiles(array: Bytes, grid: int) -> Bytes:
    """Return squares (..., s, s) tile by tile in raster order, (..., T, s * s / T)."""
    *lead, height, width = array.shape
    cut = array.reshape(*lead, grid, height // grid, grid, width // grid).swapaxes(-3, -2)
    return cut.reshape(*lead, grid**2, -1)


def join_tiles(tiles: Tensor, grid: int) -> Tensor:
    """Return tiles (B, T, s * s / T), uint8 and contiguous, as squares (B, s, s)."""
    side = round(tiles.shape[2] ** 0.5)
    # Rows of a tile are moved in the widest words that divide them, several times as fast as bytes.
    word, width = next((kind, size) for kind, size in _WORDS if side % size == 0)
    cut = tiles.view(word).view(-1, grid, grid, side, side // width).transpose(2, 3)
    return cut.reshape(-1, grid * side, grid * side // width).view(torch.uint8)


def spread_tiles(values: Tensor, grid: int, out: Tensor) -> Tensor:
    """Write one value per tile (B, T) to all its pixels in squares (B, s, s), and return the squares."""
    rows = values.view(-1, grid, grid).repeat_interleave(out.shape[2] // grid, dim=2)  # (B, G, s)
    out.unflatten(1, (grid, -1)).copy_(rows[:, :, None])
    return out


def dice_from(counts: Tensor, target_area: Tensor) -> Tensor:
    """Return the Dice (...) of counts (..., 2): pixels taken and target pixels among them; 1 if empty."""
    total = counts[..., 0] + target_area
    return torch.where(total > 0, 2 * counts[..., 1] / total.clamp_min(1), 1.0)


def best_alone(tables: Tables) -> Tensor:
    """Return the setting of regions of one tile that has the fewest wrong pixels, int64, (C, 1, 2).

    Many sub-images hold no target, and Dice would call all their masks equally bad.
    """
    wrong = tables.counts[..., 0] - 2 * tables.counts[..., 1]  # (C, 1, Z, K); the target adds a constant
    best, count = wrong.flatten(2).argmin(dim=2), tables.levels.shape[1]
    return torch.stack([best // count, best % count], dim=2)


def best_tiles(tables: Tables) -> Tensor:
    """Return the setting of every tile that together gives the highest Dice, int64, (C, T, 2).

    Dice is a ratio of sums over tiles, whose global maximum Dinkelbach's method finds. For a guess d of the
    best Dice, each tile takes the setting that maximises 2 overlap - d size. The Dice of these settings is
    the next guess. The guesses rise to the maximum within a few rounds.

    Source:
        Dinkelbach (1967), On nonlinear fractional programming, Management Science 13(7):492-498,
        doi:10.1287/mnsc.13.7.492.
    """
    flat = tables.counts.flatten(2, 3).to(torch.float64)  # (C, T, Z K, 2)
    guess = torch.zeros(len(tables), dtype=torch.float64, device=flat.device)
    while True:
        gain = 2 * flat[..., 1] - guess[:, None, None] * flat[..., 0]  # (C, T, Z K)
        best = gain.argmax(dim=2)  # (C, T)
        chosen = flat.gather(2, best[:, :, None, None].expand(-1, -1, 1, 2))[:, :, 0]  # (C, T, 2)
        reached = dice_from(chosen.sum(dim=1), tables.target_area.double())
        if not bool((reached > guess + 1e-12).any()):
            count = tables.levels.shape[1]
            return torch.stack([best // count, best % count], dim=2)
        guess = torch.maximum(guess, reached)


def ascend_tiles(start: Tensor, counts: tuple[int, int], score: Callable[[Tensor], Tensor]) -> Tensor:
    """Return settings that no change of a single tile improves, by coordinate ascent from a start.

    This serves scores that are not a sum over tiles, as when the whole mask is cleaned. Settings are openings
    and thresholds, int64 (C, T, 2), of which there are ``counts``. The score of settings is (C,).
    """
    best, reached = start.clone(), score(start)
    improved = True
    while improved:
        improved = False
        for tile, size, level in product(range(start.shape[1]), range(counts[0]), range(counts[1])):
            tried = best.clone()
            tried[:, tile] = tried.new_tensor([size, level])
            found = score(tried)
            better = found > reached + 1e-6  # (C,)
            improved |= bool(better.any())
            best[better], reached = tried[better], torch.maximum(found, reached)
    return best


def _tabulate(
    smooth: GrayImage, support: BoolMask, target: BoolMask, settings: ThresholdSettings
) -> tuple[Bytes, Bytes, NDArray[np.int32], np.int64]:
    """Return gray openings (Z, s, s), levels (K,), counts (T, Z, K, 2) and the start of one region."""
    smooth = 255 - smooth if settings.polarity == "bright" else smooth
    low, high = np.quantile(smooth[support], _SHARES if settings.cut == "tiles" else (0, 1))
    levels = np.rint(np.linspace(low, high, settings.thresholds)).clip(0, NEVER - 1).astype(np.uint8)
    closed = [_close(smooth, diameter) for diameter in settings.diameters]
    opened = np.stack([np.where(support, gray, NEVER).astype(np.uint8) for gray in closed])
    if settings.clean != "none" and settings.tiling == 1:
        counts = _count_cleaned(opened, levels, target, settings.clean)
    else:
        counts = _count_tiles(opened, levels, target, settings.tiling)
    otsu = threshold_otsu(smooth[support])
    return opened, levels, counts, np.abs(levels.astype(np.int64) - int(otsu)).argmin()


def _count_tiles(opened: Bytes, levels: Bytes, target: BoolMask, grid: int) -> NDArray[np.int32]:
    """Return pixels and target pixels up to each level, by cumulative histograms, (T, Z, K, 2)."""
    tiles = grid**2
    place = np.arange(tiles, dtype=np.int64)[:, None] * 256
    hit = split_tiles(target.view(np.uint8), grid).ravel().view(np.bool_)
    counts = np.empty((tiles, len(opened), len(levels), 2), np.int32)
    for size, gray in enumerate(opened):
        bins = (split_tiles(gray, grid) + place).ravel()
        for column, chosen in enumerate((bins, bins[hit])):
            histogram = np.bincount(chosen, minlength=tiles * 256).reshape(tiles, 256)
            counts[:, size, :, column] = histogram.cumsum(axis=1)[:, levels]
    return counts


def _count_cleaned(opened: Bytes, levels: Bytes, target: BoolMask, clean: CleanName) -> NDArray[np.int32]:
    """Return pixels and target pixels of every cleaned mask, (1, Z, K, 2)."""
    counts = np.empty((1, len(opened), len(levels), 2), np.int32)
    for size, gray in enumerate(opened):
        for rank, level in enumerate(levels):
            mask = clean_mask(gray <= level, clean)
            counts[0, size, rank] = np.count_nonzero(mask), np.count_nonzero(mask & target)
    return counts


def _close(gray: GrayImage, diameter: int) -> GrayImage:
    """Return the gray closing by a disc; one of two pixels is a square of 2 x 2."""
    shape = cv2.MORPH_ELLIPSE if diameter % 2 else cv2.MORPH_RECT
    disc = cv2.getStructuringElement(shape, (diameter, diameter))
    # An even disc has no middle pixel. If both steps had one anchor, the mask would move by a pixel.
    first, second = (diameter - 1) // 2, diameter // 2
    grown = cv2.dilate(gray, disc, anchor=(first, first))
    return np.asarray(cv2.erode(grown, disc, anchor=(second, second)), np.uint8)
