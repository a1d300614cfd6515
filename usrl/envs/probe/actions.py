"""What an action of probe navigation means."""

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

STOP_ABOVE = 0.5
"""A continuous action stops if its last number is above this. At 0, half of all random actions would stop."""


class Moves(Protocol):
    """Translates between actions and moves.

    Moves are in units of the longest step, float32 (B, D): along the probe's lateral and elevational axis,
    yaw, tilt, roll, and force if contact matters. Stops are bool (B,).
    """

    space: gym.Space[Any]

    def decode(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return moves and stops of actions (B, ...)."""

    def encode(self, moves: Tensor, stops: Tensor) -> Tensor:
        """Return the actions that come nearest to moves and stops."""


class StepMoves:
    """One degree of freedom by one step, or stop: 2 * degree for more, 2 * degree + 1 for less."""

    def __init__(self, degrees: int) -> None:
        self.space: gym.Space[Any] = gym.spaces.Discrete(2 * degrees + 1)
        self._degrees = degrees

    def decode(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return moves and stops; see `Moves`."""
        degree = torch.arange(self._degrees, device=action.device)
        moves = (action[:, None] == 2 * degree).float() - (action[:, None] == 2 * degree + 1).float()
        return moves, action == 2 * self._degrees

    def encode(self, moves: Tensor, stops: Tensor) -> Tensor:
        """Return the largest of the moves, or stop."""
        degree = moves.abs().argmax(dim=1)
        is_less = moves.gather(1, degree[:, None])[:, 0] < 0
        return torch.where(stops, 2 * self._degrees, 2 * degree + is_less)


class ContinuousMoves:
    """All degrees of freedom at once, and a number that stops if it is above `STOP_ABOVE`."""

    def __init__(self, degrees: int) -> None:
        self.space: gym.Space[Any] = gym.spaces.Box(-1, 1, (degrees + 1,), np.float32)

    def decode(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return moves and stops; see `Moves`. A stop does not move."""
        action = action.clamp(-1, 1)
        stops = action[:, -1] > STOP_ABOVE
        return action[:, :-1] * ~stops[:, None], stops

    def encode(self, moves: Tensor, stops: Tensor) -> Tensor:
        """Return moves, cut to the longest, and 1 or -1 for stop or not."""
        return torch.cat([moves.clamp(-1, 1), stops[:, None].float() * 2 - 1], dim=1)
