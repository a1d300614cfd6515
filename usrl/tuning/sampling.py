"""What to try next: Optuna's tree-structured Parzen estimator over what has been tried.

Every trial builds the study anew, from the trials so far and a seed of its own. So a proposal depends on
seed, number and results alone, and a resumed search proposes the same as an uninterrupted one.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from usrl.errors import UserError
from usrl.runs.search import SearchRange
from usrl.strict import Strict

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


def propose(
    search: Mapping[str, SearchRange], tried: Sequence[Trial], seed: int
) -> dict[str, int | float] | None:
    """Return new numbers to try, as `Trial.drawn`, because trainings of one seed repeat themselves.

    None if 1000 draws bring nothing new.
    """
    optuna = require_optuna()
    distributions = {key: _distribution(optuna, value) for key, value in search.items()}
    states = optuna.trial.TrialState
    past = [
        optuna.trial.create_trial(
            state=states.COMPLETE if trial.failure is None else states.FAIL,
            params=dict(trial.drawn),
            distributions=distributions,
            value=trial.val_score,
        )
        for trial in tried
    ]
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
