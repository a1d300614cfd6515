"""DeepLabv3+: context by convolutions of several dilations, and a decoder with early features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from usrl.networks.architectures.layers import conv, join, residual_stage, resize, walk

_DILATIONS = (2, 4, 6)


class DeepLabV3Plus(nn.Module):
    """DeepLabv3+ with a residual network whose last stage is dilated, so that features keep S / 16.

    4,153,361 parameters with one input channel and the defaults. The paper has Xception or ResNet-101; here
    each stage has two basic blocks of half of ResNet-18's channels, the context 128 channels instead of 256,
    and the early features 24 instead of 48. The dilations are 2, 4 and 6 instead of 6, 12 and 18, as features
    of 128 px are a quarter as wide as those of the paper's 513 px: there a dilation of 18 would see one place
    only. The mean of the image has no batch normalisation, which a batch of one image would not bear.

    Args:
        inputs: Channels of the images.
        channels: Channels of the four stages, and of context and decoder.
        blocks: Residual blocks of a stage.
        dropout: Share of the channels that training drops after the context and before the scores.

    Source:
        Chen, Zhu, Papandreou, Schroff and Adam (2018), Encoder-decoder with atrous separable convolution for
        semantic image segmentation, ECCV, 833-851, doi:10.1007/978-3-030-01234-2_49.
    """

    def __init__(self, inputs: int, channels: Sequence[int], blocks: int, dropout: float) -> None:
        super().__init__()
        first, second, third, fourth, width = channels
        early = max(1, 3 * width // 16)
        self.stem = nn.Sequential(conv(inputs, first, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.ModuleList(
            [
                residual_stage(first, first, blocks),
                residual_stage(first, second, blocks, stride=2),
                residual_stage(second, third, blocks, stride=2),
                residual_stage(third, fourth, blocks, dilation=2),
            ]
        )
        self.context = _Context(fourth, width, dropout)
        self.early = conv(first, early, 1)
        self.decoder = nn.Sequential(
            conv(width + early, width), conv(width, width), nn.Dropout2d(dropout), nn.Conv2d(width, 1, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images, (B, inputs, S, S), S at least 32, to logits, (B, 1, S, S)."""
        first, *_, last = walk(
            self.stages, self.stem(images)
        )  # (B, C, S / 4, S / 4) and (B, C, S / 16, S / 16)
        return resize(self.decoder(join(self.context(last), self.early(first))), images)


class _Context(nn.Module):
    """Atrous spatial pyramid pooling: one place, three dilations and the mean of all places."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        dilated = (conv(inputs, width, dilation=dilation) for dilation in _DILATIONS)
        self.branches = nn.ModuleList([conv(inputs, width, 1), *dilated])
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, width, 1), nn.ReLU())
        self.mix = nn.Sequential(conv(5 * width, width, 1), nn.Dropout2d(dropout))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, width, h, w)."""
        found = [branch(features) for branch in self.branches]
        return self.mix(torch.cat([*found, self.mean(features).expand_as(found[0])], dim=1))
