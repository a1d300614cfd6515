"""Checkpoints of a training, and what else it writes as it goes: best weights and log."""

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

from usrl.errors import UserError
from usrl.runs.run import Run
from usrl.runs.tensors import load_state, load_tensors, save_tensors, unique_state
from usrl.strict import Strict, check

Parts = Mapping[str, nn.Module | Optimizer]
"""What a checkpoint holds, each part by the prefix of its tensors' names in the file."""


def save_checkpoint(path: Path, parts: Parts, facts: Mapping[str, Any]) -> None:
    """Write the state of modules and optimizers, and JSON facts, atomically.

    Learning rate and other settings of an optimizer are not state: they come from the recipe and the step.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, part in parts.items():
        state = unique_state(part) if isinstance(part, nn.Module) else _optimizer_state(part)
        tensors |= {prefix + name: tensor for name, tensor in state.items()}
    save_tensors(path, tensors, facts)


def load_checkpoint(path: Path, parts: Parts) -> dict[str, Any]:
    """Restore parts from what `save_checkpoint` wrote, on any device; return its facts.

    Raises:
        UserError: If the file is unusable, or its names or shapes are not those of the parts.
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
    shapes = {str(number): parameter.shape for number, parameter in enumerate(held)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        if number not in shapes or tensor.shape not in ((), shapes[number]):
            raise UserError(
                f"{path}: the optimizer's {name!r} fits no parameter of this recipe's network; train it again"
            )
        state.setdefault(int(number), {})[key] = tensor
    keys = _state_keys(optimizer)
    for place, entries in state.items():
        if entries.keys() != keys:
            raise UserError(
                f"{path}: wanted {', '.join(sorted(keys))} of the optimizer's parameter {place}, got "
                f"{', '.join(sorted(entries))}; train the run again"
            )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _state_keys(optimizer: Optimizer) -> set[str]:
    """Return what an optimizer of a kind keeps for each parameter after its first step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    known = inspect.signature(type(optimizer)).parameters
    fresh = type(optimizer)([parameter], **{k: v for k, v in optimizer.defaults.items() if k in known})
    fresh.step()
    return {key for key, value in fresh.state[parameter].items() if value is not None}


class _Facts(Strict):
    step: NonNegativeInt
    seconds: NonNegativeFloat
    best: float | None  # None before the first evaluation


class Best(Strict):
    """The facts of a weight file: where it was the best so far. Early ones tell less."""

    step: NonNegativeInt | None = None
    val_score: float | None = None


def read_best(run: Run) -> Best:
    """Return the facts of a run's weights; raise a `UserError` if the file is unusable."""
    return check(Best, load_tensors(run.weights_path)[1], str(run.weights_path))


class Record:
    """What a training writes into its run, and how far it has come.

    An evaluation is logged before the checkpoint of its step is written: what a kill cuts off between the two
    is done again, and the row dropped.

    Args:
        run: Folder to write.
        model: Its weights are kept while they are the best so far.
        parts: All that a resumed training needs.

    Attributes:
        step: Environment steps or epochs so far; moved by the training.
        best: Best validation score so far; minus infinity before the first.
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
        """Wall time so far, that of the trainings before it was resumed included."""
        return time.monotonic() - self._began

    def begin(self, *, resume: bool) -> bool:
        """Start over, or resume from the run's checkpoint and return True if there is one.

        Rows of the log that will be made again are dropped.

        Raises:
            UserError: If the checkpoint is unusable.
        """
        path = self._run.checkpoint_path
        is_resumed = resume and path.exists()
        if is_resumed:
            facts = check(_Facts, load_checkpoint(path, self._parts), str(path))
            best = -math.inf if facts.best is None else facts.best
            self.step, self.best = facts.step, max(best, self._kept())
            self._began -= facts.seconds
        # The first evaluation, at step 0, is made again.
        self._run.truncate_log(self.step or -1)
        return is_resumed

    def _kept(self) -> float:
        """Return the score of the weights, which a kill may have let get ahead of log and checkpoint."""
        score = read_best(self._run).val_score if self._run.weights_path.is_file() else None
        return -math.inf if score is None else score

    def log(self, figures: Mapping[str, float]) -> None:
        """Append an evaluation to the log, and keep the weights if its ``val_score`` is the best so far."""
        if (score := figures["val_score"]) > self.best:
            self.best = score
            facts = {"step": self.step, "val_score": score}
            save_tensors(self._run.weights_path, unique_state(self._model), facts)
        self._run.append_log({"step": self.step, "seconds": round(self.seconds, 1)} | dict(figures))

    def checkpoint(self) -> None:
        """Write the state that a resumed training goes on from."""
        best = self.best if math.isfinite(self.best) else None
        facts = {"step": self.step, "seconds": self.seconds, "best": best}
        save_checkpoint(self._run.checkpoint_path, self._parts, facts)
