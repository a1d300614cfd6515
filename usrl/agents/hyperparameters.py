"""Ranges of the hyperparameters that mean the same in every algorithm."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from usrl.strict import PositiveFloat, PositiveInt, Strict, check


def _first_of_schedule(value: Any) -> Any:
    """Return the number that ``lin_X`` falls from; anything else as it is."""
    return float(value[4:]) if isinstance(value, str) and value.startswith("lin_") else value


def _first_of_learned(value: Any) -> Any:
    """Return the number that a coefficient which is learned begins with, of ``auto`` or ``auto_X``."""
    if value == "auto":
        return 1.0
    return float(value[5:]) if isinstance(value, str) and value.startswith("auto_") else value


def _refuse_zero(value: int) -> int:
    if value == 0:
        raise ValueError("Input should be greater than 0, or -1 for as many as steps were taken")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Schedule = Annotated[float, BeforeValidator(_first_of_schedule), Field(gt=0)]
Learned = Annotated[float, BeforeValidator(_first_of_learned), Field(ge=0)]


class Ranges(Strict):
    """Hyperparameters that are plain numbers; Stable-Baselines3 tests few of them.

    Without a step, an epoch or a minibatch a training would never end, or fail in its first update; with a
    number of the wrong sign it would run and learn something else.
    """

    n_steps: PositiveInt = 1
    n_epochs: PositiveInt = 1
    batch_size: PositiveInt = 1
    buffer_size: PositiveInt = 1
    train_freq: PositiveInt = 1
    learning_starts: NonNegativeInt = 0
    gradient_steps: Annotated[int, Field(ge=-1), AfterValidator(_refuse_zero)] = 1
    policy_delay: PositiveInt = 1
    target_update_interval: PositiveInt = 1
    stats_window_size: PositiveInt = 1
    learning_rate: Schedule = 1.0
    clip_range: Schedule = 1.0
    clip_range_vf: Schedule | None = None
    target_kl: PositiveFloat | None = None
    gamma: Share = 1.0
    gae_lambda: Share = 1.0
    tau: PositiveShare = 1.0
    ent_coef: Learned = 0.0
    target_entropy: Annotated[float, BeforeValidator(_first_of_learned)] = 1.0
    vf_coef: NonNegativeFloat = 1.0
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0  # infinite: gradients as they are
    huber_delta: PositiveFloat = 1.0
    rms_prop_eps: PositiveFloat = 1.0
    exploration_fraction: PositiveShare = 1.0
    exploration_initial_eps: Share = 1.0
    exploration_final_eps: Share = 1.0
    target_policy_noise: NonNegativeFloat = 0.0
    target_noise_clip: NonNegativeFloat = 0.0


def check_ranges(values: Mapping[str, Any]) -> None:
    """Check those hyperparameters that `Ranges` knows; others are left to their algorithm.

    Raises:
        UserError: If one has another type or is out of its range.
    """
    known = {name: value for name, value in values.items() if name in Ranges.model_fields}
    check(Ranges, known, "hyperparameters")
