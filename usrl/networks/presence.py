"""Whether an image shows a lesion at all: a head over a network's deepest features.

Segmentation learns best from images that have a lesion, and then finds one almost everywhere. The head learns
from all images, and empties the masks of those that it rates low.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from usrl.networks.recipe import NetworkRecipe

REJECTS_NOTHING = -1000.0
COST = 0.01
"""Mean Dice of the validation images with a lesion that may be lost by rejecting some of them."""
_MARGIN = 0.1
"""How far below a rating that is to be kept the least one lies: ratings differ a little between batches."""
_BATCH = 32


class PresenceHead(nn.Module):
    """Rates the presence of a lesion.

    Args:
        channels: Of the features.
        dropout: Share of the features that training drops.

    Attributes:
        least: The rating above which masks are kept, a logit, float32, (); see `choose_least`.
    """

    least: Tensor

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, 1))
        self.register_buffer("least", torch.tensor(REJECTS_NOTHING))

    def forward(self, features: Tensor) -> Tensor:
        """Return the ratings of features (B, C, h, w) as logits, (B, 1)."""
        rating: Tensor = self.score(features.mean(dim=(2, 3)))
        return rating

    def limit(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) of masks that are no surer than ratings (B, 1) allow.

        With a rating of ``least`` or below no pixel is more likely than one half. Averaged with the mirrored
        image's, the mean of both ratings decides.
        """
        return torch.minimum(scores, (ratings - self.least)[..., None, None])


class RatesPresence(Protocol):
    """A network with such a head."""

    presence: PresenceHead | None

    def rate(self, images: Tensor) -> Tensor:
        """Return the ratings of images, float32, (B, C, S, S), as logits, (B, 1)."""


def choose_least(ratings: NDArray[np.float32], scores: NDArray[np.float64]) -> float:
    """Return the highest rating that may be asked for when all images below it lose their Dice.

    Args:
        ratings: Of images that have a lesion, (n,).
        scores: Their Dice, (n,); at most `COST` of the mean is given up.
    """
    order = np.argsort(ratings, kind="stable")
    lost = scores[order].cumsum() / len(scores)
    kept = min(int((lost <= COST).sum()), len(order) - 1)
    return float(ratings[order[kept]]) - _MARGIN


@torch.inference_mode()
def rate_images(network: RatesPresence, images: Tensor, recipe: NetworkRecipe) -> NDArray[np.float32]:
    """Return the ratings of images, uint8, (M, S, S), of an automatic network, float32, (M,).

    They are averaged with those of the mirrored images if the recipe asks for that.
    """
    parts = []
    for part in images.split(_BATCH):
        shown = part[:, None].float() / 255
        ratings = network.rate(shown)
        if recipe.flip_test:
            ratings = (ratings + network.rate(shown.flip(-1))) / 2
        parts.append(ratings[:, 0])
    return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)
