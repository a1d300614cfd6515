"""The Gymnasium adapters of a task: one environment, and a vector of them."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from usrl.compute.trees import Tree, map_tree
from usrl.data.cases import Cases
from usrl.envs.batch import PLAIN_SPACES, Batch, Seeds, View, spread_seeds, take_actions, to_numpy
from usrl.envs.rendering import Window
from usrl.envs.task import Drawn, Picture
from usrl.errors import UserError, suggest
from usrl.learners import load_object
from usrl.registry import find_row, make_task

RENDER_FPS = 4

_NO_MODE = 'render() returns nothing without a render mode: make the environment with render_mode="rgb_array"'

Info = dict[str, Any]


class UnknownArgumentError(UserError, TypeError):
    """Neither the adapter nor the environment has a keyword.

    It is a TypeError too, because libraries such as TorchRL try keywords and expect Python's own error.
    """


class TaskEnv(gym.Env[Any, Any]):
    """A registered task as a Gymnasium environment. `gym.make` adds the time limit.

    Args:
        env_id: Registered id.
        cases: Cases of the episodes, such as a `usrl.Bank` of images; the environment's default if None.
        device: Where the task runs: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or a torch device.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        horizon: Step limit from which the task counts down the time left; the registered limit if None.
            Gymnasium does not pass on ``max_episode_steps``: if you change it, give the same number here.
        layout: ``"chw"`` (channels first) or ``"hwc"``.
        dtype: ``"uint8"``, or ``"float32"`` for observations from 0 to 1.
        oracle_info: Add ``oracle_score`` to the info: the score that the teacher reaches within the step
            limit. This costs as much as the episode.
        settings: The environment's own arguments; see its page, or ``usrl envs ID``.

    Raises:
        UserError: If the id, the cases, the render mode, the device or a setting is unknown or wrong.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": RENDER_FPS}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self,
        env_id: str,
        cases: Cases | None = None,
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
        horizon: int | None = None,
        layout: str = "chw",
        dtype: str = "uint8",
        oracle_info: bool = False,
        **settings: Any,
    ) -> None:
        _check_names(type(self), env_id, settings)
        _check_render_mode(render_mode, self.metadata["render_modes"], "'rgb_array' returns pictures")
        self.render_mode = render_mode
        task = make_task(env_id, cases, device, settings, horizon)
        if not isinstance(task, Drawn):
            self.metadata = self.metadata | {"render_modes": []}
        self._batch = Batch(task, 1, View(layout, dtype), with_oracle=oracle_info)  # type: ignore[arg-type]
        self.observation_space = self._batch.observation_space
        self.action_space = task.action_space
        self._window: Window | None = None
        self._has_warned = False

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Tree, Info]:
        """Begin an episode; ``options={"index": i}`` chooses the case."""
        seeds = spread_seeds(seed, 1)
        super().reset(seed=seeds[0])
        if self._batch.state is None:
            self._batch.seed([int(self.np_random.integers(2**62))])
        self._batch.seed(seeds)
        self._batch.begin(np.zeros(1, np.int64), options)
        self._show()
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Tree, float, bool, bool, Info]:
        """Apply an action. The task may terminate the episode; Gymnasium's wrapper truncates it."""
        taken = take_actions(_as_batch(action, self.action_space), self.action_space)
        reward = self._batch.step(taken)
        if self._batch.elapsed[0] > self._batch.task.horizon and not self._has_warned:
            # Gymnasium does not tell the environment its step limit, so a different limit shows here first.
            self._has_warned = True
            warnings.warn(
                f"the episode goes on after {self._batch.task.horizon} steps, the horizon of the environment "
                "(time left, teacher); give gym.make the same number as horizon and as max_episode_steps",
                stacklevel=2,
            )
        self._show()
        terminated = self._batch.task.terminated(self._batch.state)
        is_done = terminated is not None and bool(terminated[0])
        return self._observe(), float(reward[0]), is_done, False, self._info()

    def oracle_action(self) -> Any:
        """Return the action of the task's teacher."""
        return map_tree(lambda part: to_numpy(part)[0], self._batch.oracle_action())

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which choices change something now, bool (C,), as MaskablePPO asks for them."""
        return self._batch.action_masks()[0]

    def render(self) -> Picture | None:
        """Return a picture, uint8 (h, w, 3), in mode ``rgb_array``; ``human`` shows it by itself."""
        if self.render_mode is None:
            gym.logger.warn(_NO_MODE)
        return self._batch.render(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _observe(self) -> Tree:
        return map_tree(lambda part: to_numpy(part)[0], self._batch.observe())

    def _info(self) -> Info:
        return {name: to_numpy(values)[0] for name, values in self._batch.figures().items()}

    def _show(self) -> None:
        if self.render_mode == "human":
            self._window = self._window or Window("usrl", RENDER_FPS)
            self._window.show(self._batch.render(0))


class TaskVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """A registered task as a Gymnasium vector environment that steps all episodes at once.

    Environment i with seed s plays the episodes of a single environment with seed s + i, in each of
    Gymnasium's restart modes.

    Args:
        num_envs: Number B of environments.
        env_id: Registered id.
        max_episode_steps: Step limit; the registered one if None.
        cases: Cases of the episodes, such as a `usrl.Bank` of images; the environment's default if None.
        device: Where the task runs: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or a torch device.
        render_mode: None or ``"rgb_array"``. A window shows only single environments.
        autoreset_mode: When an episode that ended restarts, a `gymnasium.vector.AutoresetMode`.
            ``SAME_STEP``: at once; ``final_obs`` and ``final_info`` hold its last observation and info.
            ``NEXT_STEP``: in the next step, which ignores its action. ``DISABLED``: with
            ``reset(options={"reset_mask": mask})``.
        layout: ``"chw"`` (channels first) or ``"hwc"``.
        dtype: ``"uint8"``, or ``"float32"`` for observations from 0 to 1.
        oracle_info: See `TaskEnv`.
        settings: The environment's own arguments; see its page, or ``usrl envs ID``.

    Raises:
        UserError: If the id, the cases, a mode, the device or a setting is unknown or wrong.
    """

    def __init__(
        self,
        num_envs: int,
        env_id: str,
        max_episode_steps: int | None = None,
        cases: Cases | None = None,
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        layout: str = "chw",
        dtype: str = "uint8",
        oracle_info: bool = False,
        **settings: Any,
    ) -> None:
        _check_names(type(self), env_id, settings)
        _check_render_mode(render_mode, ["rgb_array"], "a window shows one environment, of gym.make")
        self.render_mode = render_mode
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)  # or its value, such as "NextStep"
        except ValueError:
            known = ", ".join(f"AutoresetMode.{each.name}" for each in AutoresetMode)
            raise UserError(f"autoreset_mode must be one of {known}, got {autoreset_mode!r}") from None
        task = make_task(env_id, cases, device, settings, max_episode_steps)
        modes = ["rgb_array"] if isinstance(task, Drawn) else []
        self.metadata = TaskEnv.metadata | {"render_modes": modes, "autoreset_mode": self.autoreset_mode}
        self._batch = Batch(task, num_envs, View(layout, dtype), with_oracle=oracle_info)  # type: ignore[arg-type]
        self.num_envs = self._batch.num_envs
        self.single_observation_space = self._batch.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended = np.zeros(self.num_envs, bool)  # in the last step, under NEXT_STEP

    def reset(self, *, seed: Seeds = None, options: Info | None = None) -> tuple[Tree, Info]:
        """Begin all episodes, or those of a mask.

        Args:
            seed: Seed of the first environment, from which the others count on; or one seed for each. None
                keeps the old seed.
            options: ``index`` chooses the cases, and ``reset_mask``, bool (B,), the environments.
        """
        seeds = spread_seeds(seed, self.num_envs)
        super().reset(seed=seeds[0])
        rows, options = self._take_mask(options)
        if self._batch.state is None:
            self._batch.seed(self.np_random.integers(2**62, size=self.num_envs).tolist())
        chosen = set(rows.tolist())
        self._batch.seed([each if row in chosen else None for row, each in enumerate(seeds)])
        self._batch.begin(rows, options)
        self._ended[rows] = False
        return self._observe(), _with_masks(self._batch.info())

    def step(self, actions: Any) -> tuple[Tree, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """Apply actions (B, ...), and restart episodes that ended according to the mode."""
        taken = take_actions(actions, self.single_action_space)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            return self._step_and_restart(taken)
        reward = to_numpy(self._batch.step(taken)).copy()
        if self._ended.any():  # this step restarts them, and ignores their actions
            self._batch.begin(np.flatnonzero(self._ended))
            reward[self._ended] = 0
        done, truncated = self._batch.ends(self._batch.task.terminated(self._batch.state))
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._ended = done | truncated
        return self._observe(), reward, done, truncated, _with_masks(self._batch.info())

    def oracle_action(self) -> Any:
        """Return the action of the task's teacher in each environment, (B, ...)."""
        return map_tree(to_numpy, self._batch.oracle_action())

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which choices of each environment change something now, bool (B, C)."""
        return self._batch.action_masks()

    def render(self) -> tuple[Picture, ...] | None:
        """Return a picture of each environment in mode ``rgb_array``."""
        if self.render_mode is None:
            gym.logger.warn(_NO_MODE)
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._batch.render(row) for row in range(self.num_envs))

    def _step_and_restart(
        self, actions: Tree
    ) -> tuple[Tree, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Info]:
        step = self._batch.advance(actions).fetch()
        rows: NDArray[np.int64] = step.ended  # type: ignore[assignment]
        seen, rewards = map_tree(to_numpy, step.observations), to_numpy(step.rewards)
        info = _with_masks(self._batch.info())
        ended, done = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        if not len(rows):
            return seen, rewards, done, ended, info
        ended[rows], done[rows] = True, step.terminated
        final = np.full(self.num_envs, None, dtype=object)
        last: Info = {}
        for name, values in step.figures.items():
            last[name], last[f"_{name}"] = np.zeros(self.num_envs, np.float32), ended.copy()
            last[name][rows] = to_numpy(values)
        observed = map_tree(to_numpy, step.last_observations)
        for place, row in enumerate(rows):
            final[row] = map_tree(lambda part, place=place: part[place], observed)
        info |= {"final_obs": final, "_final_obs": ended, "final_info": last, "_final_info": ended}
        return seen, rewards, done, ended & ~done, info

    def _observe(self) -> Tree:
        return map_tree(to_numpy, self._batch.observe())

    def _take_mask(self, options: Info | None) -> tuple[NDArray[np.int64], Info | None]:
        """Return the environments to reset, (R,), and the options without their mask."""
        if not isinstance(options, Mapping) or "reset_mask" not in options:
            return np.arange(self.num_envs), options
        others = dict(options)
        mask = others.pop("reset_mask")
        is_mask = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (self.num_envs,)
        if not is_mask or not mask.any():
            raise UserError(
                f"reset_mask must be a NumPy array of {self.num_envs} bools, one of them True, got {mask!r}"
            )
        if self._batch.state is None and not mask.all():
            raise UserError("the first reset must begin all episodes; leave reset_mask out")
        return np.flatnonzero(mask), others


def _as_batch(action: Any, space: gym.Space[Any]) -> Any:
    """Return the action of one environment as those of a batch of one."""
    if isinstance(space, PLAIN_SPACES):
        return [action]
    if isinstance(space, gym.spaces.Dict) and isinstance(action, Mapping):
        return {name: _as_batch(part, space.spaces.get(name, space)) for name, part in action.items()}
    if isinstance(space, gym.spaces.Tuple) and isinstance(action, Sequence):
        return tuple(_as_batch(part, space) for part in action)
    return [action]


def _check_render_mode(mode: str | None, known: Sequence[str], remedy: str) -> None:
    if mode is not None and (not isinstance(mode, str) or mode not in known):
        raise UserError(f"render_mode must be None or one of {list(known)}, got {mode!r}; {remedy}")


def _with_masks(info: dict[str, NDArray[np.float32]]) -> Info:
    """Return vector info in Gymnasium's form, with a mask of valid entries for each array."""
    holds = np.ones(len(next(iter(info.values()))), bool)
    return info | {f"_{name}": holds for name in info}


def _check_names(adapter: Callable[..., Any], env_id: str, settings: Info) -> None:
    known = set(load_object(find_row(env_id).settings).model_fields)
    for name in settings:
        if name not in known:
            own = set(inspect.signature(adapter).parameters) - {"env_id", "num_envs", "settings"}
            raise UnknownArgumentError(
                f"{env_id}: unexpected keyword argument {name!r}; {suggest(name, known | own)}"
            )
