"""Threshold selection: each tile of a region gets a threshold and an opening until the mask fits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from usrl.data.bank import Bank
from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, Box
from usrl.envs.rendering import draw_mask_step
from usrl.envs.rng import episode_keys, uniform
from usrl.envs.task import State
from usrl.errors import UserError
from usrl.recipes import Strict
from usrl.thresholding.cleaning import CleanName, clean_mask
from usrl.thresholding.features import BINS, describe_settings
from usrl.thresholding.filters import FilterName, filter_speckle
from usrl.thresholding.oracle import ascend_tiles, best_tiles, dice_of_counts
from usrl.thresholding.regions import Region, cut_region
from usrl.thresholding.tables import Choices, Polarity, Tables, join_tiles, spread_tiles

CHOICES = 3
"""Lower, keep and raise a threshold; smaller, keep and larger opening."""
_BOX_SEED = 2**41
"""Seed of the boxes that a bank's rows are prepared with."""


class ThresholdSettings(Strict):
    """Arguments of the environment; the class docstring of `ThresholdTask` describes them."""

    grid: Annotated[int, Field(ge=1, le=8)] = 2
    thresholds: Annotated[int, Field(ge=2, le=256)] = 16
    sizes: Annotated[int, Field(ge=1, le=16)] = 4
    side: Annotated[int, Field(ge=36, le=512)] = 64
    filter: FilterName = "median"
    filter_px: Annotated[int, Field(ge=3, le=31)] = 5
    polarity: Polarity = "dark"
    roi: Literal["box", "image"] = "box"
    support: Literal["ellipse", "rectangle"] = "ellipse"
    margin: Annotated[float, Field(ge=0, le=1)] = 0.1
    jitter: Annotated[float, Field(ge=0, le=0.45)] = 0.2
    boxes: Annotated[int, Field(ge=1, le=64)] = 4
    clean: CleanName = "none"
    action: Literal["tiles", "raster"] = "tiles"
    observation: Literal["image", "features"] = "image"
    reward: Literal["dice", "iou", "sign"] = "dice"


@dataclass(frozen=True)
class ThresholdState(State):
    """State of a batch of regions.

    Attributes:
        case: Row of the tables, int64, (B,).
        level: Threshold of each tile, as its rank, int64, (B, T).
        size: Opening of each tile, as its rank, int64, (B, T).
    """

    case: Tensor
    level: Tensor
    size: Tensor


class ThresholdTask:
    """Set a threshold and an opening for every tile of a region until the mask fits the lesion.

    Description:
        A square region is cut out of an ultrasound image, its speckle filtered, and divided into G x G
        tiles. A pixel belongs to the mask if its filtered gray level reaches its tile's threshold, after
        a morphological opening of its tile's size. Openings see across tile borders, so tiles leave no
        seams. Masks and Dice of every setting are tabulated beforehand: a step looks them up.

    Action Space:
        | action | space | meaning |
        | --- | --- | --- |
        | `tiles` | `MultiDiscrete([3, 3] * T)` | per tile: lower, keep, raise; smaller, keep, larger |
        | `raster` | `Discrete(9)` | the same for one tile, 3 * threshold + opening |

        T = G * G; tiles are in raster order. `raster` visits one tile a step, the first again after the
        last. A move beyond the last threshold or opening does nothing.

    Observation Space:
        | observation | space (uint8) | content | unit |
        | --- | --- | --- | --- |
        | `image` | `Box(0, 255, (C, s, s))` | region, mask, threshold map | gray level |
        | `features` | `Box(0, (7, 3, 3, 3), (4,))` | area, compactness, position, number of objects | bin |

        C = 3, and 4 where `raster` visits several tiles: the fourth channel marks the tile in turn.
        `features` are those of that tile, or of all tiles one after the other, (4 T,), with `tiles`.

    Rewards:
        The change of `dice` (default) or `iou`, or its sign (`sign`): reward or punishment as in the paper
        of 2008, whose amounts are not taken over. Undiscounted, the first two sum to the final minus the
        initial score of an episode.

    Starting State:
        A row of the bank, uniformly at random. With `roi="box"` the region is the target's bounding box,
        each side moved by up to `jitter` times its extent, grown by `margin`; `boxes` such boxes are
        prepared for every row, and one is drawn. With `roi="image"` it is the whole image. Every tile
        starts at the threshold nearest to Otsu's of the region, without an opening.

    Episode End:
        Truncation at the step limit, 10 by default. The episode never terminates: to stop on the
        ground truth would leak it.

    Info:
        `initial_dice` and `dice`, unitless, of the mask in the region and the whole target.

    Arguments:
        | name | default | meaning | unit |
        | --- | --- | --- | --- |
        | `grid` | 2 | G, tiles along a side; divides `side` | |
        | `thresholds` | 16 | number of thresholds, 2 to 256, even between a region's 1% and 99% | |
        | `sizes` | 4 | number of openings: discs of diameter 1, 3, 5, ... | region pixels |
        | `side` | 64 | s | region pixels |
        | `filter` | `"median"` | `none`, `median` or `srad` | |
        | `filter_px` | 5 | side of the median's square, odd | region pixels |
        | `polarity` | `"dark"` | whether objects are `dark` or `bright` | |
        | `roi` | `"box"` | see above | |
        | `support` | `"ellipse"` | where a mask may lie: inscribed `ellipse` (of a box) or `rectangle` | |
        | `margin` | 0.1 | see above | fraction |
        | `jitter` | 0.2 | see above | fraction |
        | `boxes` | 4 | see above | |
        | `clean` | `"none"` | keep the `largest` component, fill `holes`, or `largest+holes` | |
        | `action` | `"tiles"` | see above | |
        | `observation` | `"image"` | see above | |
        | `reward` | `"dice"` | see above | |

        A region of one gray level is taken whole by every setting: no threshold separates anything.
        `clean` with several tiles depends on all of them at once, which no table holds: such masks are
        cleaned in every step, on the host.

    Version History:
        v0: first version.

    References:
        Sahba, Tizhoosh, Salama (2008), A reinforcement agent for object segmentation in ultrasound
        images, Expert Systems with Applications 35:772-780; the same
        (2008), Application of reinforcement learning for segmentation of transrectal ultrasound images,
        BMC Medical Imaging 8:8, doi:10.1186/1471-2342-8-8.
    """

    def __init__(
        self, bank: Bank, settings: ThresholdSettings, horizon: int, boxes: Sequence[Box] | None = None
    ) -> None:
        """Prepare a bank for thresholding; see the class docstring for the settings.

        Args:
            bank: Images and targets.
            settings: Of the environment.
            horizon: Step limit.
            boxes: One per row of the bank, working px, instead of jittered ones; for `roi="box"`.

        Raises:
            UserError: If the tiles do not divide the region, or an opening is larger than a tile.
        """
        _check(settings)
        self.bank = bank
        self.settings = settings
        self.horizon = horizon
        self._boxes = boxes
        self._variants = settings.boxes if settings.roi == "box" and boxes is None else 1
        self._choices = Choices(
            settings.grid, settings.thresholds, settings.sizes, settings.polarity, settings.clean
        )
        tiles = self._choices.tiles
        in_turn = settings.action == "raster"
        self.action_space: gym.Space[Any] = (
            gym.spaces.Discrete(CHOICES**2) if in_turn else gym.spaces.MultiDiscrete([CHOICES] * (2 * tiles))
        )
        channels = 4 if in_turn and tiles > 1 else 3
        high = np.tile(np.array(BINS, np.uint8) - 1, 1 if in_turn else tiles)
        self.observation_space: gym.spaces.Box = (
            gym.spaces.Box(0, 255, (channels, settings.side, settings.side), np.uint8)
            if settings.observation == "image"
            else gym.spaces.Box(np.zeros_like(high), high, dtype=np.uint8)
        )
        self._tile = torch.arange(tiles, device=bank.device)

    # Prepared on first use: to know the spaces, nothing of it is needed.

    @cached_property
    def regions(self) -> list[Region]:
        """The regions that episodes are played on, `boxes` of each row one after the other."""
        settings = self.settings
        images = self.bank.images.cpu().numpy()
        ellipse = settings.support == "ellipse" and settings.roi == "box"
        return [
            cut_region(
                images[case // self._variants], box, settings.margin, settings.side, is_ellipse=ellipse
            )
            for case, box in enumerate(self._prompts())
        ]

    @cached_property
    def tables(self) -> Tables:
        """Masks and counts of every setting of every region."""
        settings = self.settings
        whole = self.bank.targets.cpu().numpy()
        targets, areas = [], []
        for case, region in enumerate(self.regions):
            targets.append(region.cut_mask(whole[case // self._variants]))
            areas.append(targets[-1].sum() + region.area_outside(whole[case // self._variants]))
        smooth = [filter_speckle(r.image, settings.filter, settings.filter_px) for r in self.regions]
        return Tables.build(self.regions, smooth, targets, areas, self._choices, self.bank.device)

    @cached_property
    def best(self) -> Tensor:
        """The setting of each tile that gives the highest Dice, int64, (C, T, 2): opening and threshold.

        It is the global maximum; where several tiles are cleaned together, what ascent tile by tile
        finds from the maximum without cleaning.
        """
        best = best_tiles(self.tables)
        if not self._choices.is_cleaned_per_step:
            return best
        case = torch.arange(len(self.tables), device=best.device)
        counts = (self.settings.sizes, self.settings.thresholds)
        return ascend_tiles(best, counts, lambda chosen: self._dice(case, chosen[..., 1], chosen[..., 0]))

    @cached_property
    def _features(self) -> Tensor:
        """Features of every tile at every setting, uint8, (C, T, Z, K, 4)."""
        opened = join_tiles(self.tables.opened.flatten(0, 1), self.settings.grid).cpu().numpy()
        levels = self.tables.levels.cpu().numpy()
        rows = [
            describe_settings(
                opened[case * self.settings.sizes : (case + 1) * self.settings.sizes],
                levels[case],
                region.support,
                self.settings.grid,
            )
            for case, region in enumerate(self.regions)
        ]
        return torch.from_numpy(np.stack(rows)).to(self.bank.device)

    def reset(self, index: Tensor, keys: Tensor) -> ThresholdState:
        """Begin episodes; see `Task.reset`."""
        variant = (uniform(keys, 1)[:, 0] * self._variants).to(torch.int64)
        case = index * self._variants + variant
        level = self.tables.start[case][:, None].repeat(1, self._choices.tiles)
        size = torch.zeros_like(level)
        dice = self._dice(case, level, size)
        return ThresholdState(index, torch.zeros_like(index), dice, dice, case, level, size)

    def step(self, state: ThresholdState, action: Tensor) -> tuple[ThresholdState, Tensor]:
        """Change thresholds and openings; see `Task.step`."""
        level, size = self._moved(state, action)
        dice = self._dice(state.case, level, size)
        moved = replace(state, level=level, size=size, dice=dice, elapsed=state.elapsed + 1)
        return moved, self._reward(state.dice, dice)

    def observe(self, state: ThresholdState) -> Tensor:
        """Return images or features; see `Task.observe`."""
        if self.settings.observation == "features":
            seen = self._features[state.case[:, None], self._tile, state.size, state.level]  # (B, T, 4)
            if self.settings.action == "raster":
                seen = seen[torch.arange(len(seen), device=seen.device), self._turn(state)]
            return seen.flatten(1)
        case, grid = state.case, self.settings.grid
        shape = (len(case), *self.observation_space.shape)
        seen = torch.empty(shape, dtype=torch.uint8, device=case.device)
        # Every channel is computed where it is to lie: copies are most of what an observation costs.
        seen[:, 0] = self.tables.images.index_select(0, case)
        spread_tiles(self._levels(case, state.level), grid, out=seen[:, 2])
        if self.settings.clean == "none":
            torch.le(self._gray(case, state.size), seen[:, 2], out=seen[:, 1])
        else:
            seen[:, 1] = self.mask(state)
        seen[:, 1].neg_()  # 1 becomes 255
        if self.settings.polarity == "bright":
            seen[:, 2] = 255 - seen[:, 2]
        if len(seen[0]) > 3:
            marks = (self._tile == self._turn(state)[:, None]).view(torch.uint8).neg()
            spread_tiles(marks, grid, out=seen[:, 3])
        return seen

    def mask(self, state: ThresholdState) -> Tensor:
        """Return the current masks in their regions, bool, (B, s, s)."""
        return self._masks(state.case, state.level, state.size)

    def oracle_action(self, state: ThresholdState) -> Tensor:
        """Return the move of every tile, or of the tile in turn, towards its best setting."""
        best = self.best[state.case]  # (B, T, 2)
        towards = 1 + torch.stack([best[..., 1] - state.level, best[..., 0] - state.size], dim=2).sign()
        if self.settings.action == "tiles":
            return towards.flatten(1)
        move = towards[torch.arange(len(best), device=best.device), self._turn(state)]  # (B, 2)
        return CHOICES * move[:, 0] + move[:, 1]

    def render(self, state: ThresholdState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one region of the batch; see `Task.render`."""
        only = replace(state, **{name: getattr(state, name)[row : row + 1] for name in vars(state)})
        start = self.tables.start[only.case][:, None].expand_as(only.level)
        first = replace(only, level=start, size=torch.zeros_like(only.size))
        case, gray = int(only.case), self._levels(only.case, only.level)
        gray = 255 - gray if self.settings.polarity == "bright" else gray
        return draw_mask_step(
            self.tables.images[case].cpu().numpy(),
            self.tables.targets[case].cpu().numpy() if self.bank.targets.any() else None,
            self.mask(first)[0].cpu().numpy(),
            self.mask(only)[0].cpu().numpy(),
            gray[0].view(self.settings.grid, -1).cpu().numpy(),
            f"step {int(only.elapsed)}/{self.horizon}   Dice {float(only.dice):.3f}"
            f"   start {float(only.initial_dice):.3f}",
        )

    def _prompts(self) -> list[Box | None]:
        """Return the box of every region, None for a whole image."""
        if self.settings.roi == "image":
            return [None] * len(self.bank)
        if self._boxes is not None:
            return list(self._boxes)
        exact = [_bounding_box(target) for target in self.bank.targets.cpu().numpy()]
        cases = torch.arange(len(exact) * self._variants)
        shares = 2 * uniform(episode_keys(torch.full_like(cases, _BOX_SEED), cases), 4) - 1  # (C, 4)
        moves = (shares * self.settings.jitter).tolist()
        return [_move_sides(exact[case // self._variants], move) for case, move in enumerate(moves)]

    def _turn(self, state: ThresholdState) -> Tensor:
        """Return the tile that `raster` visits in this step, int64, (B,)."""
        return state.elapsed % self._choices.tiles

    def _moved(self, state: ThresholdState, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return thresholds and openings after an action, each (B, T)."""
        if self.settings.action == "tiles":
            change = action.view(len(action), -1, 2) - 1  # (B, T, 2)
        else:
            move = torch.stack([action // CHOICES, action % CHOICES], dim=1) - 1  # (B, 2)
            change = (self._tile == self._turn(state)[:, None])[..., None] * move[:, None]
        level = (state.level + change[..., 0]).clamp_(0, self.settings.thresholds - 1)
        size = (state.size + change[..., 1]).clamp_(0, self.settings.sizes - 1)
        return level, size

    def _dice(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the Dice of settings (B, T), float32, (B,)."""
        if self._choices.is_cleaned_per_step:
            mask = self._masks(case, level, size)
            hit = (mask & self.tables.targets[case]).flatten(1).sum(dim=1)
            counts = torch.stack([mask.flatten(1).sum(dim=1), hit], dim=1)
        else:
            place = (case[:, None] * self._choices.tiles + self._tile) * self.settings.sizes + size
            entry = (place * self.settings.thresholds + level).flatten()  # (B T,)
            counts = self.tables.counts.view(-1, 2).index_select(0, entry).view(*level.shape, 2).sum(dim=1)
        return dice_of_counts(counts, self.tables.target_area[case])

    def _masks(self, case: Tensor, level: Tensor, size: Tensor) -> Tensor:
        """Return the masks of settings (B, T), bool, (B, s, s)."""
        gray = self._gray(case, size)
        # Shapes are made equal before they are compared: a broadcast takes ten times as long.
        masks = gray <= spread_tiles(self._levels(case, level), self.settings.grid, torch.empty_like(gray))
        if self.settings.clean == "none":
            return masks
        cleaned = [clean_mask(mask, self.settings.clean) for mask in masks.cpu().numpy()]
        return torch.from_numpy(np.stack(cleaned)).to(masks.device)

    def _gray(self, case: Tensor, size: Tensor) -> Tensor:
        """Return regions opened by each tile's size (B, T), uint8, (B, s, s)."""
        opened = self.tables.opened
        tile = (case[:, None] * self.settings.sizes + size) * self._choices.tiles + self._tile
        # index_select moves whole rows, where indexing would move bytes.
        rows = opened.view(-1, opened.shape[3]).index_select(0, tile.flatten())  # (B T, h * h)
        return join_tiles(rows.view(*size.shape, -1), self.settings.grid)

    def _levels(self, case: Tensor, level: Tensor) -> Tensor:
        """Return the levels of thresholds (B, T) on the opened regions, uint8, (B, T)."""
        place = case[:, None] * self.settings.thresholds + level
        return self.tables.levels.view(-1).index_select(0, place.flatten()).view_as(level)

    def _reward(self, before: Tensor, after: Tensor) -> Tensor:
        if self.settings.reward == "iou":
            return after / (2 - after) - before / (2 - before)
        return after - before if self.settings.reward == "dice" else (after - before).sign()


def _check(settings: ThresholdSettings) -> None:
    """Raise where settings do not fit together."""
    if settings.side % settings.grid:
        raise UserError(
            f"grid: {settings.grid} tiles do not divide a side of {settings.side} px; choose another grid "
            f"or a side that is a multiple of {settings.grid}"
        )
    largest, tile = 2 * settings.sizes - 1, settings.side // settings.grid
    if largest > tile:
        raise UserError(
            f"sizes: the opening number {settings.sizes} is {largest} px wide and a tile only {tile} px; "
            f"choose sizes up to {(tile + 1) // 2}, a smaller grid or a larger side"
        )
    if settings.filter_px % 2 == 0:
        raise UserError(f"filter_px must be odd, got {settings.filter_px}; take {settings.filter_px + 1}")


def _bounding_box(target: BoolMask) -> Box:
    """Return the box of a target; of an empty one, which agents meet at work, that of the image."""
    if target.any():
        return bounding_box(target)
    return -0.5, -0.5, target.shape[1] - 0.5, target.shape[0] - 0.5


def _move_sides(box: Box, moves: Sequence[float]) -> Box:
    """Return a box with each side moved by a share of the box's extent."""
    x0, y0, x1, y1 = box
    x, y = x1 - x0, y1 - y0
    return x0 + moves[0] * x, y0 + moves[1] * y, x1 + moves[2] * x, y1 + moves[3] * y
