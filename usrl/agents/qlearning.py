"""Q-learning and SARSA with a table, for observations and actions of few values, as in the paper of 2008.

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
_CELLS = 3
"""Cells of a tiling along a number: two parts, and the part that its shift cuts off."""


class TableSettings(Strict):
    """Arguments of `TablePolicy`."""

    tilings: Annotated[int, Field(ge=0, le=256)] = 0


class QLearningSettings(Strict):
    """Hyperparameters: step size, discount, and exploration from the first step to the last.

    ``on_policy`` learns the value of the action that is taken next, explored or not: SARSA. Otherwise it is
    the best action's.
    """

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    epsilon_end: Annotated[float, Field(ge=0, le=1)] = 0.05
    on_policy: bool = False


class TablePolicy(BasePolicy):
    """A value for every state and action; it takes the action of the highest value.

    It needs observations in a Box (F,) of small whole numbers, with at most a million rows of the table, and
    Discrete actions.

    Without ``tilings`` every observation has a row of its own, and what was never met has no value. With N
    of them, a value is the sum of N rows. Each is the cell of a coarse grid, which cuts every number of the
    observation but the last into two parts. The grids are shifted against one another, so that observations
    share more rows the nearer they are. The last number is kept as it is.

    Source:
        Sutton and Barto (2018), Reinforcement Learning, 2nd edition, section 9.5.4: tile coding, and its
        shifts by 1, 3, 5, ... parts of a cell.
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], tilings: int = 0
    ) -> None:
        shape = observation_space.shape or ()
        if not isinstance(action_space, spaces.Discrete) or not isinstance(observation_space, spaces.Box):
            raise UserError(f"{Q_LEARNING} needs a Discrete action, got {action_space}; set action: raster")
        radix = observation_space.high.astype(np.int64).ravel() + 1
        is_tiled = tilings > 0 and len(shape) == 1
        cells = np.array([*[_CELLS] * (len(radix) - 1), tilings, radix[-1]]) if is_tiled else radix
        if len(shape) != 1 or np.log(cells).sum() > np.log(MAX_STATES):
            raise UserError(
                f"{Q_LEARNING} needs observations of at most {MAX_STATES} states, got {observation_space}; "
                "set observation: features"
            )
        super().__init__(observation_space, action_space)
        self._tilings, self._radix = tilings, radix
        place = np.concatenate([np.cumprod(cells[::-1])[-2::-1], [1]])
        self.place: Tensor
        self.values: Tensor
        self.register_buffer("place", torch.from_numpy(place), persistent=False)
        values = torch.zeros(int(cells.prod()), int(action_space.n))
        if action_space.n % 2:  # an unknown state prefers the middle action, which changes nothing
            values[:, action_space.n // 2] = 1e-6
        self.register_buffer("values", values)

    def rows(self, observation: Tensor) -> Tensor:
        """Return the rows of the table that make up the values of observations (B, F), int64, (B, N or 1)."""
        numbers = observation.to(torch.int64)
        if self._tilings:
            numbers = self._cells(numbers)  # (B, N, F + 1)
        else:
            numbers = numbers[:, None]
        return (numbers * self.place).sum(dim=2)

    def _cells(self, numbers: Tensor) -> Tensor:
        """Return each tiling's cell of observations (B, F): its coordinates, the tiling, the last number."""
        tiling = torch.arange(self._tilings, device=numbers.device)
        step = 2 * torch.arange(numbers.shape[1] - 1, device=numbers.device) + 1
        shift = tiling[:, None] * step % self._tilings  # (N, F - 1), in parts of a cell
        radix = torch.from_numpy(self._radix[:-1]).to(numbers.device)
        # The middle of a number, 2 (x + 1/2) / radix in cells, plus shift / N, in whole numbers.
        cell = ((2 * numbers[:, None, :-1] + 1) * self._tilings + shift * radix) // (radix * self._tilings)
        count = len(numbers)
        last = numbers[:, None, -1:].expand(-1, self._tilings, -1)
        return torch.cat([cell, tiling[None, :, None].expand(count, -1, -1), last], dim=2)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        return self.values[self.rows(observation)].sum(dim=1).argmax(dim=1)


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
    if recipe.policy != TablePolicy.__name__:
        raise UserError(f"policy: {Q_LEARNING} needs TablePolicy, got {recipe.policy!r}")
    if recipe.value_warmup_steps:
        raise UserError(f"value_warmup_steps: {Q_LEARNING} has no value function of its own; leave it out")
    settings = check(QLearningSettings, recipe.hyperparameters, "hyperparameters")
    return make_table(recipe, task.observation_space, task.action_space), settings


def make_table(
    recipe: AgentRecipe, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> TablePolicy:
    """Return the empty table of a recipe."""
    arguments = check(TableSettings, recipe.policy_kwargs, "policy_kwargs")
    return TablePolicy(observation_space, action_space, arguments.tilings)


class _Learner:
    def __init__(self, policy: TablePolicy, settings: QLearningSettings, venv: TaskVecEnv) -> None:
        self._policy, self._settings, self._venv = policy, settings, venv
        self._rows = self._table_rows(venv.reset())  # (B, N)
        self._next: NDArray[np.int64] | None = None  # the actions that SARSA has chosen already

    def step(self, rng: np.random.Generator, done_share: float) -> None:
        settings, values = self._settings, self._policy.values.numpy()
        epsilon = settings.epsilon_start + done_share * (settings.epsilon_end - settings.epsilon_start)
        actions = self._choose(rng, self._rows, epsilon) if self._next is None else self._next
        seen, rewards, done, infos = self._venv.step(actions)
        # The step limit does not end the task, so the value after such a last step counts too.
        after, goes_on = np.array(seen), np.ones(len(rewards))
        for env, info in enumerate(infos):
            if done[env]:
                after[env] = info["terminal_observation"]
                goes_on[env] = info["TimeLimit.truncated"]
        reached = self._table_rows(after)
        future = values[reached].sum(axis=1)  # (B, A)
        if settings.on_policy:
            chosen = self._choose(rng, reached, epsilon)
            wanted = rewards + goes_on * settings.gamma * future[np.arange(len(chosen)), chosen]
        else:
            wanted = rewards + goes_on * settings.gamma * future.max(axis=1)
        self._learn(self._rows * values.shape[1] + actions[:, None], wanted)
        self._rows = self._table_rows(seen)
        if settings.on_policy:
            self._next = np.where(done, self._choose(rng, self._rows, epsilon), chosen)

    def _choose(self, rng: np.random.Generator, rows: NDArray[np.int64], epsilon: float) -> NDArray[np.int64]:
        """Return the best actions for rows (B, N), or with probability epsilon any, int64, (B,)."""
        values = self._policy.values.numpy()
        actions: NDArray[np.int64] = values[rows].sum(axis=1).argmax(axis=1)
        explores = rng.random(len(actions)) < epsilon
        actions[explores] = rng.integers(values.shape[1], size=int(explores.sum()))
        return actions

    def _learn(self, entries: NDArray[np.int64], wanted: NDArray[np.float64]) -> None:
        """Move the values that entries (B, N) of the table sum to towards those that are wanted, (B,)."""
        table = self._policy.values.numpy().reshape(-1)
        error = wanted - table[entries].sum(axis=1)
        # Environments that met the same entry share one update.
        met, place = np.unique(entries, return_inverse=True)
        mean = np.bincount(place.ravel(), weights=error.repeat(entries.shape[1])) / np.bincount(place.ravel())
        table[met] += (self._settings.learning_rate / entries.shape[1] * mean).astype(table.dtype)

    def _table_rows(self, observation: VecEnvObs) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self._policy.rows(torch.from_numpy(np.asarray(observation))).numpy()
        return rows
