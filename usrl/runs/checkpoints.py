"""What a training writes as it goes: checkpoints, its best weights and its log."""

import inspect
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn
from torch.optim import Optimizer

from usrl.errors import UserError, brief
from usrl.runs.run import Run
from usrl.runs.tensors import load_state, load_tensors, save_tensors, unique_state
from usrl.strict import Strict, check

Parts = Mapping[str, nn.Module | Optimizer]
"""The parts of a checkpoint, by the prefix of their tensors' names in the file."""


def save_checkpoint(path: Path, parts: Parts, facts: Mapping[str, Any]) -> None:
    """Write the state of modules and optimizers, and JSON facts, atomically.

    Learning rate and other settings of an optimizer are left out: they come from the recipe and the step.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, part in parts.items():
        state = unique_state(part) if isinstance(part, nn.Module) else _optimizer_state(part)
        tensors |= {prefix + name: tensor for name, tensor in state.items()}
    save_tensors(path, tensors, facts)


def load_checkpoint(path: Path, parts: Parts) -> dict[str, Any]:
    """Restore parts, on any device, from a file of `save_checkpoint`; return its facts.

    The file is refused if its names or shapes are not those of the parts.
    """
    tensors, facts = load_tensors(path)
    for prefix, part in parts.items():
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if isinstance(part, nn.Module):
            load_state(part, own, path)
        else:
            _load_optimizer(part, own, path)
    return facts


def _optimizer_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimizer, named ``<number of the parameter>.<key>``."""
    return {
        f"{number}.{key}": torch.as_tensor(value)
        for number, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if value is not None
    }


def _load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = {str(number): parameter for number, parameter in enumerate(held)}
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    known = inspect.signature(type(optimizer)).parameters
    fresh = type(optimizer)([parameter], **{k: v for k, v in optimizer.defaults.items() if k in known})
    fresh.step()  # shows what such an optimizer keeps for each parameter
    kept = {key: torch.as_tensor(v).shape for key, v in fresh.state[parameter].items() if v is not None}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        if number not in own:
            fits = False
        elif kept.get(key, tensor.shape):  # a value for each of the parameter's
            fits = (tensor.shape, tensor.dtype) == (own[number].shape, own[number].dtype)
        else:
            fits = not tensor.shape
        if not fits:
            raise UserError(
                f"{path}: the optimizer's {brief(name)} fits no parameter of the network; train again"
            )
        state.setdefault(int(number), {})[key] = tensor
    for place, entries in state.items():
        if entries.keys() != kept.keys():
            raise UserError(
                f"{path}: wanted {', '.join(sorted(kept))} of the optimizer's parameter {place}, got "
                f"{', '.join(sorted(entries))}; train the run again"
            )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class _Facts(Strict):
    step: NonNegativeInt
    seconds: NonNegativeFloat
    best: float | None  # None before the first evaluation


class Best(Strict):
    """The facts of a weight file: when and how it was the best. Early files have fewer facts."""

    step: NonNegativeInt | None = None
    val_score: float | None = None


def read_best(run: Run) -> Best:
    """Return the facts of a run's weights."""
    return check(Best, load_tensors(run.weights_path)[1], str(run.weights_path))


class Record:
    """Writes what a training gives its run, and knows how far it has come.

    The weights of ``model`` are kept when they are the best so far. Resuming needs ``parts``. The training
    moves ``step``: environment steps or epochs. ``best`` is minus infinity before the first evaluation.
    An evaluation is logged before its checkpoint is written. If a kill comes between the two, the resumed
    training drops the row and makes it again.
    """

    def __init__(self, run: Run, model: nn.Module, parts: Parts) -> None:
        self._run, self._model, self._parts = run, model, parts
        self._began = time.monotonic()
        self.step = 0
        self.best = -math.inf

    @property
    def name(self) -> str:
        """Name of the run."""
        return self._run.name

    @property
    def seconds(self) -> float:
        """Wall time so far, including that before a resume."""
        return time.monotonic() - self._began

    def begin(self, *, resume: bool) -> bool:
        """Start, or resume from the run's checkpoint and return True if there is one.

        Rows of the log that will be made again are dropped.
        """
        path = self._run.checkpoint_path
        is_resumed = resume and path.exists()
        if is_resumed:
            facts = check(_Facts, load_checkpoint(path, self._parts), str(path))
            self.step = facts.step
            self._began -= facts.seconds
            # After a kill, the weights may be newer than log and checkpoint.
            kept = read_best(self._run).val_score if self._run.weights_path.is_file() else None
            self.best = max(-math.inf if score is None else score for score in (facts.best, kept))
        # The first evaluation, at step 0, is made again.
        self._run.truncate_log(self.step or -1)
        return is_resumed

    def log(self, figures: Mapping[str, float]) -> None:
        """Append an evaluation to the log, and keep the weights if its ``val_score`` is the best so far."""
        if (score := figures["val_score"]) > self.best:
            self.best = score
            facts = {"step": self.step, "val_score": score}
            save_tensors(self._run.weights_path, unique_state(self._model), facts)
        self._run.append_log({"step": self.step, "seconds": round(self.seconds, 1)} | dict(figures))

    def checkpoint(self) -> None:
        """Write the state from which a training resumes."""
        best = self.best if math.isfinite(self.best) else None
        facts = {"step": self.step, "seconds": self.seconds, "best": best}
        save_checkpoint(self._run.checkpoint_path, self._parts, facts)
