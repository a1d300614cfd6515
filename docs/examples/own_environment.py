"""An environment of one's own: move a point into the lesion, and see a window around the point."""

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import usrl
from usrl.compute.rng import uniform
from usrl.envs.task import State


@dataclass(frozen=True)
class PointState(State):
    point: Tensor  # (B, 2), x and y in pixels


class PointTask:
    def __init__(self, cases: usrl.Bank, settings: object, horizon: int) -> None:
        self.cases, self.horizon, self.centres = cases, horizon, cases.prepare(find_centres)
        self.observation_space = gym.spaces.Box(0, 255, (1, 36, 36), np.uint8)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        steps = 3 * (torch.arange(36.0, device=cases.device) - 17.5)
        self.window = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)  # (36, 36, 2)

    def reset(self, index: Tensor, keys: Tensor) -> PointState:
        return PointState(index, torch.zeros_like(index), keys, uniform(keys, 2) * (self.cases.size - 1))

    def step(self, state: PointState, action: Tensor) -> tuple[PointState, Tensor]:
        point = (state.point + 8.0 * action).clamp(0, self.cases.size - 1)
        after = replace(state, elapsed=state.elapsed + 1, point=point)
        return after, self.distance(state) - self.distance(after)

    def observe(self, state: PointState) -> Tensor:
        places = (state.point[:, None, None] + self.window) / (self.cases.size - 1) * 2 - 1  # (B, 36, 36, 2)
        images = self.cases.images[self.cases.image_of_row[state.index], None].float()  # (B, 1, S, S)
        return F.grid_sample(images, places, align_corners=True).round().to(torch.uint8)

    def figures(self, state: PointState) -> dict[str, Tensor]:
        x, y = state.point.round().long().unbind(1)
        return {"score": self.cases.targets[state.index, y, x].float(), "distance": self.distance(state)}

    def terminated(self, state: PointState) -> None:
        return None  # only the step limit ends an episode

    def oracle_action(self, state: PointState) -> Tensor:
        return ((self.centres[state.index] - state.point) / 8.0).clamp(-1, 1)

    def distance(self, state: PointState) -> Tensor:
        return (self.centres[state.index] - state.point).norm(dim=1) / self.cases.size


def find_centres(bank: usrl.Bank) -> Tensor:
    grid = torch.cartesian_prod(*[torch.arange(float(bank.size), device=bank.device)] * 2).flip(1)  # x, y
    weights = bank.targets.flatten(1).float()  # (M, S * S)
    return weights @ grid / weights.sum(1, keepdim=True)


usrl.register("mine/PointToLesion-v0", task=PointTask, max_episode_steps=16, summary="Find the lesion")
