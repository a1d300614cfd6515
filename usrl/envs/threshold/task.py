"""Threshold selection: each tile of a region gets a threshold and an opening until the mask fits."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from usrl.envs.task import State
from usrl.envs.threshold import kernels
from usrl.envs.threshold.actions import Moves, RasterMoves, TileMoves
from usrl.envs.threshold.drawing import draw_mask_step
from usrl.envs.threshold.features import BINS
from usrl.envs.threshold.regions import ThresholdRegions
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.envs.threshold.tables import spread_tiles


@dataclass(frozen=True)
class ThresholdState(State):
    """State of a batch of regions.

    Attributes:
        dice: Dice of the current mask and the target, float32, (B,).
        initial_dice: Dice at the reset, float32, (B,).
        case: Row of the tables, int64, (B,).
        level: Threshold of each tile, as its rank, int64, (B, T).
        size: Opening of each tile, as its rank, int64, (B, T).
    """

    dice: Tensor
    initial_dice: Tensor
    case: Tensor
    level: Tensor
    size: Tensor


class ThresholdTask:
    """Set a threshold and an opening for every tile of a region until the mask fits the lesion.

    Description:
        A square region is cut out of an ultrasound image, its speckle is filtered, and it is divided into
        G x G tiles. A pixel belongs to the mask if its filtered gray level reaches its tile's threshold,
        after a morphological opening of its tile's size. Openings see across tile borders, so tiles leave
        no seams. Masks and Dice of every setting are in tables, so that a step only looks them up.

    Action Space:
        | action | space | meaning |
        | --- | --- | --- |
        | `tiles` | `MultiDiscrete([3, 3] * T)` | per tile: lower, keep, raise; smaller, keep, larger |
        | `raster` | `Discrete(9)` | the same for one tile, 3 * threshold + opening |

        T = G * G; tiles are in raster order. `raster` visits one tile a step and begins again after the
        last. A move beyond the last threshold or opening does nothing.

    Observation Space:
        | observation | space (uint8) | content | unit |
        | --- | --- | --- | --- |
        | `image` | `Box(0, 255, (C, s, s))` | region, mask, threshold map | gray level |
        | `features` | `Box(0, (7, 3, 3, 3), (4,))` | area, compactness, position, number of objects | bin |

        C is 3, or 4 if `raster` visits several tiles: the fourth channel marks the tile in turn.
        `features` are those of that tile, or with `tiles` of all tiles one after the other, (4 T,).

    Rewards:
        The change of `dice` (default) or `iou`, or the sign of the change of Dice (`sign`): reward or
        punishment as in the paper of 2008, but of size 1. Undiscounted, the first two sum to the final
        minus the initial score of an episode.

    Starting State:
        A row of the bank, uniformly at random. With `roi="box"` the region is the target's bounding box
        after each side has moved by up to `jitter` times the box's extent and the box has grown by
        `margin`. Every row has `boxes` such boxes, and one is drawn. `roi="network"` boxes the bank's
        proposal instead, and `roi="image"` takes the whole image. Every tile starts at the threshold
        nearest to Otsu's of the region, without an opening.

    Episode End:
        Truncation at the step limit, 10 by default. The episode never terminates, because a stop that
        depends on the target would leak the target.

    Info:
        `dice` and `initial_dice`, unitless, of the mask in the region and the whole target. `score` is
        `dice`.

    Arguments:
        See `ThresholdSettings`; ``usrl envs usrl/ThresholdSelect-v0`` prints them with their defaults.

        Every setting takes all of a region of one gray level, because no threshold separates anything.
        `clean` with several tiles depends on all of them at once, which no table holds. Such masks are
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
        """Prepare a bank; raise a `UserError` if it lacks the network proposals that the settings need.

        ``boxes`` in working px, one per row of the bank, replace jittered ones. `roi="image"` takes none.
        """
        self.cases = bank
        self.settings = settings
        self.horizon = horizon
        self.regions = ThresholdRegions(bank, settings, boxes)
        tiles = self.regions.tiles
        in_turn = settings.action == "raster"
        self._moves: Moves = RasterMoves(tiles, bank.device) if in_turn else TileMoves(tiles)
        self.action_space: gym.Space[Any] = self._moves.space
        channels = 4 if in_turn and tiles > 1 else 3
        high = np.tile(np.array(BINS, np.uint8) - 1, 1 if in_turn else tiles)
        images = gym.spaces.Box(0, 255, (channels, settings.side, settings.side), np.uint8)
        features = gym.spaces.Box(np.zeros_like(high), high, dtype=np.uint8)
        self.observation_space: gym.Space[Any] = images if settings.observation == "image" else features

    def reset(self, index: Tensor, keys: Tensor) -> ThresholdState:
        """Begin episodes; see `Task.reset`."""
        variant = (uniform(keys, 1)[:, 0] * self.regions.per_row).to(torch.int64)
        case = index * self.regions.per_row + variant
        level = self.regions.tables.start[case][:, None].repeat(1, self.regions.tiles)
        size = torch.zeros_like(level)
        dice = self.regions.dice(case, level, size)
        return ThresholdState(index, torch.zeros_like(index), keys, dice, dice, case, level, size)

    def step(self, state: ThresholdState, action: Tensor) -> tuple[ThresholdState, Tensor]:
        """Change thresholds and openings; see `Task.step`."""
        change = self._moves.decode(action, state.elapsed)  # (B, T, 2)
        level = (state.level + change[..., 0]).clamp_(0, self.settings.thresholds - 1)
        size = (state.size + change[..., 1]).clamp_(0, self.settings.sizes - 1)
        dice = self.regions.dice(state.case, level, size)
        moved = state.replace(level=level, size=size, dice=dice, elapsed=state.elapsed + 1)
        return moved, self._reward(state.dice, dice)

    def observe(self, state: ThresholdState) -> Tensor:
        """Return images or features; see `Task.observe`."""
        if self.settings.observation == "features":
            place = (state.case[:, None], self.regions.tile, state.size, state.level)
            seen = self.regions.features[place]  # (B, T, 4)
            if (turn := self._moves.turn(state.elapsed)) is not None:
                seen = seen[torch.arange(len(seen), device=seen.device), turn]
            return seen.flatten(1)
        case, grid = state.case, self.settings.grid
        shape = (len(case), *(self.observation_space.shape or ()))
        seen = torch.empty(shape, dtype=torch.uint8, device=case.device)
        # Every channel is computed in its place, because copies are most of the cost of an observation.
        if is_compiled_for(case) and self.settings.clean == "none":
            tables = (self.regions.tables.images, self.regions.tables.opened, self.regions.tables.levels)
            parts = (*tables, case, state.level, state.size, seen)
            kernels.draw_settings(*(part.numpy() for part in parts))
        else:
            seen[:, 0] = self.regions.tables.images.index_select(0, case)
            spread_tiles(self.regions.levels(case, state.level), grid, out=seen[:, 2])
            seen[:, 1] = self.mask(state)
            seen[:, 1].neg_()  # 1 becomes 255
        if self.settings.polarity == "bright":
            seen[:, 2] = 255 - seen[:, 2]
        turn = self._moves.turn(state.elapsed)
        if len(seen[0]) > 3 and turn is not None:
            marks = (self.regions.tile == turn[:, None]).view(torch.uint8).neg()
            spread_tiles(marks, grid, out=seen[:, 3])
        return seen

    def mask(self, state: ThresholdState) -> Tensor:
        """Return the current masks in their regions, bool, (B, s, s)."""
        return self.regions.masks(state.case, state.level, state.size)

    def figures(self, state: ThresholdState) -> dict[str, Tensor]:
        """Return the Dice now and at the start; see `Task.figures`."""
        return {"score": state.dice, "dice": state.dice, "initial_dice": state.initial_dice}

    def terminated(self, state: ThresholdState) -> None:
        """Return None: only the step limit ends an episode, because other stops would leak the target."""

    def oracle_action(self, state: ThresholdState) -> Tensor:
        """Return the move of every tile, or of the tile in turn, towards its best setting."""
        best = self.regions.best[state.case]  # (B, T, 2)
        towards = torch.stack([best[..., 1] - state.level, best[..., 0] - state.size], dim=2).sign()
        return self._moves.encode(towards, state.elapsed)

    def action_masks(self, state: ThresholdState) -> Tensor:
        """Return which moves keep thresholds and openings in range; see `Masked`."""
        ranks = torch.stack([state.level, state.size], dim=2)  # (B, T, 2)
        last = torch.tensor([self.settings.thresholds - 1, self.settings.sizes - 1], device=ranks.device)
        possible = torch.stack([ranks > 0, torch.ones_like(ranks, dtype=torch.bool), ranks < last], dim=3)
        return self._moves.masks(possible, state.elapsed)

    def render(self, state: ThresholdState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one region of the batch; see `Task.render`."""
        only = state.replace(**{name: getattr(state, name)[row : row + 1] for name in vars(state)})
        start = self.regions.tables.start[only.case][:, None].expand_as(only.level)
        first = only.replace(level=start, size=torch.zeros_like(only.size))
        case, gray = int(only.case), self.regions.levels(only.case, only.level)
        gray = 255 - gray if self.settings.polarity == "bright" else gray
        return draw_mask_step(
            self.regions.tables.images[case].cpu().numpy(),
            self.regions.tables.targets[case].cpu().numpy() if self.cases.targets.any() else None,
            self.mask(first)[0].cpu().numpy(),
            self.mask(only)[0].cpu().numpy(),
            gray[0].view(self.settings.grid, -1).cpu().numpy(),
            f"step {int(only.elapsed)}/{self.horizon}   Dice {float(only.dice):.3f}"
            f"   start {float(only.initial_dice):.3f}",
        )

    def _reward(self, before: Tensor, after: Tensor) -> Tensor:
        if self.settings.reward == "iou":
            return after / (2 - after) - before / (2 - before)
        return after - before if self.settings.reward == "dice" else (after - before).sign()
