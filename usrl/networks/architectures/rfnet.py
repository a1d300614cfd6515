"""RF-Net: a first segmentation says where it may be wrong, and a second one looks harder there."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usrl.networks.architectures.layers import conv, residual_stage, resize


class RFNet(nn.Module):
    """RF-Net: a residual encoder and a decoder that run twice, with the same weights.

    2,996,786 parameters with one input channel and the defaults. The paper has ResNet-34 (stages of 64, 128,
    256 and 512 channels with 3, 4, 6 and 3 blocks); here each stage has half the channels and two blocks.

    After the first run a module reads from the decoder's features where the segmentation is wrong. In the
    second run the encoder's features are multiplied by one plus this probability.

    In training it answers with three logits: those of the second run, those of the first, and those of the
    first mask with the pixels changed that the module calls wrong. By the last the module learns where mask
    and first mask differ, as in the paper, whose residual target is this difference: cross entropy with the
    one is cross entropy with the other.

    Args:
        inputs: Channels of the images.
        channels: Channels of the four stages.
        blocks: Residual blocks of a stage.
        dropout: Share of the channels that training drops after the encoder's last stage.

    Source:
        Wang, Liang and Zhang (2021), Residual feedback network for breast lesion segmentation in ultrasound
        image, MICCAI, 471-481. The decoder's blocks and the places of the feedback are those of the authors'
        program.
    """

    def __init__(self, inputs: int, channels: Sequence[int], blocks: int, dropout: float) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.stem, self.pool = conv(inputs, first, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList(
            [
                residual_stage(first, first, blocks),
                residual_stage(first, second, blocks, stride=2),
                residual_stage(second, third, blocks, stride=2),
                residual_stage(third, fourth, blocks, stride=2),
            ]
        )
        self.dropout = nn.Dropout2d(dropout)
        self.decoder = nn.ModuleList(
            [_Raise(fourth, third), _Raise(third, second), _Raise(second, first), _Raise(first, first)]
        )
        half = max(1, first // 2)
        self.early, self.late = conv(first, half), conv(half, half)
        self.score = nn.Conv2d(half, 1, 3, padding=1)
        self.residual = _Residual([third, second, first, first], first)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map images, (B, inputs, S, S), S at least 64, to logits, (B, 1, S, S), in training to three."""
        first, decoded = self._segment(images, None)
        wrong = self.residual(decoded)  # (B, 1, S / 2, S / 2)
        second, _ = self._segment(images, torch.sigmoid(wrong))
        if not self.training:
            return second
        # To be wrong where the first mask is background is to be lesion, elsewhere it is to be background.
        turn = torch.where(first > 0, -1.0, 1.0).to(wrong.dtype)
        return [second, first, resize(wrong, images) * turn]

    def _segment(self, images: Tensor, doubt: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of one run, (B, 1, S, S), and the decoder's features, from the deepest on."""
        features = _weigh(self.stem(images), doubt)  # (B, C, S / 2, S / 2)
        size, found = features, []
        features = self.pool(features)
        for stage in self.stages:
            features = _weigh(stage(features), doubt)
            found.append(features)
        features, decoded = self.dropout(features), []
        for layer, skip in zip(self.decoder, [*reversed(found[:-1]), None], strict=True):
            like = size if skip is None else skip
            features = layer(features, like) if skip is None else layer(features, like) + skip
            decoded.append(features)
        return self.score(self.late(self.early(resize(features, images)))), decoded


def _weigh(features: Tensor, doubt: Tensor | None) -> Tensor:
    """Return features, (B, C, h, w), times one plus the doubt, (B, 1, H, W), averaged over their places."""
    if doubt is None:
        return features
    height, width = features.shape[-2:]
    return features * (1 + F.adaptive_avg_pool2d(doubt, (height, width)))


class _Raise(nn.Module):
    """A block of the decoder: fewer channels, a larger size, a convolution, and the channels of the skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        width = max(1, inputs // 4)
        self.narrow, self.middle, self.widen = (
            conv(inputs, width, 1),
            conv(width, width),
            conv(width, outputs, 1),
        )

    def forward(self, features: Tensor, like: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, H, W), with the size of other features."""
        return self.widen(self.middle(resize(self.narrow(features), like)))


class _Residual(nn.Module):
    """Logits of a wrong pixel from the decoder's features of all depths."""

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(conv(one, width) for one in inputs)
        self.mix = nn.Sequential(conv(len(inputs) * width, width), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features from the deepest on to logits of the shallowest ones' size, (B, 1, h, w)."""
        narrowed = [layer(one) for layer, one in zip(self.narrow, features, strict=True)]
        return self.mix(torch.cat([resize(one, features[-1]) for one in narrowed], dim=1))
