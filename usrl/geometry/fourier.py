"""Smooth functions along a closed contour."""

import torch
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.geometry import kernels


def fourier_basis(count: int, vertices: int, device: torch.device | str = "cpu") -> Tensor:
    """Return 1, cos t, sin t, cos 2t, ... at evenly spaced vertices, float32, (C, N); t runs once around."""
    angle = torch.arange(vertices, device=device) * (2 * torch.pi / vertices)
    place = torch.arange(count, device=device)
    order = (place + 1) // 2  # 0, 1, 1, 2, 2, ...
    phase = torch.where((place % 2 == 0) & (place > 0), -torch.pi / 2, 0.0)
    return torch.cos(order[:, None] * angle + phase[:, None])


def combine(weights: Tensor, functions: Tensor) -> Tensor:
    """Return the sums (B, N) of functions (C, N) with weights (B, C).

    On the CPU a row's sum is the same to the bit whatever the other rows. A matrix product would round by
    the size of the batch.
    """
    if is_compiled_for(weights):
        return torch.from_numpy(kernels.combine(weights.contiguous().numpy(), functions.numpy()))
    return weights @ functions
