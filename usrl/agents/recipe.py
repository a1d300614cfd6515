"""How an agent is trained, as a recipe; and the ranges of the hyperparameters that algorithms share."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from usrl.runs.recipe import Recipe
from usrl.strict import PositiveFloat, PositiveInt, Scalar, Strict, check


class EnvRecipe(Strict):
    """A registered environment and the arguments that differ from its defaults."""

    id: str = "usrl/ContourRefine-v0"
    kwargs: dict[str, Scalar] = Field(default_factory=dict)
    max_episode_steps: PositiveInt = 10
    proposals: str | None = None


class AgentRecipe(Recipe):
    """How an agent is trained.

    ``algorithm`` is ``bc``, ``ppo-device``, ``q-learning``, ``reinforce`` or the lower-case name of a Stable-
    Baselines3 or sb3-contrib algorithm, and ``hyperparameters`` are arguments of its class. Steps count the
    steps of single environments. ``init_from`` names a run whose weights the policy starts from. That run may
    have seen other images and the training images here, but no others of this data set (`usrl.runs.leaks`).
    Only the value function learns for the first ``value_warmup_steps``. The weights that are kept are the
    best by the figure ``select_by``, one of the task's or ``return``: its mean over the validation cases is
    the ``val_score`` of the log. ``augment`` adds so many changed copies of each training lesion: mirrored,
    turned, scaled, moved and with other gray values, as networks see them
    (`usrl.networks.recipe.AugmentRecipe`). More than 65,536 environments fill a GPU's memory with
    observations and make no more steps a second (docs/performance.md).
    """

    kind: Literal["agent"] = "agent"
    env: EnvRecipe = EnvRecipe()
    algorithm: str = "ppo"
    policy: str = "ContourPolicy"
    policy_kwargs: dict[str, Scalar] = Field(default_factory=dict)
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    init_from: str | None = None
    value_warmup_steps: Annotated[int, Field(ge=0)] = 0
    select_by: str = "score"
    augment: Annotated[int, Field(ge=0, le=50)] = 0
    num_envs: Annotated[int, Field(gt=0, le=65_536)] = 32
    total_steps: PositiveInt = 100_000
    evaluate_every: PositiveInt = 10_240
    checkpoint_every: PositiveInt = 10_240

    @property
    def subject(self) -> str:
        """The environment; see `usrl.runs.recipe.Recipe`."""
        return self.env.id

    @property
    def length(self) -> int:
        """Length of the training; see `usrl.runs.recipe.Recipe`."""
        return self.total_steps


def _first_of_schedule(value: Any) -> Any:
    """Return the number X of ``lin_X``; anything else as it is."""
    return float(value[4:]) if isinstance(value, str) and value.startswith("lin_") else value


def _first_of_learned(value: Any) -> Any:
    """Return the number that a learned coefficient starts from: 1 for ``auto``, X for ``auto_X``."""
    if value == "auto":
        return 1.0
    return float(value[5:]) if isinstance(value, str) and value.startswith("auto_") else value


def _refuse_zero(value: int) -> int:
    if value == 0:
        raise ValueError("Input should be greater than 0, or -1 for one per step taken")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Schedule = Annotated[float, BeforeValidator(_first_of_schedule), Field(gt=0)]
Learned = Annotated[float, BeforeValidator(_first_of_learned), Field(ge=0)]


class Ranges(Strict):
    """Hyperparameters that mean the same in every algorithm. Stable-Baselines3 checks few of them.

    A training without a step, an epoch or a minibatch would never end, or fail in its first update. With a
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
    """Raise a `UserError` if a hyperparameter of `Ranges` has another type or is out of its range."""
    known = {name: value for name, value in values.items() if name in Ranges.model_fields}
    check(Ranges, known, "hyperparameters")
