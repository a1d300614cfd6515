"""Tables against thresholding, opening and counting pixel by pixel, and the oracle against all settings."""

from itertools import product
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from usrl.data.components import clean_mask
from usrl.envs.threshold.filters import filter_speckle
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.envs.threshold.tables import (
    Tables,
    ascend_tiles,
    best_tiles,
    dice_from,
    join_tiles,
    split_tiles,
)
from usrl.geometry.regions import Region
from usrl.metrics.overlap import dice

CPU = torch.device("cpu")


def make_region(seed: int, side: int = 48) -> tuple[Region, np.ndarray]:
    """Return a region of smooth noise with a dark blob, and its target."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:side, :side]
    target = (rows - 0.45 * side) ** 2 + (columns - 0.55 * side) ** 2 < (0.3 * side) ** 2
    level = np.where(target, 70, 120) * rng.rayleigh(0.8, (side, side))
    image = filter_speckle(np.clip(level, 0, 255).astype(np.uint8), "median", 3)
    support = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (0.48 * side) ** 2
    return Region(image, support, (0.0, 0.0, side, side)), target


def threshold_region(
    smooth: np.ndarray, support: np.ndarray, level: int, diameter: int, polarity: str = "dark"
) -> np.ndarray:
    """Return a mask the plain way, pixel by pixel: threshold, open, cut to the support."""
    dark = smooth if polarity == "dark" else 255 - smooth
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return (cv2.morphologyEx((dark <= level).astype(np.uint8), cv2.MORPH_OPEN, disk) > 0) & support


def make_tables(count: int = 3, **settings: Any) -> tuple[Tables, list[Region], list[np.ndarray]]:
    pairs = [make_region(seed) for seed in range(count)]
    regions, targets = [p[0] for p in pairs], [p[1] for p in pairs]
    chosen = ThresholdSettings(**({"grid": 2, "thresholds": 9, "sizes": 3} | settings))
    areas = [float(t.sum()) for t in targets]
    return Tables.build(regions, [r.image for r in regions], targets, areas, chosen, CPU), regions, targets


@pytest.mark.parametrize("polarity", ["dark", "bright"])
@pytest.mark.parametrize("grid", [1, 2, 4])
def test_counts_agree_exactly_with_opencv_pixel_by_pixel(grid: int, polarity: str) -> None:
    tables, regions, targets = make_tables(grid=grid, polarity=polarity)
    rng = np.random.default_rng(grid)
    for _ in range(60):
        case, tile = int(rng.integers(3)), int(rng.integers(grid**2))
        size, rank = int(rng.integers(3)), int(rng.integers(9))
        level = int(tables.levels[case, rank])
        mask = threshold_region(
            regions[case].image,
            regions[case].support,
            level,
            2 * size + 1,
            polarity,
        )
        taken = split_tiles(mask.view(np.uint8), grid)[tile] > 0
        hit = taken & (split_tiles(targets[case].view(np.uint8), grid)[tile] > 0)
        assert tables.counts[case, tile, size, rank].tolist() == [taken.sum(), hit.sum()]


def test_dice_of_a_setting_is_that_of_the_mask_put_together_from_its_tiles() -> None:
    tables, regions, targets = make_tables()
    rng = np.random.default_rng(5)
    for _ in range(20):
        case = int(rng.integers(3))
        setting = [(int(rng.integers(3)), int(rng.integers(9))) for _ in range(4)]
        parts = [
            split_tiles(
                threshold_region(
                    regions[case].image, regions[case].support, int(tables.levels[case, rank]), 2 * size + 1
                ).view(np.uint8),
                2,
            )[tile]
            for tile, (size, rank) in enumerate(setting)
        ]
        mask = join_tiles(torch.from_numpy(np.stack(parts))[None], 2)[0].numpy() > 0
        counts = sum(tables.counts[case, tile, size, rank] for tile, (size, rank) in enumerate(setting))
        found = dice_from(counts, tables.target_area[case])
        assert float(found) == pytest.approx(dice(mask, targets[case]), abs=1e-6)


@pytest.mark.parametrize("clean", ["largest", "holes", "largest+holes"])
def test_the_table_of_a_single_tile_counts_cleaned_masks(clean: Any) -> None:
    tables, regions, targets = make_tables(grid=1, clean=clean)
    for size, rank in product(range(3), range(9)):
        level = int(tables.levels[1, rank])
        mask = clean_mask(threshold_region(regions[1].image, regions[1].support, level, 2 * size + 1), clean)
        assert tables.counts[1, 0, size, rank].tolist() == [mask.sum(), (mask & targets[1]).sum()]


def test_tiles_are_split_and_joined_in_raster_order() -> None:
    square = np.arange(36, dtype=np.uint8).reshape(6, 6)
    tiles = split_tiles(square, 3)
    assert tiles[1].tolist() == [2, 3, 8, 9]
    np.testing.assert_array_equal(join_tiles(torch.from_numpy(tiles)[None], 3)[0].numpy(), square)


def test_the_best_setting_of_a_single_tile_beats_every_other() -> None:
    tables, regions, targets = make_tables(grid=1)
    best = best_tiles(tables)[:, 0]
    for case in range(3):
        scores = {
            (size, rank): dice(
                threshold_region(
                    regions[case].image, regions[case].support, int(tables.levels[case, rank]), 2 * size + 1
                ),
                targets[case],
            )
            for size, rank in product(range(3), range(9))
        }
        assert scores[int(best[case, 0]), int(best[case, 1])] == max(scores.values())


def dice_of(tables: Tables, settings: torch.Tensor) -> torch.Tensor:
    case, tile = torch.arange(len(tables))[:, None], torch.arange(settings.shape[1])
    counts = tables.counts[case, tile, settings[..., 0], settings[..., 1]].sum(dim=1)
    return dice_from(counts, tables.target_area)


def test_the_best_tiles_are_proved_by_trying_every_combination() -> None:
    tables, _, _ = make_tables(thresholds=4, sizes=2)
    every = [
        dice_of(tables, torch.tensor(setting).view(1, 4, 2).expand(3, -1, -1))
        for setting in product(*[range(2), range(4)] * 4)
    ]
    assert torch.equal(dice_of(tables, best_tiles(tables)), torch.stack(every).amax(dim=0))


def test_tiles_do_at_least_as_well_as_one_threshold_and_ascent_does_not_improve_them() -> None:
    tables, _, _ = make_tables(grid=4)
    together = best_tiles(make_tables(grid=1)[0]).expand(-1, 16, -1)  # one setting for the whole region
    best = best_tiles(tables)
    assert (dice_of(tables, best) > dice_of(tables, together)).all()
    climbed = ascend_tiles(together, (3, 9), lambda chosen: dice_of(tables, chosen))
    assert (dice_of(tables, climbed) > dice_of(tables, together)).all()
    assert (dice_of(tables, climbed) <= dice_of(tables, best) + 1e-6).all()
    assert torch.equal(ascend_tiles(best, (3, 9), lambda chosen: dice_of(tables, chosen)), best)


def test_a_region_of_one_level_is_taken_whole_by_every_setting() -> None:
    support = make_region(0)[0].support
    flat = Region(np.full((48, 48), 80, np.uint8), support, (0.0, 0.0, 48.0, 48.0))
    settings = ThresholdSettings(grid=2, thresholds=9, sizes=3)
    tables = Tables.build([flat], [flat.image], [support], [float(support.sum())], settings, CPU)
    counts = tables.counts.sum(dim=1)
    assert (counts == int(support.sum())).all()
    assert torch.equal(dice_of(tables, best_tiles(tables)), torch.ones(1))


def test_two_empty_masks_agree() -> None:
    assert dice_from(torch.tensor([0, 0]), torch.tensor(0.0)) == 1
    assert dice_from(torch.tensor([5, 0]), torch.tensor(0.0)) == 0
