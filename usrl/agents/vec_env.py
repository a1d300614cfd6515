"""The Stable-Baselines3 face of a task: SB3 cannot use Gymnasium's vector environments."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from usrl.envs.batch import Batch, to_numpy
from usrl.envs.task import Task

EPISODE_FIGURES = ("initial_dice", "dice")
"""What the info of an episode's last step holds, beside SB3's own keys."""


class TaskVecEnv(VecEnv):
    """Any task as an SB3 `VecEnv` that steps all episodes at once.

    Environment i with seed s plays the episodes of a single environment with seed s + i.

    Args:
        task: The task; its horizon is the step limit.
        num_envs: Number of environments.
        seed: Seed of environment 0.
    """

    def __init__(self, task: Task[Any], num_envs: int, seed: int = 0) -> None:
        self.render_mode = "rgb_array"
        self._batch = Batch(task, num_envs, with_oracle=False)
        self._batch.seed(seed + np.arange(num_envs))
        self._actions: NDArray[Any] = np.zeros(0)
        super().__init__(num_envs, task.observation_space, task.action_space)

    def reset(self) -> NDArray[np.uint8]:
        """Begin all episodes; return observations, uint8 (B, ...)."""
        if self._seeds[0] is not None:
            self._batch.seed([seed or 0 for seed in self._seeds])
        self._reset_seeds()
        self._reset_options()
        self._batch.begin(np.arange(self.num_envs))
        return self._batch.observe()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions, (B, ...), for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Apply the actions; restart the episodes that reach the step limit."""
        rewards = self._batch.step(self._actions)
        observations = self._batch.observe()
        done = self._batch.elapsed >= self._batch.task.horizon
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        rows = np.flatnonzero(done)
        if len(rows):
            figures = self._batch.info()
            for row in rows:
                infos[row] = {name: float(figures[name][row]) for name in EPISODE_FIGURES}
                infos[row] |= {"terminal_observation": observations[row], "TimeLimit.truncated": True}
            self._batch.begin(rows)
            observations = self._batch.observe()
        return observations, rewards, done, infos

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
