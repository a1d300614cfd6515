"""Layers that several networks consist of."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int] = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    is_active: bool = True,
) -> nn.Sequential:
    """Return a convolution, batch normalisation and, unless ``is_active`` is false, a ReLU.

    Without stride, height and width stay as they are.
    """
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (dilation * (sides[0] // 2), dilation * (sides[1] // 2))
    layer = nn.Conv2d(inputs, outputs, sides, stride, padding, dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([nn.ReLU()] if is_active else []))


def resize(features: Tensor, like: Tensor) -> Tensor:
    """Return features, (B, C, h, w), bilinearly resampled to the height and width of others, (B, D, H, W)."""
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input, which is projected if its shape differs.

    Source:
        He et al. (2016), Deep residual learning for image recognition, CVPR, 770-778,
        doi:10.1109/CVPR.2016.90.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.change = nn.Sequential(
            conv(inputs, outputs, stride=stride, dilation=dilation),
            conv(outputs, outputs, dilation=dilation, is_active=False),
        )
        is_same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if is_same else conv(inputs, outputs, 1, stride=stride, is_active=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride), rounded up."""
        return F.relu(self.change(features) + self.shortcut(features))


def residual_stage(
    inputs: int, outputs: int, blocks: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return residual blocks in a row, of which the first changes channels and size."""
    first = ResidualBlock(inputs, outputs, stride, dilation)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1, dilation) for _ in range(blocks - 1)))


def walk(stages: Sequence[nn.Module] | nn.ModuleList, features: Tensor) -> list[Tensor]:
    """Return what each of several stages in a row gives."""
    found = []
    for stage in stages:
        features = stage(features)
        found.append(features)
    return found


def join(first: Tensor, second: Tensor) -> Tensor:
    """Return two features, the first resampled to the size of the second, as channels of one."""
    return torch.cat([resize(first, second), second], dim=1)
