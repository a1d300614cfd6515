"""Networks of the user's own, named in a recipe by import path."""

import sys

import torch
from torch import Tensor, nn

from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe

_MOST_LETTERS = 200


def is_own(network: str) -> bool:
    """Return whether a recipe's ``network`` is an import path."""
    return ":" in network


def build_own(recipe: NetworkRecipe, inputs: int, size: int) -> nn.Module:
    """Return the network of an import path such as ``mypackage.nets:Build``, untrained.

    ``Build`` is a class derived from `torch.nn.Module` whose constructor takes the recipe. Its modules map
    images, float32, (B, inputs, S, S), to logits (B, 1, S, S), in training also to a list of such logits, of
    which the first is the answer.

    A recipe imports nothing, as recipes come with runs from elsewhere: the module must be imported before, as
    by ``usrl --import mypackage.nets``. Nothing but a class of networks is called.

    Raises:
        UserError: If the path does not lead to such a class, or the network has no weights, fails, or answers
            in another shape.
    """
    path, images, wanted = recipe.network, torch.zeros(1, inputs, size, size), (1, 1, size, size)
    kind = _find(path)
    try:
        network = kind(recipe)
        is_training = network.training
        with torch.inference_mode():
            answer = network.eval()(images)
        network.train(is_training)
    except Exception as error:  # of somebody's code
        told = f"{type(error).__name__}: {str(error)[:_MOST_LETTERS]}"
        raise UserError(
            f"network: {path}(recipe) must map an image {tuple(images.shape)} to logits {wanted}, and fails "
            f"({told}); correct the class"
        ) from error
    found = tuple(answer.shape) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
    if found != wanted:
        raise UserError(
            f"network: {path} must map an image {tuple(images.shape)} to logits {wanted}, got {found}; "
            "change its last layer"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"network: {path} has no weights to learn; name another class")
    return network


def _find(path: str) -> type[nn.Module]:
    module, _, name = path.partition(":")
    if module not in sys.modules:
        raise UserError(
            f"network: {path} is of a module that is not imported; name it, as in `usrl --import "
            f"{module or 'mypackage.nets'} train ...`, or import it before"
        )
    found = vars(sys.modules[module]).get(name)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise UserError(
            f"network: {path} must be a class derived from torch.nn.Module, got {what}; name such a class, "
            "whose constructor takes the recipe"
        )
    return found
