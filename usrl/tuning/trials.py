"""A search: one training after the other, each an ordinary run, compared by validation Dice alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer

from usrl.errors import UserError
from usrl.evaluation.compare import format_csv
from usrl.files import write_atomically
from usrl.learners import check_recipe, train_run
from usrl.runs.recipe import Recipe
from usrl.runs.recipes import apply_values, dump_recipe, without_search
from usrl.runs.run import create_run
from usrl.strict import check
from usrl.tuning.sampling import Trial, propose, require_optuna

_RECORD = "trial.json"


def tune(
    recipe: Recipe, out: Path, count: int, device: torch.device, *, resume: bool = False
) -> tuple[Trial, dict[str, Any]]:
    """Search the ranges of a recipe for the best validation Dice.

    Writes ``trials/<number>/``, a run each, ``trials.csv`` and ``best.yaml``, the recipe of the best trial.
    The images of the test split are not scored.

    Args:
        recipe: With a ``search``.
        out: New folder to write.
        count: Trials in all, those before a resumption included.
        device: Where to train.
        resume: Go on with the search that the folder holds, in the middle of a training too.

    Returns:
        The best trial and its values by key.

    Raises:
        UserError: If there is nothing to search, Optuna is absent, the recipe is unusable as it is
            (`usrl.learners.check_recipe`), the folder is unusable, or every trial failed.
    """
    if not recipe.search:
        raise UserError("the recipe has no `search`: name the keys to search and their ranges in it")
    require_optuna()
    check_recipe(without_search(recipe))
    create_run(out, recipe, resume=resume)
    search = _Search(recipe, out, count, device)
    trials = search.read()
    if trials:
        search.write(trials)  # a kill may have come between the last record and the table
    while len(trials) < count:
        begun = search.load(len(trials))
        drawn = begun.drawn if begun else propose(recipe.search, trials, recipe.seed)
        if drawn is None:
            typer.echo(f"no new values were found after {len(trials)} trials: the search is complete")
            break
        trials.append(search.try_values(len(trials), drawn))
        search.write(trials)
    best = _best(trials)
    if best is None:
        raise UserError(f"all {len(trials)} trials failed, the first because: {trials[0].failure}")
    return best, search.values(best)


@dataclass(frozen=True)
class _Search:
    """A folder of trials.

    Attributes:
        recipe: With the ranges.
        out: The folder.
        count: Trials in all.
        device: Where to train.
    """

    recipe: Recipe
    out: Path
    count: int
    device: torch.device

    def values(self, trial: Trial) -> dict[str, Any]:
        """Return what a trial changes in the recipe, by key."""
        return {key: searched.value(trial.drawn[key]) for key, searched in self.recipe.search.items()}

    def folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.out / "trials" / f"{number:03d}"

    def read(self) -> list[Trial]:
        """Return the trials that have ended, in their order."""
        trials: list[Trial] = []
        while (trial := self.load(len(trials))) and trial.has_ended:
            trials.append(trial)
        return trials

    def load(self, number: int) -> Trial | None:
        """Return a trial that has begun or ended, or None."""
        path = self.folder(number) / _RECORD
        if not path.is_file():
            return None
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error}); remove {path.parent} to repeat the trial") from None
        return check(Trial, tree, str(path))

    def save(self, trial: Trial) -> None:
        """Write a trial's record into its folder."""
        record = trial.model_dump_json(indent=2).encode()
        write_atomically(self.folder(trial.number) / _RECORD, record)

    def try_values(self, number: int, drawn: dict[str, int | float]) -> Trial:
        """Train with some values and return what came of it; an interrupted training goes on."""
        trial = Trial(number=number, drawn=drawn)
        folder = self.folder(number)
        typer.echo(f"trial {number + 1}/{self.count} in {folder}: {describe(self.values(trial))}")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            found = self._train(folder, trial)
        except (ValueError, torch.OutOfMemoryError) as error:  # UserError is a ValueError
            found = {"failure": _reason(error)}
        trial = trial.model_copy(update=found)
        self.save(trial)
        typer.echo(f"failed: {trial.failure}" if trial.failure else f"val score {trial.val_score:.4f}")
        return trial

    def _train(self, folder: Path, trial: Trial) -> dict[str, Any]:
        recipe = apply_values(self.recipe, self.values(trial), "this combination")
        run = create_run(folder, recipe, resume=True)
        self.save(trial)  # so that a resumption takes up these values, whatever it would propose itself
        train_run(run, self.device, resume=True)
        rows = run.read_log()
        if not all(math.isfinite(row["val_score"]) for row in rows):
            raise UserError("the validation Dice is nan or inf: the training has diverged")
        return {"val_score": max(row["val_score"] for row in rows), "seconds": rows[-1]["seconds"]}

    def write(self, trials: Sequence[Trial]) -> None:
        """Write the table of trials, and the best recipe where there is one."""
        rows = [
            {"number": trial.number, "val_score": trial.val_score, "seconds": trial.seconds}
            | self.values(trial)
            | {"failure": trial.failure}
            for trial in trials
        ]
        write_atomically(self.out / "trials.csv", format_csv(rows))
        if best := _best(trials):
            title = (
                f"# Trial {best.number:03d}: the best validation Dice, {best.val_score}, of {len(trials)}.\n"
            )
            recipe = apply_values(self.recipe, self.values(best), "best.yaml")
            write_atomically(self.out / "best.yaml", (title + dump_recipe(recipe)).encode())


def describe(values: dict[str, Any]) -> str:
    """Return values by key as text."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _best(trials: Sequence[Trial]) -> Trial | None:
    scored = [(trial.val_score, -trial.number, trial) for trial in trials if trial.val_score is not None]
    return max(scored)[-1] if scored else None


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    # Errors from below may print whole tensors after their first line.
    return (
        "; ".join(lines) if isinstance(error, UserError) else f"{type(error).__name__}: {(lines or [''])[0]}"
    )
