"""Episodes that run side by side: what the three faces share."""

import operator
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from usrl.compute.devices import select_device, spare_threads_in_workers
from usrl.compute.rng import episode_keys, mix, uniform
from usrl.data.bank import REMEDY, Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.recorded import RecordedTask
from usrl.envs.task import Task, follow_oracle, merge_states, require_targets
from usrl.errors import UserError
from usrl.registry import build_task

DEFAULT_PHANTOMS = 64
"""Images of the bank of an environment that is made without one."""


@lru_cache(maxsize=2)
def default_bank(size: int = 128) -> Bank:
    """Return the bank of synthetic phantoms that an environment made without a bank uses."""
    return Bank.from_samples(load_phantom(DEFAULT_PHANTOMS), size)


def make_task(
    env_id: str,
    bank: Bank | None,
    device: torch.device | str,
    settings: Mapping[str, Any],
    horizon: int | None,
) -> Task[Any]:
    """Build the task of a face.

    Args:
        env_id: Registered id.
        bank: Images and targets; the default phantoms if None.
        device: Where the task runs: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or a torch device.
        settings: The environment's own arguments.
        horizon: Step limit; the registered one if None.

    Raises:
        UserError: If the id or a setting is unknown or wrong, the device is not there, or the bank is none.
    """
    if not isinstance(bank, Bank | None):
        raise UserError(f"bank must be a usrl.data.bank.Bank or None, got a {type(bank).__name__}; {REMEDY}")
    where = select_device(str(device), "device")
    bank = default_bank() if bank is None else bank
    return build_task(env_id, bank.to(where), dict(settings), horizon)


class Batch:
    """Episodes of one task, each with its own seed and restarted on its own.

    The same seed gives the same sequence of episodes whatever the batch around it: to the bit on a CPU, up to
    rounding on a GPU.

    Attributes:
        task: The task.
        num_envs: Number B of environments.
        state: State of all of them.
        elapsed: Steps of each episode, int64, (B,). The state counts them too, on the device; faces
            need the number on the host to truncate without waiting for the device.
    """

    def __init__(self, task: Task[Any], num_envs: int, with_oracle: bool) -> None:
        """Hold a task; call `seed` and `begin` before anything else.

        Raises:
            UserError: If the number of environments is not a positive one, or a target of the task's bank has
                no pixel.
        """
        if not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise UserError(f"num_envs must be a whole number from 1 on, got {num_envs!r}")
        spare_threads_in_workers()  # the task may have been built before a fork
        task.bank.prepare(require_targets)
        self.task = task
        # What its steps are taken with. A CPU gains nothing from a record.
        self._played: Any = RecordedTask(task) if task.bank.device.type == "cuda" else task
        self.num_envs = num_envs
        self.elapsed = np.zeros(num_envs, np.int64)
        self.state: Any = None
        self._oracle_dice = np.zeros(num_envs, np.float32) if with_oracle else None
        self._seeds = np.zeros(num_envs, np.int64)
        self._episodes = np.zeros(num_envs, np.int64)

    def seed(self, seeds: Sequence[int | None]) -> None:
        """Give environments a seed and let their episodes count from the first; None leaves one as it is."""
        for row, seed in enumerate(seeds):
            if seed is not None:
                self._seeds[row], self._episodes[row] = seed, 0

    def begin(self, rows: NDArray[np.int64], options: Mapping[str, Any] | None = None) -> None:
        """Begin new episodes in some environments.

        Args:
            rows: Which environments, (R,).
            options: ``index`` chooses the rows of the bank, one number or (R,); drawn otherwise.

        Raises:
            UserError: If an option is unknown or an index is not in the bank.
        """
        keys = episode_keys(self._seeds[rows], self._episodes[rows])
        drawn = (uniform(keys, 1)[:, 0] * len(self.task.bank)).to(torch.int64)  # (R,)
        index = self._chosen(options, len(rows)) if options else drawn
        device = self.task.bank.device
        drawn_from = send(index, device), send(mix(keys), device)
        if len(rows) == self.num_envs:
            self.state = fresh = self._played.reset(*drawn_from)
        else:
            fresh = self.task.reset(*drawn_from)
            self.state = merge_states(self.state, send(torch.from_numpy(rows), device), fresh)
        self.elapsed[rows] = 0
        self._episodes[rows] += 1
        if self._oracle_dice is not None:
            self._oracle_dice[rows] = to_numpy(follow_oracle(self.task, fresh).dice)

    def step(self, actions: ArrayLike) -> NDArray[np.float32]:
        """Apply actions (B, ...); return the rewards, float32 (B,).

        Raises:
            UserError: If the actions are not numbers, have another shape or are not in the space.
        """
        return to_numpy(self.step_tensors(take_actions(actions, self.task.action_space)))

    def step_tensors(self, actions: Tensor) -> Tensor:
        """Apply finite actions (B, ...) of any device; return the rewards, float32 (B,), on the task's.

        Whether they are finite is not asked here: that would wait for the device in every step.

        Raises:
            UserError: If the actions have another shape, or no episode has begun.
        """
        if self.state is None:
            raise UserError("no episode has begun; call reset() before step()")
        wanted = (self.num_envs, *(self.task.action_space.shape or ()))
        if tuple(actions.shape) != wanted:
            raise UserError(f"actions must have the shape {wanted}, got {tuple(actions.shape)}")
        self.state, reward = self._played.step(self.state, actions.to(self.task.bank.device))
        self.elapsed += 1
        return reward

    def observe(self) -> NDArray[np.uint8]:
        """Return the observations of all environments, uint8 (B, ...)."""
        return to_numpy(self.observe_tensors())

    def observe_tensors(self) -> Tensor:
        """Return the observations of all environments, uint8 (B, ...), on the task's device."""
        observation: Tensor = self._played.observe(self.state)
        return observation

    def info(self) -> dict[str, NDArray[np.float32]]:
        """Return the figures of all environments, each (B,), for the caller to change as it likes."""
        # On a CPU the arrays would share memory with the state, from which the next rewards follow.
        figures = {name: to_numpy(getattr(self.state, name)).copy() for name in ("initial_dice", "dice")}
        return figures if self._oracle_dice is None else figures | {"oracle_dice": self._oracle_dice.copy()}

    def render(self, row: int) -> NDArray[np.uint8]:
        """Return a picture of one environment, uint8 (h, w, 3).

        Raises:
            UserError: If no episode has begun.
        """
        if self.state is None:
            raise UserError("no episode has begun; call reset() before render()")
        return self.task.render(self.state, row)

    def _chosen(self, options: Mapping[str, Any], count: int) -> Tensor:
        unknown = set(options) - {"index"}
        if unknown:
            raise UserError(f"unknown reset option {sorted(unknown)[0]!r}; the only one is 'index'")
        index = np.asarray(options["index"])
        if index.dtype.kind not in "iu" or index.shape not in [(), (count,)]:
            raise UserError(f"index must be a whole number or a list of {count}, got {options['index']}")
        if index.min() < 0 or index.max() >= len(self.task.bank):
            raise UserError(f"index must be from 0 to {len(self.task.bank) - 1}, got {options['index']}")
        return torch.from_numpy(np.full(count, index, np.int64))


Seeds = int | Sequence[int | None] | NDArray[np.integer] | None


def spread_seeds(seed: Seeds, count: int) -> list[int | None]:
    """Return one seed per environment, as Gymnasium spreads them; None is for one that keeps its own.

    Args:
        seed: One number, from which the environments get consecutive ones, or one for each, or None for all.
        count: Number B of environments.

    Raises:
        UserError: If a seed is not a whole number from 0 to 2**62, or there are not B of them.
    """
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


def take_actions(actions: ArrayLike, space: gym.Space[Any]) -> Tensor:
    """Return actions of the host, (B, ...), as a tensor of the space's dtype that shares no memory with them.

    Their shape is not checked here but where the step is taken.

    Raises:
        UserError: If they are not numbers, one is not finite, or a discrete one is not in the space.
    """
    try:
        given = np.asarray(actions, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"actions must be an array of numbers on the host, got {actions!r}") from error
    if not np.isfinite(given).all():
        raise UserError("actions must be finite, got nan or inf; the policy has diverged")
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete) and given.shape[1:] == space.shape:
        limit = space.n if isinstance(space, gym.spaces.Discrete) else space.nvec
        if (given < 0).any() or (given >= limit).any() or (given % 1).any():
            raise UserError(f"actions must be of {space}, got values from {given.min():g} to {given.max():g}")
    return torch.from_numpy(given.astype(space.dtype))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a small tensor of the host on a device, without waiting for what the device has still to do.

    Memory that is not pinned is copied aside before the call returns, so that it may change afterwards.
    """
    return tensor.to(device, non_blocking=True)


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor of any device as an array."""
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
