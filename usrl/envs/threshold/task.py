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
from usrl.envs.threshold.actions import DirectMoves, Moves, RasterMoves, TileMoves
from usrl.envs.threshold.drawing import draw_mask_step
from usrl.envs.threshold.features import BINS, SHAPE_BINS
from usrl.envs.threshold.regions import ThresholdRegions
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.envs.threshold.tables import spread_tiles

_SOLVED_ERROR = 0.05
"""Share of wrong pixels below which an episode of `solved_ends` ends."""
_FELL_REWARD = 10.0
"""What `reward="error"` pays if the error fell."""


@dataclass(frozen=True)
class ThresholdState(State):
    """State of a batch of regions or sub-images.

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

        With `cut="subimages"` the region is divided into rectangles that overlap by half, (2 G - 1) (4 G - 1)
        in all. An episode is about one of them. What is said of a region below is then true of this
        sub-image, with its own thresholds and its part of the target. When an agent segments an image, the
        masks of all sub-images vote.

    Action Space:
        | action | space | meaning |
        | --- | --- | --- |
        | `tiles` | `MultiDiscrete([3, 3] * T)` | per tile: lower, keep, raise; smaller, keep, larger |
        | `raster` | `Discrete(9)` | the same for one tile, 3 * threshold + opening |
        | `direct` | `Discrete(6)` | for one tile, 2 * opening + (0 lower, 1 raise the threshold) |

        T = G * G, or 1 for a sub-image; tiles are in raster order. `raster` and `direct` visit one tile a
        step and begin again after the last. A move beyond the last threshold or opening does nothing.
        `direct` chooses among three openings: none and discs of 2 and 5 px. No action of it keeps the
        threshold.

    Observation Space:
        | observation | space (uint8) | content | unit |
        | --- | --- | --- | --- |
        | `image` | `Box(0, 255, (C, s, s))` | region, mask, threshold map | gray level |
        | `features` | `Box(0, (7, 3, 3, 3), (4,))` | area, compactness, position, number of objects | bin |
        | `shape` | `Box(0, (34, 34, 34, P - 1), (4,))` | area, compactness, number of objects, place | bin |

        C is 3, or 4 if tiles are visited in turn: the fourth channel marks the tile in turn. `features` and
        `shape` describe that tile, or with `tiles` all tiles one after the other, (4 T,). The place is the
        number of the tile or the sub-image; a region has P of them.

    Rewards:
        The change of `dice` (default) or `iou`, or the sign of the change of Dice (`sign`): reward or
        punishment as in the paper of 2008, but of size 1. Undiscounted, the first two sum to the final
        minus the initial score of an episode. `error` pays 10 if fewer pixels are wrong than before, else 0.

    Starting State:
        A row of the bank, uniformly at random. With `roi="box"` the region is the target's bounding box
        after each side has moved by up to `jitter` times the box's extent and the box has grown by
        `margin`. Every row has `boxes` such boxes, and one is drawn. `roi="network"` boxes the bank's
        proposal instead, and `roi="image"` takes the whole image. Every tile starts at the threshold
        nearest to Otsu's of the region, without an opening. With `start="random"` its threshold and opening
        are drawn uniformly.

    Episode End:
        Truncation at the step limit, 10 by default. The episode never terminates, because a stop that
        depends on the target would leak the target. `solved_ends`, for training only, ends an episode with
        less than 5% of the pixels wrong. Validation, comparison and use ignore it.

    Info:
        `dice` and `initial_dice`, unitless, of the mask in the region and the whole target. `score` is
        `dice`. For a sub-image `score` is `agreement`, the share of its pixels that are right, because many
        sub-images hold no target.

    Arguments:
        See `ThresholdSettings`; ``usrl envs usrl/ThresholdSelect-v0`` prints them with their defaults.

        In a region of one gray level every setting takes the whole region, because no threshold separates
        anything. With `clean` and several tiles, a mask depends on all tiles at once, which no table holds.
        Such masks are cleaned in every step, on the host.

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
        self._moves = _choose_moves(settings, tiles, bank.device)
        self.action_space: gym.Space[Any] = self._moves.space
        in_turn = settings.action != "tiles"
        channels = 4 if in_turn and tiles > 1 else 3
        bins = (*SHAPE_BINS, self.regions.places) if settings.observation == "shape" else BINS
        high = np.tile(np.array(bins) - 1, 1 if in_turn else tiles).astype(np.uint8)
        images = gym.spaces.Box(0, 255, (channels, settings.side, settings.side), np.uint8)
        features = gym.spaces.Box(np.zeros_like(high), high, dtype=np.uint8)
        self.observation_space: gym.Space[Any] = images if settings.observation == "image" else features

    def reset(self, index: Tensor, keys: Tensor) -> ThresholdState:
        """Begin episodes; see `Task.reset`."""
        variant = (uniform(keys, 1)[:, 0] * self.regions.per_row).to(torch.int64)
        return self.begin(index, index * self.regions.per_row + variant, keys)

    def begin(self, index: Tensor, case: Tensor, keys: Tensor) -> ThresholdState:
        """Begin episodes on chosen regions or sub-images, int64 (B,); see `ThresholdRegions.cases`."""
        level, size = self._first_settings(case, keys)
        dice = self.regions.dice(case, level, size)
        return ThresholdState(index, torch.zeros_like(index), keys, dice, dice, case, level, size)

    def step(self, state: ThresholdState, action: Tensor) -> tuple[ThresholdState, Tensor]:
        """Change thresholds and openings; see `Task.step`."""
        change = self._moves.decode(action, state.elapsed, state.size)  # (B, T, 2)
        level = (state.level + change[..., 0]).clamp_(0, self.settings.thresholds - 1)
        size = (state.size + change[..., 1]).clamp_(0, len(self.settings.diameters) - 1)
        dice = self.regions.dice(state.case, level, size)
        moved = state.replace(level=level, size=size, dice=dice, elapsed=state.elapsed + 1)
        return moved, self._reward(state, moved)

    def observe(self, state: ThresholdState) -> Tensor:
        """Return images or features; see `Task.observe`."""
        if self.settings.observation != "image":
            place = (state.case[:, None], self.regions.tile, state.size, state.level)
            seen = self.regions.features[place]  # (B, T, 4)
            if (turn := self._moves.turn(state.elapsed)) is not None:
                seen = seen[torch.arange(len(seen), device=seen.device), turn]
            return seen.flatten(1)
        case, grid = state.case, self.settings.tiling
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
        """Return the Dice now and at the start, and the agreement of sub-images; see `Task.figures`."""
        figures = {"score": state.dice, "dice": state.dice, "initial_dice": state.initial_dice}
        if self.settings.cut == "tiles":
            return figures
        agreement = 1 - self._error(state)
        return figures | {"score": agreement, "agreement": agreement}

    def terminated(self, state: ThresholdState) -> Tensor | None:
        """Return None: only the step limit ends an episode, because other stops would leak the target.

        With `solved_ends`, return which episodes are solved, bool, (B,).
        """
        return self._error(state) < _SOLVED_ERROR if self.settings.solved_ends else None

    def oracle_action(self, state: ThresholdState) -> Tensor:
        """Return the move of every tile, or of the tile in turn, towards its best setting."""
        best = self.regions.best[state.case]  # (B, T, 2)
        gaps = torch.stack([best[..., 1] - state.level, best[..., 0] - state.size], dim=2)
        return self._moves.encode(gaps, state.elapsed, state.size)

    def action_masks(self, state: ThresholdState) -> Tensor:
        """Return which moves keep thresholds and openings in range; see `Masked`."""
        ranks = torch.stack([state.level, state.size], dim=2)  # (B, T, 2)
        lasts = [self.settings.thresholds - 1, len(self.settings.diameters) - 1]
        last = torch.tensor(lasts, device=ranks.device)
        possible = torch.stack([ranks > 0, torch.ones_like(ranks, dtype=torch.bool), ranks < last], dim=3)
        return self._moves.masks(possible, state.elapsed)

    def render(self, state: ThresholdState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one region of the batch; see `Task.render`."""
        only = state.replace(**{name: getattr(state, name)[row : row + 1] for name in vars(state)})
        level, size = self._first_settings(only.case, only.key)
        first = only.replace(level=level, size=size)
        case, gray = int(only.case), self.regions.levels(only.case, only.level)
        gray = 255 - gray if self.settings.polarity == "bright" else gray
        return draw_mask_step(
            self.regions.tables.images[case].cpu().numpy(),
            self.regions.tables.targets[case].cpu().numpy() if self.cases.targets.any() else None,
            self.mask(first)[0].cpu().numpy(),
            self.mask(only)[0].cpu().numpy(),
            gray[0].view(self.settings.tiling, -1).cpu().numpy(),
            f"step {int(only.elapsed)}/{self.horizon}   Dice {float(only.dice):.3f}"
            f"   start {float(only.initial_dice):.3f}",
        )

    def _first_settings(self, case: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the thresholds and openings that episodes begin with, int64 (B, T) each."""
        tiles = self.regions.tiles
        if self.settings.start == "otsu":
            level = self.regions.tables.start[case][:, None].repeat(1, tiles)
            return level, torch.zeros_like(level)
        draws = uniform(keys, 1 + 2 * tiles)[:, 1:].view(-1, tiles, 2)  # the first chooses the case
        counts = (self.settings.thresholds, len(self.settings.diameters))
        level, size = ((draws[..., axis] * count).to(torch.int64) for axis, count in enumerate(counts))
        return level, size

    def _error(self, state: ThresholdState) -> Tensor:
        """Return the share of wrong pixels, float32, (B,)."""
        return self.regions.error(state.case, state.level, state.size)

    def _reward(self, state: ThresholdState, moved: ThresholdState) -> Tensor:
        if self.settings.reward == "error":
            return _FELL_REWARD * (self._error(moved) < self._error(state)).to(torch.float32)
        before, after = state.dice, moved.dice
        if self.settings.reward == "iou":
            return after / (2 - after) - before / (2 - before)
        return after - before if self.settings.reward == "dice" else (after - before).sign()


def _choose_moves(settings: ThresholdSettings, tiles: int, device: torch.device) -> Moves:
    """Return what the actions of a task of so many tiles mean."""
    if settings.action == "direct":
        return DirectMoves(tiles, len(settings.diameters), device)
    return RasterMoves(tiles, device) if settings.action == "raster" else TileMoves(tiles)
