"""Networks as a user's package may have them."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from usrl.networks.recipe import NetworkRecipe


class Build(nn.Module):
    """A convolution per number of the recipe's channels."""

    def __init__(self, recipe: NetworkRecipe) -> None:
        super().__init__()
        widths = [2 if recipe.prompt == "box" else 1, *recipe.channels]
        layers = [
            layer
            for before, after in pairwise(widths)
            for layer in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU())
        ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Halved(Build):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[..., ::2, ::2]


class Supervised(Build):
    """Answers with a second output in training."""

    def __init__(self, recipe: NetworkRecipe) -> None:
        super().__init__(recipe)
        self.second = nn.Conv2d(1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return [logits, self.second(images)] if self.training else logits  # type: ignore[return-value]


class Untaught(nn.Module):
    def __init__(self, recipe: NetworkRecipe) -> None:
        raise TypeError("takes no recipe")


class Several(Build):
    """Answers with several outputs in every mode."""

    def forward(self, images: Tensor) -> Tensor:
        return [super().forward(images)]  # type: ignore[return-value]


def make_network(recipe: NetworkRecipe) -> nn.Module:
    raise AssertionError("functions are not called")


NUMBER = torch.zeros(1)
