"""A search: one training after the other, each an ordinary run, compared by validation score alone.

What to try next is Optuna's tree-structured Parzen estimator over what has been tried. Every trial builds the
study anew, from the trials so far and a seed of its own. So a proposal depends on seed, number and results
alone, and a resumed search proposes the same as an uninterrupted one.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pydantic import Field

from usrl.errors import UserError, brief
from usrl.evaluation.report.sheets import format_csv
from usrl.files import locked, write_atomically, writing_to
from usrl.learners import check_recipe, train_run
from usrl.runs.recipe import Recipe
from usrl.runs.recipes import apply_values, dump_recipe, without_search
from usrl.runs.run import create_run
from usrl.runs.search import SearchRange
from usrl.strict import Strict, check, read_json, rename_first_edition

_ATTEMPTS = 1000


class Trial(Strict):
    """A training of the search and its result."""

    number: Annotated[int, Field(ge=0)]
    drawn: dict[str, int | float]  # by key, as `usrl.runs.search.SearchRange.value` reads it
    val_score: float | None = None  # the best; None if the training failed
    seconds: float = 0.0
    failure: str | None = None  # the reason

    @property
    def has_ended(self) -> bool:
        """Whether the training is over, for better or worse."""
        return self.val_score is not None or self.failure is not None


def tune(
    recipe: Recipe, out: Path, count: int, device: torch.device, *, resume: bool = False
) -> tuple[Trial, dict[str, Any]]:
    """Search the ranges of a recipe for the best validation score; return the best trial and its values.

    Writes ``trials/<number>/``, a run each, ``trials.csv`` and ``best.yaml``, the recipe of the best trial.
    It does not score the test images. ``count`` includes the trials before a resumption, which goes on in the
    middle of a training too.

    Raises:
        UserError: If there is nothing to search, Optuna is absent, the recipe (`usrl.learners.check_recipe`)
            or the folder is unusable, or every trial failed.
    """
    if not recipe.search:
        raise UserError("the recipe has no `search`: name the keys to search and their ranges in it")
    require_optuna()
    check_recipe(without_search(recipe))
    search = _Search(recipe, out, count, device)
    with locked(out), writing_to(out):
        create_run(out, recipe, resume=resume)
        trials = search.run()
    best = _best(trials)
    if best is None:
        raise UserError(f"all {len(trials)} trials failed, the first because: {trials[0].failure}")
    return best, search.values(best.drawn)


@dataclass(frozen=True)
class _Search:
    """A folder of trials; the attributes are the arguments of `tune`."""

    recipe: Recipe
    out: Path
    count: int
    device: torch.device

    def values(self, drawn: dict[str, int | float]) -> dict[str, Any]:
        """Return what a trial changes in the recipe, by key."""
        return {key: searched.value(drawn[key]) for key, searched in self.recipe.search.items()}

    def run(self) -> list[Trial]:
        trials: list[Trial] = []
        while (trial := self._load(len(trials))) and trial.has_ended:
            trials.append(trial)
        if trials:
            self._write(trials)  # a kill may have come between the last record and the table
        while len(trials) < self.count:
            begun = self._load(len(trials))
            drawn = begun.drawn if begun else propose(self.recipe.search, trials, self.recipe.seed)
            if drawn is None:
                typer.echo(f"no new values were found after {len(trials)} trials: the search is complete")
                break
            trials.append(self._try(Trial(number=len(trials), drawn=drawn)))
            self._write(trials)
        return trials

    def _record(self, number: int) -> Path:
        return self.out / "trials" / f"{number:03d}" / "trial.json"

    def _load(self, number: int) -> Trial | None:
        """Return a trial that has begun or ended, or None."""
        path = self._record(number)
        if not path.is_file():
            return None
        remedy = f"remove {path.parent} to repeat the trial"
        tree = read_json(path.read_bytes(), str(path), remedy)
        trial = check(Trial, rename_first_edition(tree) if isinstance(tree, dict) else tree, str(path))
        search = self.recipe.search
        is_drawn = trial.drawn.keys() == search.keys() and all(
            search[key].holds(value) for key, value in trial.drawn.items()
        )
        if trial.number != number or not is_drawn:
            raise UserError(f"{path}: not a trial of this search, got {brief(tree)}; {remedy}")
        return trial

    def _try(self, trial: Trial) -> Trial:
        """Train with some values and return what came of it; an interrupted training goes on."""
        record, values = self._record(trial.number), self.values(trial.drawn)
        typer.echo(f"trial {trial.number + 1}/{self.count} in {record.parent}: {describe(values)}")
        with locked(record.parent):
            try:
                recipe = apply_values(self.recipe, values, "this combination")
            except UserError as error:
                found = {"failure": _reason(error)}
            else:
                found = self._train(recipe, trial)
            trial = trial.model_copy(update=found)
            write_atomically(record, trial.model_dump_json(indent=2).encode())
        typer.echo(f"failed: {trial.failure}" if trial.failure else f"val score {trial.val_score:.4f}")
        return trial

    def _train(self, recipe: Recipe, trial: Trial) -> dict[str, Any]:
        record = self._record(trial.number)
        run = create_run(record.parent, recipe, resume=True)
        # Before the training, so that a resumption takes up these values, whatever it would propose itself.
        write_atomically(record, trial.model_dump_json(indent=2).encode())
        try:
            train_run(run, self.device, resume=True)
        except (ValueError, torch.OutOfMemoryError) as error:  # UserError is a ValueError
            return {"failure": _reason(error)}
        rows = run.read_log()
        scores = [row["val_score"] for row in rows]
        if not all(map(math.isfinite, scores)):
            return {"failure": "the validation score is nan or inf: the training has diverged"}
        return {"val_score": max(scores), "seconds": rows[-1]["seconds"]}

    def _write(self, trials: Sequence[Trial]) -> None:
        rows = [
            {"number": trial.number, "val_score": trial.val_score, "seconds": trial.seconds}
            | self.values(trial.drawn)
            | {"failure": trial.failure}
            for trial in trials
        ]
        write_atomically(self.out / "trials.csv", format_csv(rows))
        if best := _best(trials):
            told = f"# Trial {best.number:03d}: best validation score, {best.val_score}, of {len(trials)}.\n"
            recipe = apply_values(self.recipe, self.values(best.drawn), "best.yaml")
            write_atomically(self.out / "best.yaml", (told + dump_recipe(recipe)).encode())


def describe(values: dict[str, Any]) -> str:
    """Return values by key as text."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _best(trials: Sequence[Trial]) -> Trial | None:
    scored = [(trial.val_score, -trial.number, trial) for trial in trials if trial.val_score is not None]
    return max(scored)[-1] if scored else None


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    # Errors from below may print whole tensors after their first line.
    return "; ".join(lines) if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}"


def propose(
    search: Mapping[str, SearchRange], tried: Sequence[Trial], seed: int
) -> dict[str, int | float] | None:
    """Return new numbers to try, as `Trial.drawn`, because trainings of one seed repeat themselves.

    None if 1000 draws bring nothing new.
    """
    optuna = require_optuna()
    distributions = {key: _distribution(optuna, value) for key, value in search.items()}
    past = []
    for trial in tried:
        state = optuna.trial.TrialState.COMPLETE if trial.failure is None else optuna.trial.TrialState.FAIL
        facts = {"params": dict(trial.drawn), "value": trial.val_score, "state": state}
        past.append(optuna.trial.create_trial(distributions=distributions, **facts))
    taken = [trial.drawn for trial in tried]
    for attempt in range(_ATTEMPTS):
        own = int(np.random.SeedSequence([seed, len(tried), attempt]).generate_state(1)[0])
        # A second guess of the estimator is likely to be its first again, so further ones are uniform.
        sampler = optuna.samplers.RandomSampler(own) if attempt else optuna.samplers.TPESampler(seed=own)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(past)
        params = study.ask(distributions).params
        drawn = {key: value.tidy(params[key]) for key, value in search.items()}
        if drawn not in taken:
            return drawn
    return None


def require_optuna() -> Any:
    """Return the module `optuna`, quiet. Raise if it is not installed."""
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError:
        raise UserError('usrl tune needs Optuna, which is absent; run `pip install "usrl[tune]"`') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, searched: SearchRange) -> Any:
    low, high = searched.bounds
    if searched.choices is not None:
        return optuna.distributions.CategoricalDistribution(range(int(high) + 1))
    if searched.is_integer:
        step = 1 if searched.step is None else searched.step
        return optuna.distributions.IntDistribution(low, high, log=searched.log, step=step)
    return optuna.distributions.FloatDistribution(low, high, log=searched.log, step=searched.step)
