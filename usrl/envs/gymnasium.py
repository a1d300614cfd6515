"""The Gymnasium faces of a task: one environment, and a vector of them."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from usrl.data.bank import Bank
from usrl.envs.batch import Batch, Seeds, make_task, spread_seeds
from usrl.envs.rendering import Window
from usrl.errors import UserError, suggest
from usrl.learners import load_object
from usrl.registry import find_row

RENDER_FPS = 4

_NO_MODE = 'render() returns nothing without a render mode: make the environment with render_mode="rgb_array"'

Observation = NDArray[np.uint8]
Action = Any  # numbers in any form that NumPy reads


class TaskEnv(gym.Env[Any, Any]):
    """Any registered task as a Gymnasium environment; `gym.make` adds the time limit.

    Args:
        env_id: Registered id.
        bank: Images and targets; 64 synthetic phantoms if None.
        device: Where the task runs: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or a torch device.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        horizon: Steps that the time left is counted down from; the registered limit if None. Gymnasium
            keeps ``max_episode_steps`` to itself: who changes it passes the same number here.
        oracle_info: Add ``oracle_dice``, the Dice that the teacher reaches from here within the step
            limit, to the info of a reset. It costs as much as the episode.
        settings: The environment's own arguments; see its page.

    Raises:
        UserError: If the id, the render mode, the device or a setting is unknown or wrong.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": RENDER_FPS}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self,
        env_id: str,
        bank: Bank | None = None,
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
        horizon: int | None = None,
        oracle_info: bool = False,
        **settings: Any,
    ) -> None:
        _check_names(type(self), env_id, settings)
        _check_render_mode(render_mode, self.metadata["render_modes"], "'rgb_array' returns pictures")
        self.render_mode = render_mode
        self._batch = Batch(make_task(env_id, bank, device, settings, horizon), 1, oracle_info)
        self.observation_space = self._batch.task.observation_space
        self.action_space = self._batch.task.action_space
        self._window: Window | None = None
        self._has_warned = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; ``options={"index": i}`` chooses the row of the bank."""
        seeds = spread_seeds(seed, 1)
        super().reset(seed=seeds[0])
        if self._batch.state is None:
            self._batch.seed([int(self.np_random.integers(2**62))])
        self._batch.seed(seeds)
        self._batch.begin(np.zeros(1, np.int64), options)
        self._show()
        return self._batch.observe()[0], _first(self._batch.info())

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply an action; the episode never terminates of its own."""
        reward = self._batch.step([action])
        if self._batch.elapsed[0] > self._batch.task.horizon and not self._has_warned:
            self._warn_of_limit()
        self._show()
        return self._batch.observe()[0], float(reward[0]), False, False, _first(self._batch.info())

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture, uint8 (h, w, 3), in mode ``rgb_array``; ``human`` shows it by itself."""
        if self.render_mode is None:
            gym.logger.warn(_NO_MODE)
        return self._batch.render(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _warn_of_limit(self) -> None:
        # Gymnasium tells the environment nothing of its own step limit, so that it shows here first.
        self._has_warned = True
        warnings.warn(
            f"the episode goes on after the {self._batch.task.horizon} steps that the environment counts "
            "with (time left, oracle); give gym.make the same number as horizon and as max_episode_steps",
            stacklevel=3,
        )

    def _show(self) -> None:
        if self.render_mode == "human":
            self._window = self._window or Window("usrl", RENDER_FPS)
            self._window.show(self._batch.render(0))


class TaskVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """Any registered task as a Gymnasium vector environment that steps all episodes at once.

    Environment i with seed s plays the episodes of a single environment with seed s + i. Episodes that
    end restart in the same step: ``final_obs`` and ``final_info`` hold their last.

    Args:
        num_envs: Number B of environments.
        env_id: Registered id.
        max_episode_steps: Step limit; the registered one if None.
        bank: Images and targets; 64 synthetic phantoms if None.
        device: Where the task runs: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or a torch device.
        render_mode: None or ``"rgb_array"``; a window shows single environments only.
        oracle_info: See `TaskEnv`.
        settings: The environment's own arguments; see its page.

    Raises:
        UserError: If the id, the render mode, the device or a setting is unknown or wrong.
    """

    metadata = {  # noqa: RUF012 - Gymnasium's
        "render_modes": ["rgb_array"],
        "render_fps": RENDER_FPS,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        env_id: str,
        max_episode_steps: int | None = None,
        bank: Bank | None = None,
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
        oracle_info: bool = False,
        **settings: Any,
    ) -> None:
        _check_names(type(self), env_id, settings)
        remedy = "a window shows one environment, of gym.make"
        _check_render_mode(render_mode, self.metadata["render_modes"], remedy)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._batch = Batch(
            make_task(env_id, bank, device, settings, max_episode_steps), num_envs, oracle_info
        )
        self.single_observation_space = self._batch.task.observation_space
        self.single_action_space = self._batch.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: Seeds = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin all episodes.

        Args:
            seed: Of the first environment, from which the others count on, or one for each; None where an
                environment goes on from the seed that it has.
            options: ``{"index": ...}`` chooses the rows of the bank.
        """
        seeds = spread_seeds(seed, self.num_envs)
        super().reset(seed=seeds[0])
        if self._batch.state is None:
            self._batch.seed(self.np_random.integers(2**62, size=self.num_envs).tolist())
        self._batch.seed(seeds)
        self._batch.begin(np.arange(self.num_envs), options)
        return self._batch.observe(), _with_masks(self._batch.info())

    def step(
        self, actions: Action
    ) -> tuple[Observation, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Apply actions (B, ...); restart the episodes that reach the step limit."""
        reward = self._batch.step(actions)
        observation, info = self._batch.observe(), _with_masks(self._batch.info())
        truncated = self._batch.elapsed >= self._batch.task.horizon
        if truncated.any():
            final = np.full(self.num_envs, None, dtype=object)
            rows = np.flatnonzero(truncated)
            for row in rows:
                final[row] = observation[row]
            last = {key: value & truncated if key[0] == "_" else value for key, value in info.items()}
            self._batch.begin(rows)
            observation, info = self._batch.observe(), _with_masks(self._batch.info())
            info |= {
                "final_obs": final,
                "_final_obs": truncated,
                "final_info": last,
                "_final_info": truncated,
            }
        return observation, reward, np.zeros(self.num_envs, bool), truncated, info

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Return a picture of each environment in mode ``rgb_array``."""
        if self.render_mode is None:
            gym.logger.warn(_NO_MODE)
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._batch.render(row) for row in range(self.num_envs))


def _check_render_mode(mode: str | None, known: Sequence[str], remedy: str) -> None:
    if mode is not None and mode not in known:
        raise UserError(f"render_mode must be None or one of {list(known)}, got {mode!r}; {remedy}")


def _first(info: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    return {name: float(values[0]) for name, values in info.items()}


def _with_masks(info: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Return vector info in Gymnasium's form: beside each array, which entries hold."""
    return info | {f"_{name}": np.ones(len(values), bool) for name, values in info.items()}


def _check_names(face: type[TaskEnv] | type[TaskVectorEnv], env_id: str, settings: Mapping[str, Any]) -> None:
    """Raise where a keyword is neither a setting of the environment nor an argument of the face itself."""
    known = set(load_object(find_row(env_id).settings).model_fields)
    for name in settings:
        if name not in known:
            own = set(inspect.signature(face).parameters) - {"env_id", "num_envs", "settings"}
            raise UserError(f"{env_id}: unknown key {name!r}; {suggest(name, known | own)}")
