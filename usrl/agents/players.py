"""What acts in episodes: a trained policy, the teacher, or chance; and playing whole episodes with it."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from usrl.compute.rng import episode_keys, mix, step_keys, uniform
from usrl.compute.trees import Tree, map_tree
from usrl.envs.batch import teacher_of, to_numpy
from usrl.envs.task import AnyState, Masked, Ruled, State, Task
from usrl.errors import UserError

EVALUATION_SEED = 2**40
"""Seed of the episodes that players are evaluated on: one that no training reaches."""
_CHANCE = 0x5DEECE66D
"""Keeps the draws of a random player apart from those of its task."""


class Player(Protocol):
    """Maps the observations of a batch of environments to actions.

    Attributes:
        name: Row label in tables.
    """

    name: str

    def begin(self, count: int) -> None:
        """Forget everything; this many new episodes begin."""

    def act(self, seen: Tree, state: State) -> Tree:
        """Return actions (B, ...) on the state's device.

        Args:
            seen: Observations (B, ...).
            state: State of the task. Scripted players may look into it, agents must not.
        """


class PolicyPlayer:
    """A policy of Stable-Baselines3: its most likely actions, with its memory if it is recurrent.

    A policy that takes masks gets those of the task. If a policy has a ``score`` and the task makes actions
    of scores by a rule (`Ruled`), the task decides by them.
    """

    def __init__(self, policy: Any, task: Task[Any], name: str = "policy") -> None:
        self.name = name
        self.policy = policy
        takes_masks = "action_masks" in inspect.signature(policy.predict).parameters
        self._masks = task.action_masks if takes_masks and isinstance(task, Masked) else None
        self._rule = task if hasattr(policy, "score") and isinstance(task, Ruled) else None
        self.begin(0)

    def begin(self, count: int) -> None:
        """Forget everything; see `Player.begin`."""
        self._memory: Any = None
        self._starts = np.ones(count, bool)

    def act(self, seen: Tree, state: State) -> Tree:
        """Return the most likely actions, or those of the task's rule; see `Player.act`."""
        if self._rule is not None:
            return self._rule.decide(state, self.score(seen))
        masks = {} if self._masks is None else {"action_masks": to_numpy(self._masks(state))}
        try:
            action, self._memory = self.policy.predict(
                map_tree(to_numpy, seen),
                state=self._memory,
                episode_start=self._starts,
                deterministic=True,
                **masks,
            )
        except ValueError as error:
            if "of distribution" not in str(error):  # what torch says of means that are not numbers
                raise
            raise self._unusable() from None
        if action.dtype.kind == "f" and not np.isfinite(action).all():
            raise self._unusable()
        self._starts = np.zeros_like(self._starts)
        return torch.from_numpy(action).to(state.index.device)

    @property
    def has_scores(self) -> bool:
        """Whether the task decides by scores of the policy."""
        return self._rule is not None

    def score(self, seen: Tree) -> Tensor:
        """Return the scores of a policy that has some, (B, ...), on the device of the observations."""
        scores: Tensor = self.policy.score(map_tree(lambda part: part.to(self.policy.device), seen))
        if not scores.isfinite().all():
            raise self._unusable()
        return scores.to(seen.device)

    def _unusable(self) -> UserError:
        return UserError(
            f"{self.name}: the actions are not numbers, as the weights are out of all bounds; train it again"
        )


class TeacherPlayer:
    """The teacher of a task, which sees what agents do not."""

    name = "teacher"

    def __init__(self, task: Task[Any]) -> None:
        self._teacher = teacher_of(task)

    def begin(self, count: int) -> None:
        """Do nothing: the teacher has no memory."""

    def act(self, seen: Tree, state: State) -> Tree:
        """Return the teacher's actions; see `Player.act`."""
        return self._teacher.oracle_action(state)


class RandomPlayer:
    """Uniform actions, drawn from the keys of the episodes: the same whatever the batch."""

    name = "random"

    def __init__(self, task: Task[Any]) -> None:
        self._space = task.action_space

    def begin(self, count: int) -> None:
        """Do nothing: chance has no memory."""

    def act(self, seen: Tree, state: State) -> Tree:
        """Return random actions; see `Player.act`."""
        return draw_actions(self._space, mix(step_keys(state.key, state.elapsed) + _CHANCE))


PLAYERS = {"random": RandomPlayer, "teacher": TeacherPlayer}
"""Scripted players of every task by name; an environment may register more (`usrl.registry.Row.players`)."""


def draw_actions(space: spaces.Space[Any], keys: Tensor) -> Tree:
    """Return uniform actions of a bounded space, (B, ...), one for each key, int64 (B,)."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        drawn = {name: draw_actions(part, mix(keys + place)) for place, (name, part) in enumerate(parts, 1)}
        return drawn if isinstance(space, spaces.Dict) else tuple(drawn.values())
    shape = space.shape or ()
    shares = uniform(keys, int(np.prod(shape, dtype=np.int64))).view(len(keys), *shape)
    if isinstance(space, spaces.Box):
        low, high = (torch.from_numpy(bound).to(keys.device) for bound in (space.low, space.high))
        return (low + shares * (high - low)).to(low.dtype)
    if isinstance(space, spaces.MultiBinary):
        return (shares >= 0.5).to(torch.int8)
    count = space.n if isinstance(space, spaces.Discrete) else torch.from_numpy(space.nvec)  # type: ignore[attr-defined]
    return (shares * torch.as_tensor(count).to(keys.device)).to(torch.int64)


PLAYED_FIGURES = ("initial_score", "worsened", "return")
"""What `evaluate_player` adds to the figures of a task."""


@dataclass(frozen=True)
class Played(Generic[AnyState]):
    """Played that were played to their end.

    Attributes:
        states: From the first state on; an episode that has ended keeps its last state.
        returns: Sum of rewards, float32, (B,).
        lengths: Steps until the end, int64, (B,).
    """

    states: list[AnyState]
    returns: Tensor
    lengths: Tensor


def play(task: Task[AnyState], player: Player, state: AnyState) -> Played[AnyState]:
    """Play episodes from a state until the task or the step limit ends each of them."""
    states, returns = [state], torch.zeros(len(state.index), device=state.index.device)
    lengths = torch.zeros_like(state.index)
    going = torch.ones_like(state.index, dtype=torch.bool)
    player.begin(len(state.index))
    for _ in range(task.horizon):
        moved, reward = task.step(states[-1], player.act(task.observe(states[-1]), states[-1]))
        terminated = task.terminated(moved)
        if terminated is None:
            states.append(moved)
            returns, lengths = returns + reward, lengths + 1
            continue
        states.append(map_tree(_keep_ended(going), moved, states[-1]))
        returns, lengths = returns + reward * going, lengths + going
        going = going & ~terminated
        if going.device.type == "cpu" and not going.any():  # a GPU would be waited for
            break
    return Played(states, returns, lengths)


def _keep_ended(going: Tensor) -> Any:
    """Return a function of new and old tensors that keeps the old rows of episodes that have ended."""
    return lambda new, old: torch.where(going.view(-1, *(1,) * (new.ndim - 1)), new, old)


def begin_evaluation(task: Task[AnyState], rows: Sequence[int] | None = None) -> AnyState:
    """Return the start of one episode for each case, or some of them, the same at every call."""
    index = torch.arange(len(task.cases)) if rows is None else torch.tensor(rows)
    keys = episode_keys(torch.full_like(index, EVALUATION_SEED), index)
    return task.reset(index.to(task.cases.device), keys.to(task.cases.device))


def evaluate_player(task: Task[Any], player: Player) -> dict[str, float]:
    """Return what a player reaches in one episode for each case.

    Returns:
        The mean of each figure of the task at the end, ``initial_score``, the mean score at the start,
        ``worsened``, the share of episodes that end below their start, and ``return``, the mean sum of
        rewards.
    """
    episodes = play(task, player, begin_evaluation(task))
    first, last = (task.figures(state) for state in (episodes.states[0], episodes.states[-1]))
    worsened = (last["score"] < first["score"]).float()
    figures = last | dict(zip(PLAYED_FIGURES, (first["score"], worsened, episodes.returns), strict=True))
    return {name: float(values.float().mean()) for name, values in figures.items()}
