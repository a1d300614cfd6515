"""Segmentation networks: how a recipe builds and runs them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from usrl.compute.devices import has_bfloat16
from usrl.data.catalogue import kind_of
from usrl.data.clips.clips import CLIPS
from usrl.data.sample import FloatArray
from usrl.errors import UserError, suggest
from usrl.networks.architectures.rows import ROWS, Row
from usrl.networks.own import build_own, is_own
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.recurrent import ConvGRU, ConvLSTM, RecurrentUNet

RECURRENT = ("unet-convlstm", "unet-convgru")
"""Networks that need windows of frames."""
RATING = "unet-lite0"
"""The network that can rate the presence of a lesion (`usrl.networks.presence`)."""
CHANNELS = {"none": 1, "box": 2, "crop": 1, "clicks": 4, "landmarks": 3}
"""Channels of the input by ``prompt``: the image, marks of a user, and a former prediction."""
CROPS = ("crop", "clicks", "landmarks")
"""Prompts that cut the image to the box."""
_MOST_WEIGHTS = 200_000_000  # 4 GB with gradient, average and Adam's two means


def build_network(recipe: NetworkRecipe) -> nn.Module:
    """Return the network of a recipe, untrained.

    It maps images, float32 in [0, 1], (B, C, S, S), to logits (B, 1, S, S). There are `CHANNELS`, the image
    first. In training, a network of several outputs gives a list of such logits: its answer first, and others
    that learn the same mask.

    ==============  ==================================  ==============================
    Name            ``channels``                        ``residual_units``
    ==============  ==================================  ==============================
    unet            one per level                       per level; 0 gives plain ones
    attention-unet  one per level                       0: it has none
    segresnet       multiples of 8 that double          blocks per level, at least 1
    unet++          five levels; much slower than unet  0: it has none
    unet-convlstm   as unet; the last is even           as unet
    unet-convgru    as unet                             as unet
    fcn             five stages, last layers            0: it has none
    segnet          five stages                         0: it has none
    deeplabv3plus   four stages, decoder                blocks per stage, at least 1
    pranet          four stages, decoder                blocks per stage, at least 1
    rfnet           four stages                         blocks per stage, at least 1
    transresunet    four stages, the last of 16 n       blocks per stage, at least 1
    unet-lite0      four blocks of the decoder          0: it has none
    ==============  ==================================  ==============================

    `unet-convlstm` and `unet-convgru` have a recurrent layer at the bottleneck, which sees the frames of a
    clip over time (`usrl.networks.recurrent`): one of both directions, and one that goes forward. A name with
    a colon is the import path of a network of the user's own (`usrl.networks.own`).

    Raises:
        UserError: If the name is unknown, or a key of the recipe does not fit the network.

    Source:
        MONAI's implementations of Kerfoot et al. (2019, unet), Oktay et al. (2018, attention-unet),
        Myronenko (2018, segresnet) and Zhou et al. (2018, unet++); after van den Noort et al. (2021,
        unet-convlstm) and Anas et al. (2018, unet-convgru). The others are in `usrl.networks.architectures`.
    """
    if is_own(recipe.network):
        return _arrange(build_own(recipe, CHANNELS[recipe.prompt], _size(recipe)[1]))
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
    return _arrange(_BUILDERS[recipe.network](recipe))


def _arrange(network: nn.Module) -> nn.Module:
    """Put the channels of weights innermost: convolutions are faster so, on a CPU and on a GPU."""
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


def _size(recipe: NetworkRecipe) -> tuple[str, int]:
    """Return the key of a recipe that says the side of the network's images, and the side, px."""
    return ("crop_size", recipe.crop_size) if recipe.prompt in CROPS else ("data.size", recipe.data.size)


def _shape(recipe: NetworkRecipe) -> dict[str, Any]:
    return {"spatial_dims": 2, "in_channels": CHANNELS[recipe.prompt], "out_channels": 1}


def _levels(recipe: NetworkRecipe) -> dict[str, Any]:
    """Return what both kinds of U-Net with any number of levels take."""
    levels = {"channels": recipe.channels, "strides": [2] * (len(recipe.channels) - 1)}
    return _shape(recipe) | levels | {"dropout": recipe.dropout}


def _plain(recipe: NetworkRecipe) -> dict[str, Any]:
    """Return what a U-Net takes, plain or recurrent."""
    # Instance norm would remove an image's overall brightness and contrast.
    return _levels(recipe) | {"num_res_units": recipe.residual_units, "norm": "BATCH"}


def _build_row(row: Row, recipe: NetworkRecipe) -> nn.Module:
    return row.build(recipe, CHANNELS[recipe.prompt])


_BUILDERS: dict[str, Callable[[NetworkRecipe], nn.Module]] = {
    "unet": lambda recipe: UNet(**_plain(recipe)),
    "unet-convlstm": lambda recipe: RecurrentUNet(ConvLSTM, _plain(recipe), both_ways=True),
    "unet-convgru": lambda recipe: RecurrentUNet(ConvGRU, _plain(recipe), both_ways=False),
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
} | {name: partial(_build_row, row) for name, row in ROWS.items()}


def _check_frames(recipe: NetworkRecipe) -> None:
    """Refuse windows of images, and what cannot be learned from windows of clips."""
    is_recurrent, is_clips = recipe.network in RECURRENT, kind_of(recipe.data.name) == CLIPS
    if not is_clips:
        if recipe.window != 1 or is_recurrent:
            raise UserError(
                f"network: {recipe.network} with window: {recipe.window} learns from clips, and data.name: "
                f"{recipe.data.name} gives {kind_of(recipe.data.name)}; choose clips, such as sweeps"
            )
        return
    if is_recurrent and recipe.window < 2:
        raise UserError(f"window: {recipe.network} needs at least 2 frames, got {recipe.window}; give more")
    if recipe.prompt != "none" or not recipe.negatives:
        raise UserError(
            f"prompt and negatives: on clips a network sees every frame and no box, got prompt "
            f"{recipe.prompt!r} and negatives {recipe.negatives}; leave both out"
        )


def _check_keys(recipe: NetworkRecipe) -> None:
    _check_frames(recipe)
    name, channels, units = recipe.network, recipe.channels, recipe.residual_units
    if recipe.presence and (name != RATING or recipe.prompt != "none"):
        raise UserError(
            f"presence: {RATING} without a prompt rates it, got network {name!r} and prompt "
            f"{recipe.prompt!r}; leave presence out"
        )
    if name == "unet-convlstm" and channels[-1] % 2:
        raise UserError(f"channels: the last of {name} is shared by two directions, so even; got {channels}")
    if recipe.feedback and recipe.prompt not in ("clicks", "landmarks"):
        raise UserError(
            f"feedback: a network with prompt: {recipe.prompt} sees no former prediction, got "
            f"{recipe.feedback}; set feedback: 0"
        )
    factor = 2 ** (len(channels) - 1)
    key, size = _size(recipe)
    if name in ROWS:
        ROWS[name].check(recipe, key, size)
        return
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
