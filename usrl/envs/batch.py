"""Episodes that run next to each other: what all adapters share."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from usrl.compute.devices import spare_threads_in_workers
from usrl.compute.recording import Recorded
from usrl.compute.rng import episode_keys, mix, uniform
from usrl.compute.trees import Tree, list_leaves, map_tree, replace_leaves
from usrl.envs.task import (
    AnyState,
    Credited,
    Drawn,
    Masked,
    Picture,
    Task,
    Taught,
    follow_teacher,
    merge_states,
)
from usrl.errors import UserError

_DISCRETE = (gym.spaces.Discrete, gym.spaces.MultiDiscrete)
PLAIN_SPACES = (gym.spaces.Box, *_DISCRETE, gym.spaces.MultiBinary)
"""Spaces of one array. Whether a space is a Dict or a Tuple takes ten times as long to ask."""
MAX_ENVS = 2**20
"""More environments need more memory than any GPU has: one observation takes some kilobytes."""


@dataclass(frozen=True)
class Step:
    """The result of a step of all B environments, after a restart of those whose episode ended.

    The host knows which episodes end if only the step limit ends them, or if it computes itself. Then
    ``ended`` holds their rows, int64 (R,). If a task terminates on a GPU, the host would have to wait for the
    rows. Then ``ended`` is a mask, bool (B,), and R is B. `fetch` gives the first form.

    Attributes:
        observations: After restarts, (B, ...).
        rewards: float32, (B,).
        ended: Rows on the host, or a mask on the device.
        terminated: Which of these the task ended, bool (R,). The step limit ended the others.
        last_observations: Of the episodes that ended, (R, ...), or None if the host knows of none.
        figures: Of the episodes that ended, float32 (R,) by name; empty if the host knows of none.
    """

    observations: Tree
    rewards: Tensor
    ended: NDArray[np.int64] | Tensor
    terminated: NDArray[np.bool_] | Tensor
    last_observations: Tree
    figures: dict[str, Tensor]

    def fetch(self) -> "Step":
        """Return the step with the rows of the episodes that ended. This may wait for the device."""
        if not isinstance(self.ended, Tensor):
            return self
        rows = self.ended.nonzero().flatten()
        kept = self.last_observations, self.figures, self.terminated
        last, figures, terminated = map_tree(lambda tensor: tensor[rows], kept)
        ended, done = to_numpy(rows), to_numpy(torch.as_tensor(terminated))
        return Step(self.observations, self.rewards, ended, done, last, figures)


@dataclass(frozen=True)
class View:
    """How image-like observations are offered: channels first or last, as uint8 or as floats from 0 to 1."""

    layout: Literal["chw", "hwc"] = "chw"
    dtype: Literal["uint8", "float32"] = "uint8"

    def __post_init__(self) -> None:
        """Raise a `UserError` for another layout or dtype."""
        for name, known in (("layout", ("chw", "hwc")), ("dtype", ("uint8", "float32"))):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                raise UserError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")

    @property
    def is_default(self) -> bool:
        """Whether observations stay as the task gives them."""
        return self.layout == "chw" and self.dtype == "uint8"

    def space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """Return the space of what `show` returns. Spaces that are not uint8 do not change."""
        if isinstance(space, gym.spaces.Dict):
            return gym.spaces.Dict({name: self.space(part) for name, part in space.spaces.items()})
        if not isinstance(space, gym.spaces.Box) or space.dtype != np.uint8 or self.is_default:
            return space
        low, high = (self._turn(torch.from_numpy(bound)).numpy() for bound in (space.low, space.high))
        if self.dtype == "uint8":
            return gym.spaces.Box(low, high, dtype=np.uint8)
        return gym.spaces.Box(np.zeros_like(low, np.float32), np.ones_like(high, np.float32))

    def show(self, seen: Tree, space: gym.Space[Any]) -> Tree:
        """Return observations (B, ...) of a space in this view."""
        if self.is_default:
            return seen
        if isinstance(space, gym.spaces.Dict):
            return {name: self.show(seen[name], part) for name, part in space.spaces.items()}
        if space.dtype != np.uint8:
            return seen
        turned = self._turn(seen)
        if self.dtype == "uint8":
            return turned.contiguous()
        high = self._turn(torch.from_numpy(space.high)).clamp_min(1)  # type: ignore[attr-defined]
        return turned / high.to(turned.device)

    def _turn(self, images: Tensor) -> Tensor:
        is_image = self.layout == "hwc" and images.ndim >= 3
        return images.movedim(-3, -1) if is_image else images


class Batch:
    """Episodes of one task in B environments, each with its own seed and restarts.

    The same seed gives the same sequence of episodes in every batch: to the bit on a CPU, up to rounding on a
    GPU.

    Attributes:
        observation_space: Of one environment, as the view shows it.
        state: State of all environments; None before the first episode.
        elapsed: Steps of each episode, int64, (B,), on the host, so that it need not ask the device. It is
            not kept for a task that terminates on a GPU.
    """

    def __init__(
        self, task: Task[Any], num_envs: int, view: View | None = None, *, with_oracle: bool = False
    ) -> None:
        """Hold a task; call `seed` and `begin` before anything else.

        ``with_oracle`` adds ``oracle_score`` to the figures, the score that the teacher reaches.
        """
        is_count = isinstance(num_envs, int | np.integer) and not isinstance(num_envs, bool)
        if not is_count or not 1 <= num_envs <= MAX_ENVS:
            raise UserError(f"num_envs must be a whole number from 1 to {MAX_ENVS}, got {num_envs!r}")
        if not isinstance(with_oracle, bool | np.bool_):
            raise UserError(f"oracle_info must be True or False, got {with_oracle!r}")
        spare_threads_in_workers()  # the task may have been built before a fork
        task.cases.check()
        if with_oracle:
            teacher_of(task)
        self.task = task
        self.device: torch.device = task.cases.device
        # A CPU gains nothing from recorded steps.
        self._played: Any = RecordedTask(task) if self.device.type == "cuda" else task
        self.num_envs = int(num_envs)
        self._view = view or View()
        self.observation_space = self._view.space(task.observation_space)
        self.elapsed = np.zeros(self.num_envs, np.int64)
        self.state: Any = None
        self._oracle_score = np.zeros(self.num_envs, np.float32) if with_oracle else None
        self._seeds = np.zeros(self.num_envs, np.int64)
        self._episodes = np.zeros(self.num_envs, np.int64)
        # Seeds and episodes on the device, for `_advance_there`.
        self._counts: tuple[Tensor, Tensor] | None = None

    def seed(self, seeds: Sequence[int | None]) -> None:
        """Give environments seeds and count their episodes from the first; None keeps the old seed."""
        self._fetch_counts()
        for row, seed in enumerate(seeds):
            if seed is not None:
                self._seeds[row], self._episodes[row] = seed, 0

    def begin(self, rows: NDArray[np.int64], options: Mapping[str, Any] | None = None) -> None:
        """Begin new episodes in environments (R,).

        The option ``index``, one number or (R,), chooses the cases. Without it they are drawn.
        """
        self._fetch_counts()
        seeds, episodes = (torch.from_numpy(kept[rows]) for kept in (self._seeds, self._episodes))
        keys = episode_keys(seeds, episodes)
        chosen = None if options is None else self._choose(options, len(rows))
        index = self._draw(keys) if chosen is None else chosen
        drawn = send(index, self.device), send(mix(keys), self.device)
        if len(rows) == self.num_envs:
            self.state = fresh = self._played.reset(*drawn)
        else:
            fresh = self.task.reset(*drawn)
            self.state = merge_states(self.state, send(torch.from_numpy(rows), self.device), fresh)
        self.elapsed[rows] = 0
        self._episodes[rows] += 1
        if self._oracle_score is not None:
            reached = follow_teacher(self.task, fresh)
            self._oracle_score[rows] = to_numpy(self.task.figures(reached)["score"])

    def step(self, action: Tree) -> Tensor:
        """Apply finite actions (B, ...) of any device; return the rewards, float32 (B,), on the task's.

        This does not check that they are finite, because the host would wait for the device in every step.
        """
        if self.state is None:
            raise UserError("no episode has begun; call reset() before step()")
        check_shapes(action, self.task.action_space, self.num_envs)
        if isinstance(action, Tensor):  # most actions, without a detour
            action = action.to(self.device)
        else:
            action = map_tree(lambda part: part.to(self.device), action)
        self.state, reward = self._played.step(self.state, action)
        self.elapsed += 1
        return reward

    def advance(self, action: Tree) -> Step:
        """Apply actions as `step` does, and restart the episodes that ended."""
        rewards = self.step(action)
        seen = self.observe()
        terminated = self.task.terminated(self.state)
        if terminated is not None and not self._is_host_told():
            return self._advance_there(rewards, seen, terminated)
        done, truncated = self.ends(terminated)
        (ended,) = (truncated if terminated is None else done | truncated).nonzero()
        if not len(ended):
            return Step(seen, rewards, ended, done[:0], None, {})
        last, figures = seen, self.figures()
        if len(ended) < self.num_envs:
            rows = send(torch.from_numpy(ended), self.device)
            last, figures = map_tree(lambda tensor: tensor[rows], (last, figures))
        self.begin(ended)
        return Step(self.observe(), rewards, ended, done[ended], last, figures)

    def ends(self, terminated: Tensor | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which episodes the task has ended, and which the step limit ends, bool (B,) each."""
        truncated = self.elapsed >= self.task.horizon
        if terminated is None:
            return np.zeros(self.num_envs, bool), truncated
        done = to_numpy(terminated).copy()
        return done, truncated & ~done

    def observe(self) -> Tree:
        """Return the observations of all environments, (B, ...), on the task's device."""
        return self._view.show(self._played.observe(self.state), self.task.observation_space)

    def figures(self) -> dict[str, Tensor]:
        """Return the figures of all environments, float32 (B,) by name."""
        figures = self.task.figures(self.state)
        if self._oracle_score is None:
            return figures
        return figures | {"oracle_score": send(torch.from_numpy(self._oracle_score.copy()), self.device)}

    def info(self) -> dict[str, NDArray[np.float32]]:
        """Return the figures of all environments, (B,) each, which the caller may change."""
        # On a CPU the arrays would share memory with the state, and the next rewards depend on it.
        return {name: to_numpy(values).copy() for name, values in self.figures().items()}

    def oracle_action(self) -> Tree:
        """Return the action of the task's teacher in each environment, (B, ...), on the task's device."""
        teacher = teacher_of(self.task)
        if self.state is None:
            raise UserError("no episode has begun; call reset() before oracle_action()")
        return teacher.oracle_action(self.state)

    def credit(self, action: Tensor) -> Tensor:
        """Return what each number of actions (B, A) would earn now, float32 (B, A); see `Credited`."""
        creditor = creditor_of(self.task)
        if self.state is None:
            raise UserError("no episode has begun; call reset() before credit()")
        return creditor.credit(self.state, action.to(self.device))

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which choices of each environment change something, bool (B, C); see `Masked`."""
        if not isinstance(self.task, Masked):  # libraries expect this error
            raise AttributeError(f"{type(self.task).__name__} masks no actions")
        return to_numpy(self.task.action_masks(self.state))

    def render(self, row: int) -> Picture:
        """Return a picture of one environment, uint8 (h, w, 3)."""
        if not isinstance(self.task, Drawn):
            raise UserError(f"{type(self.task).__name__} draws no pictures; give it a render(state, row)")
        if self.state is None:
            raise UserError("no episode has begun; call reset() before render()")
        return self.task.render(self.state, row)

    def _is_host_told(self) -> bool:
        """Return whether the host can read what has terminated without waiting for a device."""
        # The score of a teacher is fetched in each restart anyway.
        return self.device.type == "cpu" or self._oracle_score is not None

    def _advance_there(self, rewards: Tensor, seen: Tree, terminated: Tensor) -> Step:
        """Restart the episodes that ended, if only the device knows which these are."""
        ended = terminated | (self.state.elapsed >= self.task.horizon)
        figures = self.figures()
        if self._counts is None:
            kept = (torch.from_numpy(kept) for kept in (self._seeds, self._episodes))
            self._counts = tuple(send(each.clone(), self.device) for each in kept)  # type: ignore[assignment]
        seeds, episodes = self._counts  # type: ignore[misc]
        keys = episode_keys(seeds, episodes)
        fresh = self._played.reset(self._draw(keys), mix(keys))

        def choose(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(ended.view(-1, *(1,) * (new.ndim - 1)), new, old)

        self.state = map_tree(choose, fresh, self.state)
        self._counts = seeds, episodes + ended
        return Step(self.observe(), rewards, ended, terminated, seen, figures)

    def _fetch_counts(self) -> None:
        """Take back the numbers of episodes that `_advance_there` counts on the device."""
        if self._counts is not None:
            self._episodes, self._counts = to_numpy(self._counts[1]).copy(), None

    def _draw(self, keys: Tensor) -> Tensor:
        return (uniform(keys, 1)[:, 0] * len(self.task.cases)).to(torch.int64)  # (R,)

    def _choose(self, options: Mapping[str, Any], count: int) -> Tensor | None:
        if not isinstance(options, Mapping):
            raise UserError(f"options must be a dictionary such as {{'index': 0}}, got {options!r}")
        if unknown := [name for name in options if name != "index"]:
            raise UserError(f"unknown reset option {unknown[0]!r}; the only one is 'index'")
        if not options:
            return None
        try:
            index = np.asarray(options["index"])
        except ValueError:  # lists of unequal lengths
            index = np.zeros(0)
        if index.dtype.kind not in "iu" or index.shape not in [(), (count,)]:
            raise UserError(f"index must be a whole number or a list of {count}, got {options['index']}")
        if index.min() < 0 or index.max() >= len(self.task.cases):
            raise UserError(f"index must be from 0 to {len(self.task.cases) - 1}, got {options['index']}")
        return torch.from_numpy(np.full(count, index, np.int64))


class RecordedTask(Generic[AnyState]):
    """Plays a task as it is, and on a GPU with one launch for each step, observation and restart.

    The next step or restart overwrites a state, but not rewards and observations. The task's functions must
    only read tensors, as `Task` says. A function that reads a number on the host is called as it is.
    """

    def __init__(self, task: Task[AnyState]) -> None:
        self._task = task
        self._forms: dict[str, Any] = {}  # the structure of what each function takes and returns
        self._recorded: dict[str, Recorded] = {}

    def reset(self, index: Tensor, keys: Tensor) -> AnyState:
        """Begin episodes; see `Task.reset`."""
        state: AnyState = self._call("reset", (index, keys))
        return state

    def step(self, state: AnyState, action: Tree) -> tuple[AnyState, Tensor]:
        """Apply actions; see `Task.step`."""
        moved, reward = self._call("step", (state, action))
        return moved, reward.clone()

    def observe(self, state: AnyState) -> Tree:
        """Return observations; see `Task.observe`."""
        return map_tree(Tensor.clone, self._call("observe", (state,)))

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Call a function of the task as a function of flat lists of tensors."""

        def play(*leaves: Tensor) -> list[Tensor]:
            result = getattr(self._task, name)(*replace_leaves(self._forms[name], leaves))
            self._forms[f"{name}'s result"] = map_tree(lambda _: None, result)
            return list_leaves(result)

        if name not in self._recorded:
            self._forms[name] = map_tree(lambda _: None, arguments)
            self._recorded[name] = Recorded(play)
        leaves = self._recorded[name](*list_leaves(arguments))
        return replace_leaves(self._forms[f"{name}'s result"], leaves)


def teacher_of(task: Task[Any]) -> Taught:
    """Return a task that has a teacher, or raise a `UserError`."""
    if not isinstance(task, Taught):
        raise UserError(f"{type(task).__name__} has no teacher; give it an oracle_action(state)")
    return task


def creditor_of(task: Task[Any]) -> Credited:
    """Return a task that credits each number of an action, or raise a `UserError`."""
    if not isinstance(task, Credited):
        raise UserError(
            f"{type(task).__name__} does not tell what each number of an action earns; use credit: shared, "
            "or give it a credit(state, action)"
        )
    return task


Seeds = int | Sequence[int | None] | NDArray[np.integer] | None


def spread_seeds(seed: Seeds, count: int) -> list[int | None]:
    """Return a seed for each of B environments: consecutive ones from a number; None keeps the old seed."""
    if seed is None:
        return [None] * count
    if np.ndim(seed) == 0:  # type: ignore[arg-type]
        first = _check_seed(seed)
        return [first + row for row in range(count)]
    seeds = [None if each is None else _check_seed(each) for each in seed]  # type: ignore[union-attr]
    if len(seeds) != count:
        raise UserError(f"{count} environments need {count} seeds or a single one, got {len(seeds)}")
    return seeds


def _check_seed(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= 2**62:
        raise UserError(f"a seed must be a whole number from 0 to 2**62, got {seed!r}")
    return number


def take_actions(actions: Any, space: gym.Space[Any]) -> Tree:
    """Return actions of the host, (B, ...), as a tree of tensors that share no memory with them.

    Actions are numbers in any form that NumPy reads, in mappings or sequences for Dict and Tuple spaces. The
    step checks their shape.
    """
    if isinstance(space, PLAIN_SPACES):
        return _take_numbers(actions, space)
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(actions, Mapping) or set(actions) != set(space.spaces):
            wanted = ", ".join(map(repr, space.spaces))
            raise UserError(f"actions must be a dictionary with the keys {wanted}, got {actions!r:.100}")
        return {name: take_actions(actions[name], part) for name, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        if not isinstance(actions, Sequence) or len(actions) != len(space.spaces):
            raise UserError(f"actions must be a tuple of {len(space.spaces)} parts, got {actions!r:.100}")
        return tuple(take_actions(*pair) for pair in zip(actions, space.spaces, strict=True))
    return _take_numbers(actions, space)


def _take_numbers(actions: ArrayLike, space: gym.Space[Any]) -> Tensor:
    try:
        given = np.asarray(actions, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"actions must be an array of numbers on the host, got {actions!r}") from error
    if not np.isfinite(given).all():
        raise UserError("actions must be finite, got nan or inf; the policy has diverged")
    if isinstance(space, _DISCRETE) and given.shape[1:] == space.shape:
        limit = space.n if isinstance(space, gym.spaces.Discrete) else space.nvec
        if (given < 0).any() or (given >= limit).any() or (given % 1).any():
            raise UserError(f"actions must be of {space}, got values from {given.min():g} to {given.max():g}")
    if isinstance(space, gym.spaces.MultiBinary) and not np.isin(given, (0, 1)).all():
        raise UserError(f"actions must be 0 or 1, got values from {given.min():g} to {given.max():g}")
    return torch.from_numpy(given.astype(space.dtype))


def check_shapes(actions: Tree, space: gym.Space[Any], count: int) -> None:
    """Raise a `UserError` if tensors of actions do not have the shapes (count, ...) of a space."""
    if isinstance(space, PLAIN_SPACES):
        wanted = (count, *(space.shape or ()))
        if tuple(actions.shape) != wanted:
            raise UserError(f"actions must have the shape {wanted}, got {tuple(actions.shape)}")
    elif isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        for key in space.spaces if isinstance(space, gym.spaces.Dict) else range(len(space.spaces)):
            check_shapes(actions[key], space.spaces[key], count)  # type: ignore[index]


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a small tensor of the host on a device, without waiting for the device.

    Memory that is not pinned is copied before the call returns, so the tensor may change afterwards.
    """
    return tensor.to(device, non_blocking=True)


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor of any device as an array."""
    array: NDArray[Any] = (tensor if tensor.is_cpu else tensor.cpu()).numpy()
    return array
