"""PraNet: a coarse map from deep features, refined by looking where it says that nothing is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usrl.networks.architectures.layers import conv, resize, walk

_SCALES = 4  # parts of a Res2Net block
_KERNELS = ((3, 3, 3), (3, 3, 3), (5, 5, 5, 1))  # of the attentions, from the shallowest on


class PraNet(nn.Module):
    """PraNet: a parallel partial decoder and three modules of reverse attention over a Res2Net.

    1,398,708 parameters with one input channel and the defaults. The paper has Res2Net-50 (stages of 256,
    512, 1024 and 2048 channels with 3, 4, 6 and 3 blocks); here each stage has an eighth of the channels and
    two blocks. The decoder has the paper's 32 channels, and all attentions twice as many, as the paper's two
    shallow ones; its deepest one has 256.

    In training it answers with the logits of four depths, each of which learns the mask.

    Args:
        inputs: Channels of the images.
        channels: Channels of the four stages, and of the decoder.
        blocks: Res2Net blocks of a stage.
        dropout: Share of the channels that training drops before the decoder and each attention.

    Source:
        Fan, Ji, Zhou, Chen, Fu, Shen and Shao (2020), PraNet: parallel reverse attention network for polyp
        segmentation, MICCAI, 263-273, doi:10.1007/978-3-030-59725-2_26. Gao et al. (2021), Res2Net: a new
        multi-scale backbone architecture, IEEE TPAMI 43(2):652-662, doi:10.1109/TPAMI.2019.2938758. Wu, Su
        and Huang (2019), Cascaded partial decoder for fast and accurate salient object detection, CVPR,
        3907-3916, arXiv:1904.08739.
    """

    def __init__(self, inputs: int, channels: Sequence[int], blocks: int, dropout: float) -> None:
        super().__init__()
        *widths, width = channels
        self.stem = nn.Sequential(conv(inputs, widths[0], 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1))
        before = [widths[0], *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(
                _Res2Block(before[stage], outputs, stride=1 if stage == 0 else 2),
                *(_Res2Block(outputs, outputs) for _ in range(blocks - 1)),
            )
            for stage, outputs in enumerate(widths)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.fields = nn.ModuleList(_ReceptiveField(outputs, width) for outputs in widths[1:])
        self.decoder = _PartialDecoder(width)
        self.attentions = nn.ModuleList(
            _ReverseAttention(outputs, 2 * width, kernels)
            for outputs, kernels in zip(widths[1:], _KERNELS, strict=True)
        )

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map images, (B, inputs, S, S), S at least 64, to logits, (B, 1, S, S), in training to four."""
        _, *features = walk(self.stages, self.stem(images))  # of S / 8, S / 16 and S / 32
        features = [self.dropout(one) for one in features]
        score = self.decoder(*(field(one) for field, one in zip(self.fields, features, strict=True)))
        scores = [score]
        for attention, one in zip(reversed(self.attentions), reversed(features), strict=True):
            score = attention(one, resize(score, one))
            scores.append(score)
        if self.training:
            return [resize(score, images) for score in reversed(scores)]
        return resize(score, images)


class _Res2Block(nn.Module):
    """A bottleneck whose middle is four convolutions in a row, each of a quarter of the channels.

    Each sees its own quarter and what the one before gave, the last quarter passes unchanged. With a stride
    they see their own quarters only, and the last one is averaged.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        width = max(1, outputs // (2 * _SCALES))
        self.narrow = conv(inputs, _SCALES * width, 1)
        self.middle = nn.ModuleList(conv(width, width, stride=stride) for _ in range(_SCALES - 1))
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.widen = conv(_SCALES * width, outputs, 1, is_active=False)
        self.is_first = stride > 1
        is_same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if is_same else conv(inputs, outputs, 1, stride=stride, is_active=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride), rounded up."""
        *quarters, rest = self.narrow(features).chunk(_SCALES, dim=1)
        found: list[Tensor] = []
        for quarter, layer in zip(quarters, self.middle, strict=True):
            shown = quarter if self.is_first or not found else quarter + found[-1]
            found.append(layer(shown))
        joined = torch.cat([*found, self.pool(rest)], dim=1)
        return F.relu(self.widen(joined) + self.shortcut(features))


class _ReceptiveField(nn.Module):
    """Four branches whose views are 1, 9, 15 and 21 places wide, joined."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()

        def branch(side: int) -> nn.Sequential:
            return nn.Sequential(
                conv(inputs, width, 1, is_active=False),
                conv(width, width, (1, side), is_active=False),
                conv(width, width, (side, 1), is_active=False),
                conv(width, width, dilation=side, is_active=False),
            )

        self.branches = nn.ModuleList([conv(inputs, width, 1, is_active=False), *map(branch, (3, 5, 7))])
        self.mix = conv(4 * width, width, is_active=False)
        self.shortcut = conv(inputs, width, 1, is_active=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, width, h, w)."""
        joined = torch.cat([branch(features) for branch in self.branches], dim=1)
        return F.relu(self.mix(joined) + self.shortcut(features))


class _PartialDecoder(nn.Module):
    """Deeper features weigh shallower ones by products, and all are joined from the deepest on."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def plain(count: int) -> nn.Sequential:
            return conv(count * width, count * width, is_active=False)

        self.deep_to_middle, self.deep_to_shallow, self.middle_to_shallow = plain(1), plain(1), plain(1)
        self.deep_up, self.middle_up = plain(1), plain(2)
        self.join_middle, self.join_shallow = plain(2), plain(3)
        self.score = nn.Sequential(plain(3), nn.Conv2d(3 * width, 1, 1))

    def forward(self, shallow: Tensor, middle: Tensor, deep: Tensor) -> Tensor:
        """Map features of three depths, (B, width, h, w), to scores as large as the shallow ones."""
        weighed_middle = self.deep_to_middle(resize(deep, middle)) * middle
        weighed_shallow = (
            self.deep_to_shallow(resize(deep, shallow))
            * self.middle_to_shallow(resize(middle, shallow))
            * shallow
        )
        joined = self.join_middle(torch.cat([weighed_middle, self.deep_up(resize(deep, middle))], dim=1))
        raised = self.middle_up(resize(joined, shallow))
        return self.score(self.join_shallow(torch.cat([weighed_shallow, raised], dim=1)))


class _ReverseAttention(nn.Module):
    """Corrects a score by features of the places where it finds no lesion."""

    def __init__(self, inputs: int, width: int, kernels: Sequence[int]) -> None:
        super().__init__()
        *between, last = kernels
        self.layers = nn.Sequential(
            conv(inputs, width, 1, is_active=False),
            *(conv(width, width, kernel) for kernel in between),
            nn.Conv2d(width, 1, last, padding=last // 2),
        )

    def forward(self, features: Tensor, score: Tensor) -> Tensor:
        """Map features, (B, inputs, h, w), and scores, (B, 1, h, w), to better scores, (B, 1, h, w)."""
        return score + self.layers(features * (1 - torch.sigmoid(score)))
