"""Scores and observations of thresholds on the CPU: compiled loops, see `usrl.compute.compiled`."""

import numpy as np
from numpy.typing import NDArray

from usrl.compute.compiled import compiled
from usrl.geometry.kernels import Bytes, Floats, Places

INSIDE, OUTSIDE = np.uint8(255), np.uint8(0)


@compiled
def measure_dice(
    counts: NDArray[np.int32], target_area: Floats, case: Places, level: Places, size: Places
) -> Floats:
    """Return the Dice of settings, (B,); see `usrl.envs.threshold.regions.ThresholdRegions.dice`."""
    batch, tiles = level.shape
    dice = np.ones(batch, np.float32)
    for b in range(batch):
        taken, hit = 0, 0
        for tile in range(tiles):
            entry = counts[case[b], tile, size[b, tile], level[b, tile]]
            taken, hit = taken + entry[0], hit + entry[1]
        total = np.float32(taken) + target_area[case[b]]
        if total > 0:
            dice[b] = np.float32(2 * hit) / max(total, np.float32(1))
    return dice


@compiled
def draw_settings(
    images: Bytes, opened: Bytes, levels: Bytes, case: Places, level: Places, size: Places, seen: Bytes
) -> None:
    """Write image, mask (0 or 255) and threshold map into the first channels of seen, (B, 3 or more, s, s).

    Images (C, s, s), opened (C, Z, T, h * h) and levels (C, K) are those of `Tables`. Each environment has a
    case (B,), and each tile a level and a size (B, T).
    """
    batch, tiles = level.shape
    side = seen.shape[2]
    grid = int(np.sqrt(tiles))
    width = side // grid
    for b in range(batch):
        # These are loops because Numba takes seconds to compile an assignment that compares shapes.
        for row in range(side):
            for column in range(side):
                seen[b, 0, row, column] = images[case[b], row, column]
        for tile in range(tiles):
            top, left = tile // grid * width, tile % grid * width
            limit = levels[case[b], level[b, tile]]
            gray = opened[case[b], size[b, tile], tile]
            for row in range(width):
                # Slices and constants of one byte let the compiler process many pixels at once.
                pixels = gray[row * width : (row + 1) * width]
                mask = seen[b, 1, top + row, left : left + width]
                for column in range(width):
                    mask[column] = INSIDE if pixels[column] <= limit else OUTSIDE
                seen[b, 2, top + row, left : left + width] = limit
