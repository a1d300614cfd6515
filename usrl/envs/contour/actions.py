"""What an action of contour refinement means: one object per parametrization."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from usrl.envs.contour.settings import ContourSettings
from usrl.geometry.moves import combine, fourier_basis


class VertexMoves:
    """An action is the move of each vertex. `space` is the space of one action."""

    def __init__(self, vertices: int) -> None:
        self.space: gym.Space[Any] = gym.spaces.Box(-1.0, 1.0, (vertices,), np.float32)

    def decode(self, action: Tensor) -> Tensor:
        """Return the outward moves (B, N) of actions (B, A), as shares of the longest step."""
        return action.clamp(-1, 1)

    def encode(self, moves: Tensor) -> Tensor:
        """Return the actions (B, A) whose moves are nearest to given moves (B, N)."""
        return moves.clamp(-1, 1)


class FourierMoves:
    """An action is the weights of 1, cos t, sin t, cos 2t, ..., where t runs once around the contour."""

    def __init__(self, coefficients: int, vertices: int, device: torch.device | str = "cpu") -> None:
        self.space: gym.Space[Any] = gym.spaces.Box(-1.0, 1.0, (coefficients,), np.float32)
        self.basis = fourier_basis(coefficients, vertices, device)  # (A, N)
        self.projection = torch.linalg.pinv(self.basis).contiguous()  # (N, A), least squares

    def decode(self, action: Tensor) -> Tensor:
        """Return the sum of the functions."""
        return combine(action, self.basis).clamp(-1, 1)

    def encode(self, moves: Tensor) -> Tensor:
        """Return the least-squares projection, within the space."""
        return combine(moves, self.projection).clamp(-1, 1)


def build_moves(settings: ContourSettings, device: torch.device | str) -> VertexMoves | FourierMoves:
    """Return the moves of an environment with some settings."""
    if settings.parametrization == "fourier":
        return FourierMoves(settings.coefficients, settings.vertices, device)
    return VertexMoves(settings.vertices)
