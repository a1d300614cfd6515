"""Segmentation networks from MONAI: how a recipe builds and runs them."""

from collections.abc import Callable

import numpy as np
import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from usrl.compute.devices import has_bfloat16
from usrl.data.sample import FloatArray
from usrl.errors import UserError, suggest
from usrl.networks.recipe import NetworkRecipe

_MOST_WEIGHTS = 200_000_000  # 4 GB with gradient, average and Adam's two means


def build_network(recipe: NetworkRecipe) -> nn.Module:
    """Return the network of a recipe, untrained.

    It maps images, float32 in [0, 1], shape (B, 1, S, S), or (B, 2, S, S) where the second channel is a box,
    to logits (B, 1, S, S).

    ==============  ==================================  ==============================
    Name            ``channels``                        ``residual_units``
    ==============  ==================================  ==============================
    unet            one per level                       per level; 0 gives plain ones
    attention-unet  one per level                       0: it has none
    segresnet       multiples of 8 that double          blocks per level, at least 1
    unet++          five levels; much slower than unet  0: it has none
    ==============  ==================================  ==============================

    Raises:
        UserError: If the name is unknown, or a key of the recipe does not fit the network.

    Source:
        MONAI's implementations of Kerfoot et al. (2019, unet), Oktay et al. (2018, attention-unet),
        Myronenko (2018, segresnet) and Zhou et al. (2018, unet++).
    """
    if recipe.network not in _BUILDERS:
        raise UserError(f"network: unknown name {recipe.network!r}; {suggest(recipe.network, _BUILDERS)}")
    _check_size(recipe)
    with torch.device("meta"):  # where weights take no memory
        count = sum(parameter.numel() for parameter in _BUILDERS[recipe.network](recipe).parameters())
    if count > _MOST_WEIGHTS:
        raise UserError(
            f"channels: the network would have {count / 1e6:.0f} million weights, and a training keeps five "
            f"numbers for each; at most {_MOST_WEIGHTS / 1e6:.0f} million are allowed, give fewer channels"
        )
    network = _BUILDERS[recipe.network](recipe)
    # Convolutions are faster with the channels innermost, on a CPU and on a GPU.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def input_channels(recipe: NetworkRecipe) -> int:
    """Return the number of channels that a recipe's network is shown."""
    return 2 if recipe.prompt == "box" else 1


def input_size(recipe: NetworkRecipe) -> tuple[str, int]:
    """Return the key and the side in pixels of what a recipe's network is shown."""
    return ("crop_size", recipe.crop_size) if recipe.prompt == "crop" else ("data.size", recipe.data.size)


def predict(network: nn.Module, images: Tensor, recipe: NetworkRecipe) -> FloatArray:
    """Return the probabilities that an automatic network gives.

    Args:
        network: As `usrl.networks.models.build_network` returns it.
        images: Working images, uint8, shape (M, S, S).
        recipe: The network's.

    Returns:
        float32 in [0, 1], shape (M, S, S).
    """
    parts = [infer(network, as_input(part.float() / 255), recipe)[:, 0] for part in images.split(32)]
    return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)


@torch.inference_mode()
def infer(network: nn.Module, inputs: Tensor, recipe: NetworkRecipe) -> Tensor:
    """Return probabilities in the recipe's precision, averaged with the mirrored image if it asks for it.

    Args:
        network: Of the recipe.
        inputs: What the network takes, float32, shape (B, C, S, S).
        recipe: Its recipe.

    Returns:
        float32 in [0, 1], shape (B, 1, S, S).
    """
    network.eval()
    with autocast(recipe, inputs.device):
        probability = torch.sigmoid(network(inputs).float())
        if recipe.flip_test:
            mirrored = torch.sigmoid(network(inputs.flip(-1)).float()).flip(-1)
            probability = (probability + mirrored) / 2
    return probability


def as_input(images: Tensor) -> Tensor:
    """Return images, float32, (B, S, S), as a network takes them: (B, 1, S, S) with channels innermost."""
    return images[:, None].contiguous(memory_format=torch.channels_last)


def autocast(recipe: NetworkRecipe, device: torch.device) -> torch.autocast:
    """Return the context in which a recipe's network computes."""
    is_fast = has_bfloat16(device) if recipe.precision == "auto" else recipe.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast)


def _build_unet(recipe: NetworkRecipe) -> nn.Module:
    network: nn.Module = UNet(
        spatial_dims=2,
        in_channels=input_channels(recipe),
        out_channels=1,
        channels=recipe.channels,
        strides=[2] * (len(recipe.channels) - 1),
        num_res_units=recipe.residual_units,
        # Instance norm would remove an image's overall brightness and contrast.
        norm="BATCH",
        dropout=recipe.dropout,
    )
    return network


def _build_attention_unet(recipe: NetworkRecipe) -> nn.Module:
    _refuse_residual_units(recipe)
    network: nn.Module = AttentionUnet(
        spatial_dims=2,
        in_channels=input_channels(recipe),
        out_channels=1,
        channels=recipe.channels,
        strides=[2] * (len(recipe.channels) - 1),
        dropout=recipe.dropout,
    )
    return network


def _build_segresnet(recipe: NetworkRecipe) -> nn.Module:
    first = recipe.channels[0]
    if first % 8 or recipe.channels != [first * 2**level for level in range(len(recipe.channels))]:
        raise UserError(
            f"channels: segresnet needs multiples of 8 that double, got {recipe.channels}; "
            "for example [16, 32, 64, 128]"
        )
    if not recipe.residual_units:
        raise UserError("residual_units: segresnet needs at least 1 block per level, got 0")
    network: nn.Module = SegResNet(
        spatial_dims=2,
        init_filters=first,
        in_channels=input_channels(recipe),
        out_channels=1,
        dropout_prob=recipe.dropout or None,
        blocks_down=(recipe.residual_units,) * len(recipe.channels),
        blocks_up=(1,) * (len(recipe.channels) - 1),
    )
    return network


class _LastOutput(nn.Module):
    """The last of a network's several outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (B, 1, S, S)."""
        output: Tensor = self.network(images)[-1]
        return output


def _build_unet_plus_plus(recipe: NetworkRecipe) -> nn.Module:
    _refuse_residual_units(recipe)
    if len(recipe.channels) != 5:
        raise UserError(f"channels: unet++ has five levels, got {recipe.channels}; give five numbers")
    network = BasicUNetPlusPlus(
        spatial_dims=2,
        in_channels=input_channels(recipe),
        out_channels=1,
        features=[*recipe.channels, recipe.channels[0]],
        dropout=recipe.dropout,
    )
    return _LastOutput(network)


def _refuse_residual_units(recipe: NetworkRecipe) -> None:
    if recipe.residual_units:
        raise UserError(
            f"residual_units: {recipe.network} has none, got {recipe.residual_units}; set residual_units: 0"
        )


def _check_size(recipe: NetworkRecipe) -> None:
    factor = 2 ** (len(recipe.channels) - 1)
    key, size = input_size(recipe)
    if size % factor or size < 2 * factor:
        raise UserError(
            f"{key}: {len(recipe.channels)} levels want a multiple of {factor} from {2 * factor} px on, "
            f"got {size}; change the size or the number of channels"
        )


_BUILDERS: dict[str, Callable[[NetworkRecipe], nn.Module]] = {
    "unet": _build_unet,
    "attention-unet": _build_attention_unet,
    "segresnet": _build_segresnet,
    "unet++": _build_unet_plus_plus,
}
