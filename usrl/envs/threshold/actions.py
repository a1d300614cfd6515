"""What an action of threshold selection means: one object per kind of action.

A move changes the ranks of a tile's threshold and of its opening.
"""

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

CHOICES = 3
"""Lower, keep and raise a threshold; smaller, keep and larger opening."""


class TileMoves:
    """An action moves every tile, each rank by -1, 0 or 1. `space` is the space of one action."""

    def __init__(self, tiles: int) -> None:
        self.space: gym.Space[Any] = gym.spaces.MultiDiscrete([CHOICES] * (2 * tiles))

    def decode(self, action: Tensor, elapsed: Tensor, size: Tensor) -> Tensor:
        """Return the moves of all tiles, int64 (B, T, 2).

        Args:
            action: int64, (B, ...), as `space` has it.
            elapsed: Earlier steps, int64 (B,).
            size: Openings now, as ranks, int64 (B, T).
        """
        return action.view(len(action), -1, 2) - 1

    def encode(self, gaps: Tensor, elapsed: Tensor, size: Tensor) -> Tensor:
        """Return the actions that come nearer to settings that are ``gaps``, int64 (B, T, 2), away."""
        return (gaps.sign() + 1).flatten(1)

    def turn(self, elapsed: Tensor) -> Tensor | None:
        """Return None, because a step moves all tiles."""
        return None

    def masks(self, possible: Tensor, elapsed: Tensor) -> Tensor:
        """Return which actions, bool (B, C), the possible changes of tiles, bool (B, T, 2, 3), allow."""
        return possible.flatten(1)


class RasterMoves:
    """An action moves one tile, each rank by -1, 0 or 1. Steps visit the tiles in raster order, in rounds."""

    def __init__(self, tiles: int, device: torch.device) -> None:
        self.space: gym.Space[Any] = gym.spaces.Discrete(CHOICES**2)
        self._tile = torch.arange(tiles, device=device)  # (T,)

    def decode(self, action: Tensor, elapsed: Tensor, size: Tensor) -> Tensor:
        """Return the move of the tile in turn, and zero for the others."""
        move = torch.stack([action // CHOICES, action % CHOICES], dim=1) - 1  # (B, 2)
        return self._is_turn(elapsed)[..., None] * move[:, None]

    def encode(self, gaps: Tensor, elapsed: Tensor, size: Tensor) -> Tensor:
        """Return the action of the tile in turn."""
        own = self._own(gaps, elapsed).sign() + 1  # (B, 2)
        return CHOICES * own[:, 0] + own[:, 1]

    def turn(self, elapsed: Tensor) -> Tensor:
        """Return the tile in turn, int64 (B,)."""
        return elapsed % len(self._tile)

    def masks(self, possible: Tensor, elapsed: Tensor) -> Tensor:
        """Return the pairs of possible changes of the tile in turn."""
        own = self._own(possible, elapsed)  # (B, 2, 3)
        return (own[:, 0, :, None] & own[:, 1, None, :]).flatten(1)

    def _is_turn(self, elapsed: Tensor) -> Tensor:
        """Return a mark at the tile in turn, bool (B, T)."""
        return self._tile == self.turn(elapsed)[:, None]

    def _own(self, values: Tensor, elapsed: Tensor) -> Tensor:
        """Return what values (B, T, ...) hold for the tile in turn, (B, ...)."""
        return values[torch.arange(len(values), device=values.device), self.turn(elapsed)]


class DirectMoves(RasterMoves):
    """An action lowers or raises one tile's threshold and chooses its opening; none keeps the threshold."""

    def __init__(self, tiles: int, openings: int, device: torch.device) -> None:
        super().__init__(tiles, device)
        self.space = gym.spaces.Discrete(2 * openings)

    def decode(self, action: Tensor, elapsed: Tensor, size: Tensor) -> Tensor:
        """Return the move of the tile in turn, and zero for the others: 2 * opening, plus 1 to raise."""
        level = (2 * (action % 2) - 1)[:, None].expand_as(size)
        moves = torch.stack([level, (action // 2)[:, None] - size], dim=2)  # (B, T, 2)
        return self._is_turn(elapsed)[..., None] * moves

    def encode(self, gaps: Tensor, elapsed: Tensor, size: Tensor) -> Tensor:
        """Return the action of the tile in turn. It goes down and comes back if the threshold fits."""
        gap, now = self._own(gaps, elapsed), self._own(size, elapsed)
        return 2 * (now + gap[:, 1]) + (gap[:, 0] > 0)

    def masks(self, possible: Tensor, elapsed: Tensor) -> Tensor:
        """Return whether the threshold of the tile in turn can fall or rise, for every opening."""
        ways = self._own(possible, elapsed)[:, 0, ::2]  # (B, 2)
        return ways.repeat(1, int(self.space.n) // 2)  # type: ignore[attr-defined]


Moves = TileMoves | RasterMoves
