"""FCN-8s: a classifier's layers as convolutions, and scores of three depths that are added."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from usrl.networks.architectures.layers import conv, resize

_DEPTHS = (2, 2, 3, 3, 3)  # convolutions of the five stages of VGG-16


class FCN(nn.Module):
    """FCN-8s with the layers of VGG-16.

    4,397,747 parameters with one input channel and the default channels, a quarter of the paper's 64, 128,
    256, 512 and 512, and 512 instead of 4096 for the layers that were fully connected. The paper pads images
    by 100 px and crops; here convolutions keep the size. Scores of the last layer are doubled in size by a
    learned transposed convolution, added to those of the fourth stage, doubled and added to those of the
    third, and resampled to the image.

    Args:
        inputs: Channels of the images.
        channels: Channels of the five stages, and of the two layers that were fully connected.
        dropout: Share of the channels that training drops after each of these two.

    Source:
        Long, Shelhamer and Darrell (2015), Fully convolutional networks for semantic segmentation, CVPR,
        3431-3440, doi:10.1109/CVPR.2015.7298965.
    """

    def __init__(self, inputs: int, channels: Sequence[int], dropout: float) -> None:
        super().__init__()
        *widths, full = channels
        before = [inputs, *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(
                conv(before[stage], widths[stage]),
                *(conv(widths[stage], widths[stage]) for _ in range(depth - 1)),
                nn.MaxPool2d(2),
            )
            for stage, depth in enumerate(_DEPTHS)
        )
        self.classifier = nn.Sequential(
            conv(widths[4], full, 7),
            nn.Dropout2d(dropout),
            conv(full, full, 1),
            nn.Dropout2d(dropout),
            nn.Conv2d(full, 1, 1),
        )
        self.score_fourth, self.score_third = nn.Conv2d(widths[3], 1, 1), nn.Conv2d(widths[2], 1, 1)
        self.double_last, self.double_fourth = _doubling(), _doubling()

    def forward(self, images: Tensor) -> Tensor:
        """Map images, (B, inputs, S, S), S at least 64, to logits, (B, 1, S, S)."""
        features, found = images, []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        third, fourth = self.score_third(found[2]), self.score_fourth(found[3])  # (B, 1, S / 8, S / 8), ...
        score = self.double_last(self.classifier(features), output_size=fourth.shape) + fourth
        score = self.double_fourth(score, output_size=third.shape) + third
        return resize(score, images)


def _doubling() -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles the size of scores, bilinear before it learns."""
    layer = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
    if not layer.weight.is_meta:
        slope = torch.tensor([0.25, 0.75, 0.75, 0.25])
        with torch.no_grad():
            layer.weight.copy_(torch.outer(slope, slope))
    return layer
