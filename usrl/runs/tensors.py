"""Tensors in files, as safetensors: reading one never unpickles."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from usrl.errors import UserError, brief
from usrl.files import write_atomically
from usrl.strict import read_json, rename_first_edition

_MOST_LETTERS = 200


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Write tensors as safetensors, with JSON facts in the header, atomically."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, metadata={"facts": json.dumps(dict(facts or {}))}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, by name, and the facts that `save_tensors` wrote.

    A missing or damaged file, and one with numbers that are not finite, are refused.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("facts", "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        # Of types that torch cannot convert, such as four bits, this raises too.
        unsound = [n for n, t in tensors.items() if t.is_floating_point() and not t.float().isfinite().all()]
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train the run again") from None
    except Exception as error:  # safetensors raises several kinds for a damaged header
        told = f"truncated or not a safetensors file ({str(error)[:_MOST_LETTERS]})"
        raise UserError(f"{path}: {told}; train the run again") from None
    if unsound:
        raise UserError(f"{path}: {brief(unsound[0])} holds numbers that are not finite; train the run again")
    facts = read_json(text, f"{path}: facts", "train the run again")
    if not isinstance(facts, dict):
        raise UserError(f"{path}: facts must be a mapping, got {brief(facts)}; train the run again")
    return tensors, rename_first_edition(facts)


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a weight file into a module of the same architecture; refuse other names and shapes."""
    load_state(module, load_tensors(path)[0], path)


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors of a file into a module; see `load_weights`."""
    own = unique_state(module)
    wanted = {name: tuple(value.shape) for name, value in own.items()}
    aliases = module.state_dict().keys() - wanted.keys()
    found = {name: tuple(value.shape) for name, value in tensors.items() if name not in aliases}
    if wanted != found:
        name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        told = f"{brief(name)} is {found.get(name, 'absent')} in the file"
        raise UserError(
            f"{path}: weights of another architecture: {told} and {wanted.get(name, 'absent')} in the "
            "network of recipe.yaml; restore the one or the other"
        )
    for name, value in own.items():
        if value.dtype != tensors[name].dtype:
            raise UserError(
                f"{path}: wanted {value.dtype} of {name!r}, got {tensors[name].dtype}; restore the file"
            )
    module.load_state_dict({name: tensors[name] for name in own}, strict=False)  # aliases follow


def unique_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state with each tensor once, under its first name.

    Stable-Baselines3's policies have three names for features that actor and critic share.
    """
    named: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        named.setdefault(id(tensor), (name, tensor))
    return dict(named.values())
