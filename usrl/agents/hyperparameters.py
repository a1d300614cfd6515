"""Ranges of the hyperparameters that mean the same in every algorithm."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from usrl.recipes import PositiveFloat, PositiveInt
from usrl.strict import Strict, check

Share = Annotated[float, Field(ge=0, le=1)]


class Ranges(Strict):
    """Hyperparameters that are plain numbers; Stable-Baselines3 tests few of them.

    Without a step, an epoch or a minibatch a training would never end, or fail in its first update.
    """

    n_steps: PositiveInt = 1
    n_epochs: PositiveInt = 1
    batch_size: PositiveInt = 1
    buffer_size: PositiveInt = 1
    train_freq: PositiveInt = 1
    gamma: Share = 1.0
    gae_lambda: Share = 1.0
    vf_coef: Annotated[float, Field(ge=0)] = 1.0
    max_grad_norm: PositiveFloat = 1.0
    huber_delta: PositiveFloat = 1.0


def check_ranges(values: Mapping[str, Any]) -> None:
    """Check those hyperparameters that `Ranges` knows; others are left to their algorithm.

    Raises:
        UserError: If one has another type or is out of its range.
    """
    known = {name: value for name, value in values.items() if name in Ranges.model_fields}
    check(Ranges, known, "hyperparameters")
