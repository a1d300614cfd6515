"""A foreign environment: no image, no mask, no Dice. A walker looks for a number on a line, with a drift."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor

from usrl.compute.rng import step_keys, uniform
from usrl.data.cases import Cases
from usrl.envs.task import Picture, State
from usrl.strict import Strict

SIZE = 21
LEFT, STAY, RIGHT, STOP = range(4)


@dataclass(frozen=True)
class Numbers(Cases):
    """Numbers to be found, int64, (M,)."""

    kind: ClassVar[str] = "numbers"
    target: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]


def make_numbers(count: int = 12, first: int = 0) -> Numbers:
    """Return numbers that fill the line, in pairs of one group."""
    target = (torch.arange(first, first + count) * 7) % SIZE
    names = tuple(f"number-{first + i}" for i in range(count))
    return Numbers(target, names, tuple(f"group-{(first + i) // 2}" for i in range(count)))


def load_numbers(data: Any, split: str) -> Numbers:
    """Return the numbers of a part: a data set that makes its own cases."""
    return make_numbers(first={"train": 0, "val": 12, "test": 24, "all": 0}[split])


class FindSettings(Strict):
    drift: float = Field(default=0.2, ge=0, le=1, description="chance of a step to the right")


@dataclass(frozen=True)
class FindState(State):
    place: Tensor
    is_stopped: Tensor


class FindNumber:
    """Walk to the number and stop there; the reward is how much nearer a step comes."""

    def __init__(self, cases: Numbers, settings: FindSettings, horizon: int) -> None:
        self.cases, self.settings, self.horizon = cases, settings, horizon
        self.action_space: spaces.Space[Any] = spaces.Discrete(4)
        parts = {"place": spaces.Box(0, 1, (1,), np.float32), "hint": spaces.Box(0, 255, (2,), np.uint8)}
        self.observation_space: spaces.Space[Any] = spaces.Dict(parts)

    def reset(self, index: Tensor, keys: Tensor) -> FindState:
        place = (uniform(keys, 1)[:, 0] * SIZE).to(torch.int64)
        stopped = torch.zeros_like(index, dtype=torch.bool)
        return FindState(index, torch.zeros_like(index), keys, place, stopped)

    def step(self, state: FindState, action: Tensor) -> tuple[FindState, Tensor]:
        drifts = uniform(step_keys(state.key, state.elapsed), 1)[:, 0] < self.settings.drift
        move = (action == RIGHT).long() - (action == LEFT).long() + drifts * (action != STOP)
        place = (state.place + move).clamp(0, SIZE - 1)
        moved = replace(state, place=place, elapsed=state.elapsed + 1, is_stopped=action == STOP)
        return moved, self._score(moved) - self._score(state)

    def observe(self, state: FindState) -> dict[str, Tensor]:
        away = self.cases.target[state.index] - state.place  # (B,)
        hint = torch.stack([away.clamp(0, 9), (-away).clamp(0, 9)], dim=1) * 25
        return {"place": state.place[:, None].float() / (SIZE - 1), "hint": hint.to(torch.uint8)}

    def figures(self, state: FindState) -> dict[str, Tensor]:
        return {"score": self._score(state), "found": (self._score(state) == 1).float()}

    def terminated(self, state: FindState) -> Tensor:
        return state.is_stopped

    def oracle_action(self, state: FindState) -> Tensor:
        away = self.cases.target[state.index] - state.place
        return torch.where(away == 0, STOP, STAY + away.sign())

    def render(self, state: FindState, row: int) -> Picture:
        picture = np.zeros((8, 8 * SIZE, 3), np.uint8)
        picture[:, 8 * int(state.place[row]) :][:, :8] = 255
        return picture

    def _score(self, state: FindState) -> Tensor:
        return 1 - (self.cases.target[state.index] - state.place).abs() / SIZE
