"""The one table of these networks: how a recipe builds each, and which recipes fit."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from usrl.errors import UserError
from usrl.networks.architectures.deeplabv3plus import DeepLabV3Plus
from usrl.networks.architectures.fcn import FCN
from usrl.networks.architectures.pranet import PraNet
from usrl.networks.architectures.rfnet import RFNet
from usrl.networks.architectures.segnet import SegNet
from usrl.networks.architectures.transresunet import TransResUNet
from usrl.networks.architectures.unet_lite0 import UNetLite0
from usrl.networks.recipe import NetworkRecipe


@dataclass(frozen=True)
class Row:
    """A network of a paper.

    Attributes:
        build: Returns the network for a recipe and a number of input channels.
        channels: What the numbers of ``channels`` are, for messages.
        count: How many they are.
        least: The smallest side of an image, px: the deepest features then have two places a side.
        has_units: Whether ``residual_units`` counts its blocks.
        multiple: What the last number of the encoder must be a multiple of.
    """

    build: Callable[[NetworkRecipe, int], nn.Module]
    channels: str
    count: int
    least: int
    has_units: bool = True
    multiple: int = 1

    def check(self, recipe: NetworkRecipe, key: str, size: int) -> None:
        """Refuse a recipe that the network cannot be built from. A key says the side of its images, px."""
        name, units = recipe.network, recipe.residual_units
        if len(recipe.channels) != self.count:
            raise UserError(
                f"channels: {name} takes {self.count} numbers, {self.channels}, got {recipe.channels}; "
                "set channels: null for its own"
            )
        if bool(units) != self.has_units:
            told = "needs at least 1 block a stage" if self.has_units else "has none"
            raise UserError(
                f"residual_units: {name} {told}, got {units}; set residual_units: null for its own"
            )
        if recipe.channels[-1] % self.multiple:
            raise UserError(
                f"channels: the last must be a multiple of {self.multiple}, got {recipe.channels[-1]}"
            )
        if size < self.least:
            raise UserError(f"{key}: {name} wants {self.least} px or more, got {size}; raise it")


ROWS = {
    "fcn": Row(
        lambda recipe, inputs: FCN(inputs, recipe.channels, recipe.dropout),
        "of the five stages and of the last layers",
        count=6,
        least=64,
        has_units=False,
    ),
    "segnet": Row(
        lambda recipe, inputs: SegNet(inputs, recipe.channels, recipe.dropout),
        "of the five stages",
        count=5,
        least=64,
        has_units=False,
    ),
    "deeplabv3plus": Row(
        lambda recipe, inputs: DeepLabV3Plus(inputs, recipe.channels, recipe.residual_units, recipe.dropout),
        "of the four stages and of the decoder",
        count=5,
        least=32,
    ),
    "pranet": Row(
        lambda recipe, inputs: PraNet(inputs, recipe.channels, recipe.residual_units, recipe.dropout),
        "of the four stages and of the decoder",
        count=5,
        least=64,
    ),
    "rfnet": Row(
        lambda recipe, inputs: RFNet(inputs, recipe.channels, recipe.residual_units, recipe.dropout),
        "of the four stages",
        count=4,
        least=64,
    ),
    "transresunet": Row(
        lambda recipe, inputs: TransResUNet(inputs, recipe.channels, recipe.residual_units, recipe.dropout),
        "of the four stages",
        count=4,
        least=32,
        multiple=16,
    ),
    "unet-lite0": Row(
        lambda recipe, inputs: UNetLite0(inputs, recipe.channels, recipe.dropout, presence=recipe.presence),
        "of the decoder's four blocks",
        count=4,
        least=64,
        has_units=False,
    ),
}
