"""Threshold selection: each tile of a region gets a threshold and an opening until the mask fits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.compute.rng import uniform
from usrl.data.bank import Bank
from usrl.data.sample import Box
from usrl.envs.rendering import draw_mask_step
from usrl.envs.rewards import iou_score
from usrl.envs.task import State
from usrl.envs.threshold import kernels
from usrl.envs.threshold.cases import ThresholdCases, ThresholdSettings
from usrl.envs.threshold.features import BINS
from usrl.envs.threshold.tables import spread_tiles

CHOICES = 3
"""Lower, keep and raise a threshold; smaller, keep and larger opening."""


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
        prepared for every row, and one is drawn. `roi="network"` boxes the bank's proposal instead, and
        `roi="image"` takes the whole image. Every tile starts at the threshold nearest to Otsu's of the
        region, without an opening.

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
        images, Expert Systems with Applications 35:772-780; the same (2008), Application of
        reinforcement learning for segmentation of transrectal ultrasound images, BMC Medical Imaging 8:8,
        doi:10.1186/1471-2342-8-8.
    """

    def __init__(
        self, bank: Bank, settings: ThresholdSettings, horizon: int, boxes: Sequence[Box] | None = None
    ) -> None:
        """Prepare a bank for thresholding; see the class docstring for the settings.

        Args:
            bank: Images and targets.
            settings: Of the environment.
            horizon: Step limit.
            boxes: One per row of the bank, working px, instead of jittered ones; not for `roi="image"`.

        Raises:
            UserError: If the tiles do not divide the region, an opening is larger than a tile, or network
                proposals are asked for and the bank has none.
        """
        self.bank = bank
        self.settings = settings
        self.horizon = horizon
        self.cases = ThresholdCases(bank, settings, boxes)
        tiles = self.cases.choices.tiles
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

    def reset(self, index: Tensor, keys: Tensor) -> ThresholdState:
        """Begin episodes; see `Task.reset`."""
        variant = (uniform(keys, 1)[:, 0] * self.cases.per_row).to(torch.int64)
        case = index * self.cases.per_row + variant
        level = self.cases.tables.start[case][:, None].repeat(1, self.cases.choices.tiles)
        size = torch.zeros_like(level)
        dice = self.cases.dice(case, level, size)
        return ThresholdState(index, torch.zeros_like(index), dice, dice, case, level, size)

    def step(self, state: ThresholdState, action: Tensor) -> tuple[ThresholdState, Tensor]:
        """Change thresholds and openings; see `Task.step`."""
        level, size = self._moved(state, action)
        dice = self.cases.dice(state.case, level, size)
        moved = replace(state, level=level, size=size, dice=dice, elapsed=state.elapsed + 1)
        return moved, self._reward(state.dice, dice)

    def observe(self, state: ThresholdState) -> Tensor:
        """Return images or features; see `Task.observe`."""
        if self.settings.observation == "features":
            seen = self.cases.features[
                state.case[:, None], self.cases.tile, state.size, state.level
            ]  # (B, T, 4)
            if self.settings.action == "raster":
                seen = seen[torch.arange(len(seen), device=seen.device), self._turn(state)]
            return seen.flatten(1)
        case, grid = state.case, self.settings.grid
        shape = (len(case), *self.observation_space.shape)
        seen = torch.empty(shape, dtype=torch.uint8, device=case.device)
        # Every channel is computed where it is to lie: copies are most of what an observation costs.
        if is_compiled_for(case) and self.settings.clean == "none":
            tables = (self.cases.tables.images, self.cases.tables.opened, self.cases.tables.levels)
            parts = (*tables, case, state.level, state.size, seen)
            kernels.draw_settings(*(part.numpy() for part in parts))
        else:
            seen[:, 0] = self.cases.tables.images.index_select(0, case)
            spread_tiles(self.cases.levels(case, state.level), grid, out=seen[:, 2])
            seen[:, 1] = self.mask(state)
            seen[:, 1].neg_()  # 1 becomes 255
        if self.settings.polarity == "bright":
            seen[:, 2] = 255 - seen[:, 2]
        if len(seen[0]) > 3:
            marks = (self.cases.tile == self._turn(state)[:, None]).view(torch.uint8).neg()
            spread_tiles(marks, grid, out=seen[:, 3])
        return seen

    def mask(self, state: ThresholdState) -> Tensor:
        """Return the current masks in their regions, bool, (B, s, s)."""
        return self.cases.masks(state.case, state.level, state.size)

    def oracle_action(self, state: ThresholdState) -> Tensor:
        """Return the move of every tile, or of the tile in turn, towards its best setting."""
        best = self.cases.best[state.case]  # (B, T, 2)
        towards = 1 + torch.stack([best[..., 1] - state.level, best[..., 0] - state.size], dim=2).sign()
        if self.settings.action == "tiles":
            return towards.flatten(1)
        move = towards[torch.arange(len(best), device=best.device), self._turn(state)]  # (B, 2)
        return CHOICES * move[:, 0] + move[:, 1]

    def render(self, state: ThresholdState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one region of the batch; see `Task.render`."""
        only = replace(state, **{name: getattr(state, name)[row : row + 1] for name in vars(state)})
        start = self.cases.tables.start[only.case][:, None].expand_as(only.level)
        first = replace(only, level=start, size=torch.zeros_like(only.size))
        case, gray = int(only.case), self.cases.levels(only.case, only.level)
        gray = 255 - gray if self.settings.polarity == "bright" else gray
        return draw_mask_step(
            self.cases.tables.images[case].cpu().numpy(),
            self.cases.tables.targets[case].cpu().numpy() if self.bank.targets.any() else None,
            self.mask(first)[0].cpu().numpy(),
            self.mask(only)[0].cpu().numpy(),
            gray[0].view(self.settings.grid, -1).cpu().numpy(),
            f"step {int(only.elapsed)}/{self.horizon}   Dice {float(only.dice):.3f}"
            f"   start {float(only.initial_dice):.3f}",
        )

    def _turn(self, state: ThresholdState) -> Tensor:
        """Return the tile that `raster` visits in this step, int64, (B,)."""
        return state.elapsed % self.cases.choices.tiles

    def _moved(self, state: ThresholdState, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return thresholds and openings after an action, each (B, T)."""
        if self.settings.action == "tiles":
            change = action.view(len(action), -1, 2) - 1  # (B, T, 2)
        else:
            move = torch.stack([action // CHOICES, action % CHOICES], dim=1) - 1  # (B, 2)
            change = (self.cases.tile == self._turn(state)[:, None])[..., None] * move[:, None]
        level = (state.level + change[..., 0]).clamp_(0, self.settings.thresholds - 1)
        size = (state.size + change[..., 1]).clamp_(0, self.settings.sizes - 1)
        return level, size

    def _reward(self, before: Tensor, after: Tensor) -> Tensor:
        if self.settings.reward == "iou":
            return iou_score(after) - iou_score(before)
        return after - before if self.settings.reward == "dice" else (after - before).sign()
