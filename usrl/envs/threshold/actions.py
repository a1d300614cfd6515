"""What an action of threshold selection means: one object per kind of action.

A move changes the ranks of a tile's threshold and of its opening, each by -1, 0 or 1.
"""

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

CHOICES = 3
"""Lower, keep and raise a threshold; smaller, keep and larger opening."""


class TileMoves:
    """An action moves every tile. `space` is the space of one action."""

    def __init__(self, tiles: int) -> None:
        self.space: gym.Space[Any] = gym.spaces.MultiDiscrete([CHOICES] * (2 * tiles))

    def decode(self, action: Tensor, elapsed: Tensor) -> Tensor:
        """Return the moves of all tiles, int64 (B, T, 2), for actions after elapsed steps, int64 (B,)."""
        return action.view(len(action), -1, 2) - 1

    def encode(self, moves: Tensor, elapsed: Tensor) -> Tensor:
        """Return the actions that make moves, int64 (B, T, 2)."""
        return (moves + 1).flatten(1)

    def turn(self, elapsed: Tensor) -> Tensor | None:
        """Return None, because a step moves all tiles."""
        return None

    def masks(self, possible: Tensor, elapsed: Tensor) -> Tensor:
        """Return which actions, bool (B, C), the possible changes of tiles, bool (B, T, 2, 3), allow."""
        return possible.flatten(1)


class RasterMoves:
    """An action moves one tile. Steps visit the tiles in raster order, again and again."""

    def __init__(self, tiles: int, device: torch.device) -> None:
        self.space: gym.Space[Any] = gym.spaces.Discrete(CHOICES**2)
        self._tile = torch.arange(tiles, device=device)  # (T,)

    def decode(self, action: Tensor, elapsed: Tensor) -> Tensor:
        """Return the move of the tile in turn, and zero for the others."""
        move = torch.stack([action // CHOICES, action % CHOICES], dim=1) - 1  # (B, 2)
        return (self._tile == self.turn(elapsed)[:, None])[..., None] * move[:, None]

    def encode(self, moves: Tensor, elapsed: Tensor) -> Tensor:
        """Return the action of the tile in turn."""
        own = moves[torch.arange(len(moves), device=moves.device), self.turn(elapsed)] + 1  # (B, 2)
        return CHOICES * own[:, 0] + own[:, 1]

    def turn(self, elapsed: Tensor) -> Tensor:
        """Return the tile in turn, int64 (B,)."""
        return elapsed % len(self._tile)

    def masks(self, possible: Tensor, elapsed: Tensor) -> Tensor:
        """Return the pairs of possible changes of the tile in turn."""
        own = possible[torch.arange(len(possible), device=possible.device), self.turn(elapsed)]  # (B, 2, 3)
        return (own[:, 0, :, None] & own[:, 1, None, :]).flatten(1)


Moves = TileMoves | RasterMoves
