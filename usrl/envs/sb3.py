"""The Stable-Baselines3 face of a task: SB3 cannot use Gymnasium's vector environments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn
from torch import Tensor

from usrl.envs.batch import Batch, send, spread_seeds, take_actions, to_numpy
from usrl.envs.gymnasium import RENDER_FPS
from usrl.envs.task import Task
from usrl.errors import UserError

EPISODE_FIGURES = ("initial_dice", "dice")
"""What the info of an episode's last step holds, beside SB3's own keys."""


@dataclass(frozen=True)
class TensorStep:
    """What a step of all environments gave, on the task's device but for what the host knows anyway.

    Attributes:
        observations: After restarts, uint8 (B, ...).
        rewards: float32 (B,).
        ended: Environments whose episode the step limit ended, int64 (R,), on the host.
        last_observations: Of the episodes that ended, uint8 (R, ...).
        figures: What `EPISODE_FIGURES` names, of the episodes that ended, float32 (R,) each.
    """

    observations: Tensor
    rewards: Tensor
    ended: NDArray[np.int64]
    last_observations: Tensor
    figures: dict[str, Tensor]


class StepInfos(Sequence[dict[str, Any]]):
    """The infos of a step as SB3's callbacks read them, fetched from the device when first read.

    Attributes:
        step: The step that they are about.
    """

    def __init__(self, step: TensorStep) -> None:
        self.step = step

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{} for _ in range(len(self))]
        if len(self.step.ended):
            last = to_numpy(self.step.last_observations)
            figures = {name: to_numpy(values).tolist() for name, values in self.step.figures.items()}
            for place, row in enumerate(self.step.ended):
                rows[row] = {name: values[place] for name, values in figures.items()}
                rows[row] |= {"terminal_observation": last[place], "TimeLimit.truncated": True}
        return rows

    def __len__(self) -> int:
        """Return the number of environments."""
        return len(self.step.rewards)

    @overload
    def __getitem__(self, row: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, row: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, row: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the info of an environment: empty but in the step that ends an episode."""
        return self._rows[row]


class TaskVecEnv(VecEnv):
    """Any task as an SB3 `VecEnv` that steps all episodes at once.

    Environment i with seed s plays the episodes of a single environment with seed s + i.

    Args:
        task: The task; its horizon is the step limit.
        num_envs: Number of environments.
        seed: Seed of environment 0.

    Raises:
        UserError: If the seed is not a whole number from 0 to 2**62, or there is no environment.
    """

    def __init__(self, task: Task[Any], num_envs: int, seed: int = 0) -> None:
        self.render_mode = "rgb_array"
        self._batch = Batch(task, num_envs, with_oracle=False)
        self._batch.seed(spread_seeds(seed, num_envs))
        self._actions: NDArray[Any] = np.zeros(0)
        super().__init__(num_envs, task.observation_space, task.action_space)
        self.metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Give environments consecutive seeds, to take at the next reset; drawn at random if None.

        Raises:
            UserError: If the seed is not a whole number from 0 to 2**62.
        """
        spread_seeds(seed, self.num_envs)
        return super().seed(seed)

    def reset(self) -> NDArray[np.uint8]:
        """Begin all episodes; return observations, uint8 (B, ...).

        Raises:
            UserError: If an option of `set_options` is not ``index``, or some environments have none.
        """
        options, seeds = self._options, self._seeds
        self._reset_seeds()
        self._reset_options()
        self._batch.seed(spread_seeds(seeds, self.num_envs))
        self._batch.begin(np.arange(self.num_envs), _join_options(options))
        return self._batch.observe()

    def render(self, mode: str | None = None) -> NDArray[np.uint8] | None:
        """Return one picture of all environments; see SB3.

        Raises:
            UserError: If a window is asked for: SB3 opens it with OpenCV, which has none here.
        """
        if mode == "human":
            raise UserError("render(mode='human') has no window here; mode='rgb_array' returns the picture")
        return super().render(mode)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions, (B, ...), for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Apply the actions; restart the episodes that reach the step limit.

        Raises:
            UserError: If the actions are not numbers, have another shape or are not in the space.
        """
        step = self.step_tensors(take_actions(self._actions, self.action_space))
        done = np.zeros(self.num_envs, bool)
        done[step.ended] = True
        return to_numpy(step.observations), to_numpy(step.rewards), done, list(StepInfos(step))

    def step_tensors(self, actions: Tensor) -> TensorStep:
        """Apply finite actions (B, ...), and restart episodes, without waiting for the device.

        That an episode ends follows from step counts that are kept on the host.

        Raises:
            UserError: If the actions have another shape.
        """
        batch = self._batch
        rewards = batch.step_tensors(actions)
        observations = batch.observe_tensors()
        ended = np.flatnonzero(batch.elapsed >= batch.task.horizon)
        if not len(ended):
            figures = {name: rewards.new_empty(0) for name in EPISODE_FIGURES}
            return TensorStep(observations, rewards, ended, observations[:0], figures)
        rows = send(torch.from_numpy(ended), rewards.device)
        last = observations[rows]
        figures = {name: getattr(batch.state, name)[rows] for name in EPISODE_FIGURES}
        batch.begin(ended)
        observations = batch.observe_tensors()
        return TensorStep(observations, rewards, ended, last, figures)

    def oracle_actions(self) -> NDArray[Any]:
        """Return what the task's teacher would do in each environment, (B, ...)."""
        return to_numpy(self._batch.task.oracle_action(self._batch.state))

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return a picture of each environment."""
        return [self._batch.render(row) for row in range(self.num_envs)]

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of this object once per environment: they share it."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: the environments of a batch share every attribute."""
        raise AttributeError(f"{attr_name!r} cannot be set for single environments of a batch")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Mapping[str, Any]
    ) -> list[Any]:
        """Refuse: a batch holds no environment objects to call."""
        raise AttributeError(f"{method_name!r} cannot be called on single environments of a batch")

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """Return False for each environment."""
        return [False] * len(list(self._get_indices(indices)))


def _join_options(options: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the options of all environments, one value for each."""
    names = {name for own in options for name in own}
    if any(own.keys() != names for own in options):
        raise UserError(f"options must be given to all environments or to none, got {list(options)}")
    return {name: [own[name] for own in options] for name in names}
