"""What PPO collects, as tensors that stay on the device they were computed on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from usrl.envs.batch import send
from usrl.envs.task import tensors_of


@dataclass(frozen=True)
class Transitions:
    """One step of B environments, each tensor (B, ...), or a whole rollout, (T, B, ...).

    Attributes:
        observations: What the policy saw, uint8.
        actions: What it drew, before clipping.
        values: What its critic expected, float32, (B,).
        log_probs: Of the actions, float32, (B,).
        rewards: float32, (B,); where the step limit ended an episode with the discounted value of what
            would have followed.
    """

    observations: Tensor
    actions: Tensor
    values: Tensor
    log_probs: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class Minibatch:
    """Rows of a rollout in no order, each tensor (M, ...); see `Transitions`."""

    observations: Tensor
    actions: Tensor
    values: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor


class TensorRollout:
    """A rollout of T steps of B environments on one device.

    It stands where SB3 has its `RolloutBuffer`, is made like it and computes the same advantages.

    Args:
        buffer_size: T.
        observation_space: Of one environment; the tensors that are added tell their own shapes.
        action_space: Of one environment; likewise.
        device: Where the tensors are.
        gae_lambda: Weight of longer estimates of an advantage.
        gamma: Discount.
        n_envs: B.

    Attributes:
        transitions: All that was added, (T, B, ...).
        advantages: float32, (T, B).
        returns: What the critic is to expect: advantages plus values, float32, (T, B).
    """

    transitions: Transitions
    advantages: Tensor
    returns: Tensor

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device,
        gae_lambda: float,
        gamma: float,
        n_envs: int,
    ) -> None:
        self.device, self.gae_lambda, self.gamma = device, gae_lambda, gamma
        self._size, self._added, self._is_allocated = buffer_size, 0, False
        # Known on the host, and sent to the device once per rollout.
        self._starts = np.zeros((buffer_size + 1, n_envs), bool)

    def reset(self) -> None:
        """Begin another rollout in the memory of the last."""
        self._added = 0

    def add(self, step: Transitions, starts: NDArray[np.bool_]) -> None:
        """Copy one step.

        Args:
            step: Its tensors, (B, ...).
            starts: Whether an episode begins with it, (B,).
        """
        if not self._is_allocated:
            parts = [part.new_empty((self._size, *part.shape)) for part in tensors_of(step)]
            self.transitions, self._is_allocated = Transitions(*parts), True
        for whole, part in zip(tensors_of(self.transitions), tensors_of(step), strict=True):
            whole[self._added] = part
        self._starts[self._added] = starts
        self._added += 1

    def finish(self, last_values: Tensor, starts: NDArray[np.bool_]) -> None:
        """Compute advantages and returns by generalised advantage estimation.

        Args:
            last_values: What the critic expects of the observations after the last step, (B,).
            starts: Whether these begin an episode, (B,).

        Source:
            Schulman et al. (2016), arXiv:1506.02438.
        """
        self._starts[-1] = starts
        values, rewards = self.transitions.values, self.transitions.rewards
        goes_on = send(torch.from_numpy(~self._starts[1:]), self.device).float()  # (T, B)
        following = torch.cat([values[1:], last_values[None]])
        surprise = rewards + self.gamma * following * goes_on - values  # (T, B)
        decay = self.gamma * self.gae_lambda * goes_on
        self.advantages = surprise
        for step in range(self._size - 2, -1, -1):
            self.advantages[step] += decay[step] * self.advantages[step + 1]
        self.returns = self.advantages + values

    def minibatches(self, size: int) -> Iterator[Minibatch]:
        """Yield all transitions once, in an order drawn by torch's generator; the last may be smaller."""
        parts = [*tensors_of(self.transitions)[:4], self.advantages, self.returns]
        flat = [part.flatten(0, 1) for part in parts]
        for rows in torch.randperm(len(flat[0]), device=self.device).split(size):
            yield Minibatch(*(part[rows] for part in flat))
