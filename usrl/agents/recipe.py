"""How an agent is trained, as a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from usrl.runs.recipe import Recipe
from usrl.strict import PositiveInt, Scalar, Strict


class EnvRecipe(Strict):
    """A registered environment and the arguments that differ from its defaults."""

    id: str = "usrl/ContourRefine-v0"
    kwargs: dict[str, Scalar] = Field(default_factory=dict)
    max_episode_steps: PositiveInt = 10
    proposals: str | None = None


class AgentRecipe(Recipe):
    """How an agent is trained.

    ``algorithm`` is ``bc``, ``ppo-device``, ``q-learning`` or the lower-case name of a Stable-Baselines3 or
    sb3-contrib algorithm (`usrl.agents.algorithms`) and ``hyperparameters`` are arguments of its class;
    steps count single environments' steps. ``init_from`` is a run whose weights the policy starts from: of
    other images, or of no more than the training images here (`usrl.runs.leaks`). ``value_warmup_steps`` is
    how long from there only the value function learns. More than 65,536 environments fill a GPU's memory with
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
