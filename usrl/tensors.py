"""Weights and checkpoints as safetensors: reading one never unpickles."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from usrl.errors import UserError
from usrl.files import write_atomically

_OPTIMIZER = "optimizer."


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Write tensors as safetensors, with JSON facts in the header, atomically."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, metadata={"facts": json.dumps(dict(facts or {}))}))


def load_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Returns:
        The tensors by name, and the facts.

    Raises:
        UserError: If the file is missing, truncated or not safetensors.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train the run again") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path}: truncated or not a safetensors file ({error}); train the run again"
        ) from None


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a weight file into a module of the architecture it was written from.

    Raises:
        UserError: If the file is unusable, or its names or shapes are not the module's.
    """
    load_state(module, load_tensors(path)[0], path)


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors that were read from a file into a module; see `load_weights`."""
    wanted = {name: tuple(value.shape) for name, value in unique_state(module).items()}
    aliases = module.state_dict().keys() - wanted.keys()
    found = {name: tuple(value.shape) for name, value in tensors.items() if name not in aliases}
    if wanted != found:
        name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise UserError(
            f"{path}: weights of another architecture: {name!r} is {found.get(name, 'absent')} in the file "
            f"and {wanted.get(name, 'absent')} in the network of recipe.yaml; restore the one or the other"
        )
    module.load_state_dict(dict(tensors), strict=False)  # aliases follow their tensor


def unique_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state with each tensor once, under its first name.

    Stable-Baselines3's policies have three names for features that actor and critic share.
    """
    named: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        named.setdefault(id(tensor), (name, tensor))
    return dict(named.values())


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer as tensors for `save_tensors`, named ``optimizer.<parameter>.<key>``.

    Learning rate and other settings are not state: they come from the recipe and the step.
    """
    return {
        f"{_OPTIMIZER}{index}.{key}": torch.as_tensor(value)
        for index, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if value is not None
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned; other names are left alone.

    Args:
        optimizer: Over the same parameters in the same order, which already hold their restored values.
        tensors: A checkpoint's tensors.

    Raises:
        UserError: If the state belongs to another number of parameters or to other shapes.
    """
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith(_OPTIMIZER):
            continue
        index, key = name.removeprefix(_OPTIMIZER).split(".", 1)
        if int(index) >= len(parameters) or tensor.shape not in ((), parameters[int(index)].shape):
            raise UserError(
                f"checkpoint: {name!r} fits no parameter of this recipe's network; train it again"
            )
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
