"""SegNet: a decoder that puts values back where pooling took them from."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from usrl.networks.architectures.layers import conv

_DEPTHS = (2, 2, 3, 3, 3)  # convolutions of the five stages of VGG-16


class SegNet(nn.Module):
    """SegNet with the 13 convolutions of VGG-16 and their mirror image.

    1,842,849 parameters with one input channel and the default channels, a quarter of the paper's 64, 128,
    256, 512 and 512.

    Args:
        inputs: Channels of the images.
        channels: Channels of the five stages.
        dropout: Share of the channels that training drops after the three deepest stages and before the three
            deepest ones of the decoder, as in Kendall et al. (2017).

    Source:
        Badrinarayanan, Kendall and Cipolla (2017), SegNet: a deep convolutional encoder-decoder architecture
        for image segmentation, IEEE TPAMI 39(12):2481-2495, doi:10.1109/TPAMI.2016.2644615. Kendall,
        Badrinarayanan and Cipolla (2017), Bayesian SegNet, BMVC, arXiv:1511.02680.
    """

    def __init__(self, inputs: int, channels: Sequence[int], dropout: float) -> None:
        super().__init__()
        before, after = [inputs, *channels], [channels[0], *channels]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                conv(before[stage], channels[stage]),
                *(conv(channels[stage], channels[stage]) for _ in range(depth - 1)),
            )
            for stage, depth in enumerate(_DEPTHS)
        )
        # The decoder's first stage, which comes last, ends with the scores.
        self.decoder = nn.ModuleList(
            nn.Sequential(
                *(conv(channels[stage], channels[stage]) for _ in range(depth - 1)),
                conv(channels[stage], after[stage]) if stage else nn.Conv2d(channels[0], 1, 3, padding=1),
            )
            for stage, depth in enumerate(_DEPTHS)
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, (B, inputs, S, S), S at least 64, to logits, (B, 1, S, S)."""
        features, places = images, []
        for stage, layers in enumerate(self.encoder):
            features = layers(features)
            shape = features.shape
            features, index = F.max_pool2d(features, 2, return_indices=True)
            places.append((index, shape))
            features = self.dropout(features) if stage >= 2 else features
        for stage in reversed(range(len(places))):
            index, shape = places[stage]
            features = self.dropout(features) if stage >= 2 else features
            features = F.max_unpool2d(features, index, [2, 2], output_size=list(shape))
            features = self.decoder[stage](features)
        return features
