"""A U-Net whose encoder is EfficientNet-Lite0, which has published weights."""

from collections.abc import Sequence

from torch import Tensor, nn

from usrl.networks.architectures.layers import conv, join, resize
from usrl.networks.architectures.lite0 import WIDTHS, Lite0Encoder
from usrl.networks.presence import PresenceHead


class UNetLite0(nn.Module):
    """A U-Net over the features of EfficientNet-Lite0.

    3,617,889 parameters with one input channel and the default channels. Each block of the decoder doubles
    the size bilinearly, joins the encoder's features of that size, and has two convolutions. The scores have
    half the image's size and are resampled to it.

    Args:
        inputs: Channels of the images.
        channels: Channels of the decoder's four blocks, from the deepest on.
        dropout: Share of the channels that training drops before the scores.
        presence: Whether a head rates the presence of a lesion (`usrl.networks.presence`): 321 parameters
            more.

    Source:
        Ronneberger, Fischer and Brox (2015), U-Net: convolutional networks for biomedical image segmentation,
        MICCAI, 234-241, doi:10.1007/978-3-319-24574-4_28. For the encoder see
        `usrl.networks.architectures.lite0`.
    """

    def __init__(
        self, inputs: int, channels: Sequence[int], dropout: float, *, presence: bool = False
    ) -> None:
        super().__init__()
        self.encoder = Lite0Encoder(inputs)
        *skips, deepest = WIDTHS
        before = [deepest, *channels]
        self.decoder = nn.ModuleList(
            nn.Sequential(conv(before[number] + skip, outputs), conv(outputs, outputs))
            for number, (skip, outputs) in enumerate(zip(reversed(skips), channels, strict=True))
        )
        self.score = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels[-1], 1, 3, padding=1))
        self.presence = PresenceHead(deepest, dropout) if presence else None

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map images in [0, 1], (B, inputs, S, S), S at least 64, to logits, (B, 1, S, S).

        In training a network that rates presence gives a list of logits and ratings, (B, 1).
        """
        *skips, features = self.encoder(images)
        ratings = None if self.presence is None else self.presence(features)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            features = block(join(features, skip))
        scores = resize(self.score(features), images)
        if self.presence is None or ratings is None:
            return scores
        return [scores, ratings] if self.training else self.presence.limit(scores, ratings)

    def rate(self, images: Tensor) -> Tensor:
        """Return the ratings of images (B, inputs, S, S); see `usrl.networks.presence.RatesPresence`."""
        assert self.presence is not None
        ratings: Tensor = self.presence(self.encoder(images)[-1])
        return ratings
