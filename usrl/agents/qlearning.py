"""Q-learning with a table, for observations and actions of few values, as in the paper of 2008.

An offline stage fills the table from images with targets. Later the table is read, without targets.
"""

from typing import Annotated, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor

from usrl.agents.keeper import Keeper
from usrl.agents.recipe import AgentRecipe
from usrl.envs.sb3 import TaskVecEnv
from usrl.envs.task import Task
from usrl.errors import UserError
from usrl.runs.checkpoints import Record
from usrl.runs.run import Run
from usrl.runs.starting import load_start
from usrl.strict import Strict, check

Q_LEARNING = "q-learning"
"""Name of the algorithm in recipes."""
MAX_STATES = 1_000_000


class QLearningSettings(Strict):
    """Hyperparameters: step size, discount, and exploration from the first step to the last."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    epsilon_end: Annotated[float, Field(ge=0, le=1)] = 0.05


class TablePolicy(BasePolicy):
    """A value for every state and action; it takes the action of the highest value.

    It needs observations in a Box (F,) of small whole numbers, with at most a million states, and Discrete
    actions.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        shape = observation_space.shape or ()
        if not isinstance(action_space, spaces.Discrete) or not isinstance(observation_space, spaces.Box):
            raise UserError(f"{Q_LEARNING} needs a Discrete action, got {action_space}; set action: raster")
        radix = observation_space.high.astype(np.int64).ravel() + 1
        if len(shape) != 1 or np.log(radix).sum() > np.log(MAX_STATES):
            raise UserError(
                f"{Q_LEARNING} needs observations of at most {MAX_STATES} states, got {observation_space}; "
                "set observation: features"
            )
        super().__init__(observation_space, action_space)
        place = np.concatenate([np.cumprod(radix[::-1])[-2::-1], [1]])
        self.place: Tensor
        self.values: Tensor
        self.register_buffer("place", torch.from_numpy(place), persistent=False)
        values = torch.zeros(int(radix.prod()), int(action_space.n))
        if action_space.n % 2:  # an unknown state prefers the middle action, which changes nothing
            values[:, action_space.n // 2] = 1e-6
        self.register_buffer("values", values)

    def rows(self, observation: Tensor) -> Tensor:
        """Return the states of observations (B, F) as rows of the table, int64, (B,)."""
        return (observation.to(torch.int64) * self.place).sum(dim=1)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        return self.values[self.rows(observation)].argmax(dim=1)


def train_table(run: Run, train: Task[Any], val: Task[Any], *, resume: bool) -> None:
    """Fill the table of a run's recipe, and write weights, checkpoint and log like any agent's training.

    ``train`` and ``val`` play on the training and validation cases. ``resume`` goes on from the run's
    checkpoint if it has one.
    """
    recipe = run.recipe_as(AgentRecipe)
    policy, settings = build_table(recipe, train)
    record = Record(run, policy, {"": policy})  # a table is all that its checkpoint holds
    if not record.begin(resume=resume) and recipe.init_from:
        load_start(run, recipe, policy)
    if record.step >= recipe.total_steps:
        return
    learner = _Learner(policy, settings, TaskVecEnv(train, recipe.num_envs, recipe.seed + record.step))
    keeper = Keeper(record, recipe, policy, val)
    rng = np.random.default_rng([recipe.seed, record.step])
    with keeper.bar:
        keeper.visit(record.step)
        while record.step < recipe.total_steps:
            learner.step(rng, record.step / recipe.total_steps)
            keeper.visit(record.step + recipe.num_envs)


def build_table(recipe: AgentRecipe, task: Task[Any]) -> tuple[TablePolicy, QLearningSettings]:
    """Return the empty table of a recipe and its checked settings."""
    if recipe.policy != TablePolicy.__name__ or recipe.policy_kwargs:
        raise UserError(f"policy: {Q_LEARNING} needs TablePolicy without arguments, got {recipe.policy!r}")
    if recipe.value_warmup_steps:
        raise UserError(f"value_warmup_steps: {Q_LEARNING} has no value function of its own; leave it out")
    settings = check(QLearningSettings, recipe.hyperparameters, "hyperparameters")
    return TablePolicy(task.observation_space, task.action_space), settings


class _Learner:
    def __init__(self, policy: TablePolicy, settings: QLearningSettings, venv: TaskVecEnv) -> None:
        self._policy, self._settings, self._venv = policy, settings, venv
        self._rows = self._table_rows(venv.reset())

    def step(self, rng: np.random.Generator, done_share: float) -> None:
        settings, values = self._settings, self._policy.values.numpy()
        epsilon = settings.epsilon_start + done_share * (settings.epsilon_end - settings.epsilon_start)
        actions = values[self._rows].argmax(axis=1)
        explores = rng.random(len(actions)) < epsilon
        actions[explores] = rng.integers(values.shape[1], size=int(explores.sum()))
        seen, rewards, done, infos = self._venv.step(actions)
        # The step limit does not end the task, so the value after such a last step counts too.
        after, goes_on = np.array(seen), np.ones(len(rewards))
        for env, info in enumerate(infos):
            if done[env]:
                after[env] = info["terminal_observation"]
                goes_on[env] = info["TimeLimit.truncated"]
        wanted = rewards + goes_on * settings.gamma * values[self._table_rows(after)].max(axis=1)
        entry = self._rows * values.shape[1] + actions
        error = wanted - values.ravel()[entry]
        # Environments that met the same state and action share one update.
        met, place = np.unique(entry, return_inverse=True)
        mean = np.bincount(place, weights=error) / np.bincount(place)
        values.reshape(-1)[met] += (settings.learning_rate * mean).astype(values.dtype)
        self._rows = self._table_rows(seen)

    def _table_rows(self, observation: VecEnvObs) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self._policy.rows(torch.from_numpy(np.asarray(observation))).numpy()
        return rows
