"""Convolution along a closed sequence, with a backward pass that is one more convolution."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def circular_convolution(features: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Return what a circular `torch.nn.Conv1d` of odd kernel gives, over channels that come last.

    Args:
        features: (B, N, I), contiguous; N at least ``dilation * (kernel // 2)``.
        weight: (O, I, kernel), of the features' dtype.
        bias: (O,), of the features' dtype.
        dilation: Places between the taps.

    Returns:
        (B, N, O), contiguous.
    """
    images = features.transpose(1, 2).unsqueeze(2)  # (B, I, 1, N) in channels-last memory
    output: Tensor = _CircularConvolution.apply(images, weight.unsqueeze(2), bias, dilation)  # type: ignore[no-untyped-call]
    return output.squeeze(2).transpose(1, 2)


class _CircularConvolution(torch.autograd.Function):
    """A convolution of images (B, I, 1, N) that continue at their other end.

    Autograd would add up the gradients of the padded ends in copies of the whole; the gradient of a
    circular convolution is itself one, with the kernel transposed and turned.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        padded = _pad(images, dilation * (weight.shape[3] // 2))
        ctx.save_for_backward(padded, weight)
        ctx.dilation = dilation
        return F.conv2d(padded, weight, bias, dilation=(1, dilation))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        padded, weight = ctx.saved_tensors
        outer, step = gradients[0], (1, ctx.dilation)
        turned = weight.transpose(0, 1).flip(3)
        inner = F.conv2d(_pad(outer, ctx.dilation * (weight.shape[3] // 2)), turned, dilation=step)
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            outer, padded, weight, [len(weight)], [1, 1], [0, 0], step, False, [0, 0], 1, [False, True, True]
        )
        return inner, of_weight, of_bias, None


def _pad(images: Tensor, width: int) -> Tensor:
    """Return images (..., N) with their ends repeated on the other side, (..., N + 2 * width)."""
    start = images.shape[-1] - width
    return torch.cat([images[..., start:], images, images[..., :width]], dim=-1)
