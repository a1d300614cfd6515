"""TransResU-Net: a residual U-Net whose bridge is a transformer next to dilated convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from usrl.networks.architectures.layers import ResidualBlock, conv, join, residual_stage, walk

_DILATIONS = (1, 3, 6, 9)
_LAYERS, _HEADS = 2, 8


class TransResUNet(nn.Module):
    """TransResU-Net.

    5,822,705 parameters with one input channel and the defaults. The paper's encoder is ResNet-50 up to its
    third stage (64, 256, 512 and 1024 channels, with 3, 4 and 6 bottlenecks); here it has two basic blocks of
    32, 64, 128 and 256 channels a stage. Bridge and decoder have half the channels that the paper's have, 128
    for each part of the bridge. Each place of the deepest features is a token of the transformer, which is
    given no positions: the convolutions before it know the border.

    Args:
        inputs: Channels of the images.
        channels: Channels at half, a quarter, an eighth and a sixteenth of the size; the last a multiple
            of 16.
        blocks: Residual blocks of a stage.
        dropout: Share that training drops of the transformer's numbers, and of the bridge's channels.

    Source:
        Tomar, Shergill, Rieders, Bagci and Jha (2022), TransResU-Net: transformer based ResU-Net for
        real-time colonoscopy polyp segmentation, arXiv:2206.08985. Vaswani et al. (2017), Attention is all
        you need, NeurIPS, 5998-6008, arXiv:1706.03762.
    """

    def __init__(self, inputs: int, channels: Sequence[int], blocks: int, dropout: float) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.stages = nn.ModuleList(
            [
                conv(inputs, first, 7, stride=2),
                nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), residual_stage(first, second, blocks)),
                residual_stage(second, third, blocks, stride=2),
                residual_stage(third, fourth, blocks, stride=2),
            ]
        )
        self.attention, self.dilated = _Attention(fourth, fourth // 2, dropout), _Dilated(fourth, fourth // 2)
        self.dropout = nn.Dropout2d(dropout)
        last = max(1, first // 2)
        raised = [
            (fourth + third, third),
            (third + second, second),
            (second + first, first),
            (first + inputs, last),
        ]
        self.decoder = nn.ModuleList(
            nn.Sequential(ResidualBlock(before, after), ResidualBlock(after, after))
            for before, after in raised
        )
        self.score = nn.Conv2d(last, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, (B, inputs, S, S), S at least 32, to logits, (B, 1, S, S)."""
        *skips, deepest = [images, *walk(self.stages, images)]
        features = torch.cat([self.attention(deepest), self.dilated(deepest)], dim=1)
        features = self.dropout(features)
        for layers, skip in zip(self.decoder, reversed(skips), strict=True):
            features = layers(join(features, skip))
        return self.score(features)


class _Attention(nn.Module):
    """Two layers of a transformer over all places."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.narrow, self.smooth = conv(inputs, width, 1), conv(width, width)
        layers = (
            nn.TransformerEncoderLayer(width, _HEADS, 4 * width, dropout, batch_first=True)
            for _ in range(_LAYERS)
        )
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, width, h, w)."""
        narrowed = self.narrow(features)
        tokens = self.layers(narrowed.flatten(2).transpose(1, 2))  # (B, h w, width)
        return self.smooth(tokens.transpose(1, 2).reshape(narrowed.shape))


class _Dilated(nn.Module):
    """Convolutions of four dilations next to each other, joined."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv(inputs, width, dilation=dilation) for dilation in _DILATIONS)
        self.mix = conv(len(_DILATIONS) * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, width, h, w)."""
        return self.mix(torch.cat([branch(features) for branch in self.branches], dim=1))
