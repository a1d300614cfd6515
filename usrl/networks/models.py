"""Segmentation networks from MONAI: how a recipe builds and runs them."""

from collections.abc import Callable
from typing import Any

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

CHANNELS = {"none": 1, "box": 2, "crop": 1, "clicks": 4, "landmarks": 3}
"""Channels of the input by ``prompt``: the image, marks of a user, and a former prediction."""
CROPS = ("crop", "clicks", "landmarks")
"""Prompts that cut the image to the box."""
_MOST_WEIGHTS = 200_000_000  # 4 GB with gradient, average and Adam's two means


def build_network(recipe: NetworkRecipe) -> nn.Module:
    """Return the network of a recipe, untrained.

    It maps images, float32 in [0, 1], (B, C, S, S), to logits (B, 1, S, S). There are `CHANNELS`, the image
    first.

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
    _check_keys(recipe)
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


def predict(network: nn.Module, images: Tensor, recipe: NetworkRecipe) -> FloatArray:
    """Return the probabilities, float32, (M, S, S), of an automatic network for images, uint8, (M, S, S)."""
    parts = [infer(network, as_input(part.float() / 255), recipe)[:, 0] for part in images.split(32)]
    return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)


@torch.inference_mode()
def infer(network: nn.Module, inputs: Tensor, recipe: NetworkRecipe) -> Tensor:
    """Return probabilities, float32, (B, 1, S, S), of inputs, float32, (B, C, S, S).

    They are computed in the recipe's precision, and averaged with the mirrored image if it asks for that.
    With ``feedback`` they come back as the last channel, and are computed again.
    """
    network.eval()
    probability = _infer_once(network, inputs, recipe)
    for _ in range(recipe.feedback):
        probability = _infer_once(network, torch.cat([inputs[:, :-1], probability], dim=1), recipe)
    return probability


def _infer_once(network: nn.Module, inputs: Tensor, recipe: NetworkRecipe) -> Tensor:
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


class _LastOutput(nn.Module):
    """The last of a network's several outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network(images)[-1]
        return output


def _shape(recipe: NetworkRecipe) -> dict[str, Any]:
    return {"spatial_dims": 2, "in_channels": CHANNELS[recipe.prompt], "out_channels": 1}


def _levels(recipe: NetworkRecipe) -> dict[str, Any]:
    """Return what both kinds of U-Net with any number of levels take."""
    levels = {"channels": recipe.channels, "strides": [2] * (len(recipe.channels) - 1)}
    return _shape(recipe) | levels | {"dropout": recipe.dropout}


_BUILDERS: dict[str, Callable[[NetworkRecipe], nn.Module]] = {
    # Instance norm would remove an image's overall brightness and contrast.
    "unet": lambda recipe: UNet(**_levels(recipe), num_res_units=recipe.residual_units, norm="BATCH"),
    "attention-unet": lambda recipe: AttentionUnet(**_levels(recipe)),
    "segresnet": lambda recipe: SegResNet(
        **_shape(recipe),
        init_filters=recipe.channels[0],
        dropout_prob=recipe.dropout or None,
        blocks_down=(recipe.residual_units,) * len(recipe.channels),
        blocks_up=(1,) * (len(recipe.channels) - 1),
    ),
    "unet++": lambda recipe: _LastOutput(
        BasicUNetPlusPlus(
            **_shape(recipe), features=[*recipe.channels, recipe.channels[0]], dropout=recipe.dropout
        )
    ),
}


def _check_keys(recipe: NetworkRecipe) -> None:
    name, channels, units = recipe.network, recipe.channels, recipe.residual_units
    if recipe.feedback and recipe.prompt not in ("clicks", "landmarks"):
        raise UserError(
            f"feedback: a network with prompt: {recipe.prompt} sees no former prediction, got "
            f"{recipe.feedback}; set feedback: 0"
        )
    factor = 2 ** (len(channels) - 1)
    is_crop = recipe.prompt in CROPS
    key, size = ("crop_size", recipe.crop_size) if is_crop else ("data.size", recipe.data.size)
    if size % factor or size < 2 * factor:
        raise UserError(
            f"{key}: {len(channels)} levels want a multiple of {factor} from {2 * factor} px on, "
            f"got {size}; change the size or the number of channels"
        )
    if name in ("attention-unet", "unet++") and units:
        raise UserError(f"residual_units: {name} has none, got {units}; set residual_units: 0")
    if name == "unet++" and len(channels) != 5:
        raise UserError(f"channels: unet++ has five levels, got {channels}; give five numbers")
    if name == "segresnet" and not units:
        raise UserError("residual_units: segresnet needs at least 1 block per level, got 0")
    doubled = [channels[0] * 2**level for level in range(len(channels))]
    if name == "segresnet" and (channels[0] % 8 or channels != doubled):
        raise UserError(
            f"channels: segresnet needs multiples of 8 that double, as [8, 16, 32], got {channels}"
        )
