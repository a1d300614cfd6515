"""A foreign environment that makes masks: a disk grows or shrinks in a box. It has a placement."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from usrl.data.bank import Bank
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import bounding_box, start_boxes
from usrl.data.sample import BoolMask
from usrl.envs.placement import Place
from usrl.envs.task import Picture, State
from usrl.geometry.boxes import boxes_of_masks
from usrl.strict import Strict


@dataclass(frozen=True)
class DiskState(State):
    box: Tensor
    share: Tensor


class GrowDisk:
    """Shrink, keep or grow a disk by a tenth of its box; the reward is the change of Dice."""

    def __init__(self, cases: Bank, settings: Strict, horizon: int) -> None:
        self.cases, self.horizon = cases, horizon
        self.action_space: spaces.Space[Any] = spaces.Discrete(3)
        self.observation_space: spaces.Space[Any] = spaces.Box(0, 1, (2,), np.float32)

    def reset(self, index: Tensor, keys: Tensor) -> DiskState:
        return self.begin(index, boxes_of_masks(self.cases.targets[index]), keys)

    def begin(self, index: Tensor, box: Tensor, keys: Tensor) -> DiskState:
        return DiskState(index, torch.zeros_like(index), keys, box, torch.full((len(index),), 0.5))

    def step(self, state: DiskState, action: Tensor) -> tuple[DiskState, Tensor]:
        share = (state.share + (action - 1) / 10).clamp(0.1, 1)
        moved = replace(state, share=share, elapsed=state.elapsed + 1)
        return moved, self._dice(moved) - self._dice(state)

    def observe(self, state: DiskState) -> Tensor:
        gray = (self.cases.image(state.index) * self.mask(state)).flatten(1).float().mean(dim=1) / 255
        return torch.stack([state.share, gray], dim=1)

    def figures(self, state: DiskState) -> dict[str, Tensor]:
        return {"score": self._dice(state)}

    def terminated(self, state: DiskState) -> None:
        return None

    def render(self, state: DiskState, row: int) -> Picture:
        gray = np.where(self.mask(state)[row].numpy(), 255, self.cases.image(state.index)[row].numpy())
        return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)

    def mask(self, state: DiskState) -> Tensor:
        low, high = state.box.split(2, dim=1)  # (B, 2)
        centre, radius = (low + high) / 2, (high - low) / 2 * state.share[:, None]
        x, y = ((torch.arange(self.cases.size)[:, None] - centre[:, None]) / radius[:, None]).unbind(dim=2)
        return x[:, None, :] ** 2 + y[:, :, None] ** 2 <= 1

    def _dice(self, state: DiskState) -> Tensor:
        mask, target = self.mask(state), self.cases.targets[state.index]
        return 2 * (mask & target).sum((1, 2)) / (mask.sum((1, 2)) + target.sum((1, 2))).clamp_min(1)


@dataclass(frozen=True)
class DiskPlacement:
    settings: Strict
    horizon: int
    size: int
    device: torch.device
    takes_boxes: bool = True

    def begin(self, place: Place) -> "DiskEpisodes":
        boxes = place.boxes or ((bounding_box(place.found),) if place.found.any() else ())
        prompts = start_boxes(boxes, place.starts, place.image.shape)
        return DiskEpisodes(self, place, [box for prompt in prompts for box in prompt])


@dataclass(frozen=True, eq=False)
class DiskEpisodes:
    placement: DiskPlacement
    place: Place
    boxes: list[Any]

    @cached_property
    def letterbox(self) -> Letterbox:
        return Letterbox.fit(self.place.image.shape, self.placement.size)

    @cached_property
    def task(self) -> GrowDisk:
        image = torch.from_numpy(self.letterbox.image(self.place.image))[None]
        bank = Bank(image, torch.zeros_like(image, dtype=torch.bool), None, ("image",))
        return GrowDisk(bank, self.placement.settings, self.placement.horizon)

    @cached_property
    def state(self) -> DiskState | None:
        rows = torch.zeros(len(self.boxes), dtype=torch.int64)
        corners = torch.from_numpy(self.letterbox.boxes_to_working(self.boxes or np.zeros((0, 4))))
        return self.task.begin(rows, corners, rows) if self.boxes else None

    @property
    def kept(self) -> BoolMask:
        return np.zeros(self.place.image.shape, bool)

    @property
    def proposal(self) -> BoolMask:
        return self.kept if self.state is None else self.masks(self.state)[0]

    def masks(self, state: DiskState) -> list[BoolMask]:
        return [self.letterbox.to_native(mask.float().numpy()) > 0.5 for mask in self.task.mask(state)]

    def draw(self, state: DiskState) -> Picture:
        return self.task.render(state, 0)

    def reach(self) -> BoolMask:
        shares = torch.linspace(0.1, 1, 10)
        masks = [m for s in shares for m in self.masks(replace(self.state, share=s.expand(len(self.boxes))))]
        return max(
            masks, key=lambda mask: (mask & self.place.target).sum() / (mask | self.place.target).sum()
        )
