"""The Stable-Baselines3 adapter of a task: SB3 cannot use Gymnasium's vector environments."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn
from torch import Tensor

from usrl.compute.trees import Tree, map_tree
from usrl.data.cases import Cases
from usrl.envs.batch import Batch, Step, View, creditor_of, spread_seeds, take_actions, to_numpy
from usrl.envs.gymnasium import RENDER_FPS
from usrl.envs.task import Masked, Task
from usrl.errors import UserError
from usrl.registry import make_task


class StepInfos(Sequence[dict[str, Any]]):
    """The infos of a `step` in the form of SB3's callbacks. The first read fetches them from the device."""

    def __init__(self, step: Step) -> None:
        self.step = step

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        infos: list[dict[str, Any]] = [{} for _ in range(len(self))]
        step = self.step.fetch()
        if step.last_observations is None:
            return infos
        last = map_tree(to_numpy, step.last_observations)
        figures = {name: to_numpy(values).tolist() for name, values in step.figures.items()}
        for place, row in enumerate(step.ended):
            infos[row] = {name: values[place] for name, values in figures.items()}
            infos[row]["terminal_observation"] = map_tree(lambda part, place=place: part[place], last)
            infos[row]["TimeLimit.truncated"] = not step.terminated[place]
        return infos

    def __len__(self) -> int:
        """Return the number of environments."""
        return len(self.step.rewards)

    def __getitem__(self, row: Any) -> Any:
        """Return the info of an environment. It is empty unless the step ended an episode."""
        return self._rows[row]


class TaskVecEnv(VecEnv):
    """A task as an SB3 `VecEnv` that steps all episodes at once.

    Environment i with seed s plays the episodes of a single environment with seed s + i.

    Args:
        task: The task; its horizon is the step limit. `TaskVecEnv.make` builds it from an id.
        num_envs: Number of environments.
        seed: Seed of environment 0.
        layout: ``"chw"`` (channels first, as SB3's CNN policies want it) or ``"hwc"``.
        dtype: ``"uint8"``, or ``"float32"`` for observations from 0 to 1.

    Raises:
        UserError: If the seed is not a whole number from 0 to 2**62, or an argument is out of range.
    """

    def __init__(
        self, task: Task[Any], num_envs: int, seed: int = 0, layout: str = "chw", dtype: str = "uint8"
    ) -> None:
        self.render_mode = "rgb_array"
        self._batch = Batch(task, num_envs, View(layout, dtype))  # type: ignore[arg-type]
        self._batch.seed(spread_seeds(seed, num_envs))
        self._actions: Any = None
        super().__init__(num_envs, self._batch.observation_space, task.action_space)
        self.metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}

    @classmethod
    def make(
        cls,
        env_id: str,
        num_envs: int,
        seed: int = 0,
        cases: Cases | None = None,
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        layout: str = "chw",
        dtype: str = "uint8",
        **settings: Any,
    ) -> "TaskVecEnv":
        """Make environments of a registered id, with the arguments of `gymnasium.make_vec`.

        Raises:
            UserError: If the id, the cases, the device or a setting is unknown or wrong.
        """
        task = make_task(env_id, cases, device, settings, max_episode_steps)
        return cls(task, num_envs, seed, layout, dtype)

    @property
    def task(self) -> Task[Any]:
        """The task."""
        return self._batch.task

    @property
    def state(self) -> Any:
        """The states of the present episodes, which callers must not change; None before the first reset."""
        return self._batch.state

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Give environments consecutive seeds for the next reset; they are drawn at random if None."""
        spread_seeds(seed, self.num_envs)
        return super().seed(seed)

    def reset(self) -> VecEnvObs:
        """Begin all episodes; return observations (B, ...)."""
        options, seeds = self._options, self._seeds
        self._reset_seeds()
        self._reset_options()
        self._batch.seed(spread_seeds(seeds, self.num_envs))
        self._batch.begin(np.arange(self.num_envs), _join_options(options))
        return map_tree(to_numpy, self._batch.observe())

    def render(self, mode: str | None = None) -> NDArray[np.uint8] | None:
        """Return one picture of all environments; see SB3."""
        if mode == "human":  # SB3 opens a window with OpenCV, whose build here has no windows
            raise UserError("render(mode='human') has no window here; mode='rgb_array' returns the picture")
        return super().render(mode)

    def step_async(self, actions: Any) -> None:
        """Keep the actions, (B, ...), for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Apply the actions; restart the episodes that ended."""
        step = self.step_tensors(take_actions(self._actions, self.action_space)).fetch()
        done = np.zeros(self.num_envs, bool)
        done[step.ended] = True
        return map_tree(to_numpy, step.observations), to_numpy(step.rewards), done, list(StepInfos(step))

    def step_tensors(self, actions: Tree) -> Step:
        """Apply finite actions (B, ...) and restart episodes that ended, without waiting for the device."""
        return self._batch.advance(actions)

    def credit(self, actions: Tensor) -> Tensor:
        """Return what each number of actions (B, A) would earn; see `usrl.envs.task.Credited`.

        Raises:
            UserError: If the task does not tell, or no episode has begun.
        """
        return self._batch.credit(actions)

    def check_credit(self) -> None:
        """Raise a `UserError` if the task credits no such actions; this needs no reset."""
        creditor, device = creditor_of(self.task), self._batch.device
        first = torch.zeros(1, dtype=torch.int64, device=device)
        still = torch.zeros(1, *self.action_space.shape or (), device=device)
        earned = creditor.credit(self.task.reset(first, first), still)
        if earned.shape != still.shape:
            raise UserError(
                f"credit() of {type(self.task).__name__} must return what each number of an action earns, "
                f"{tuple(still.shape)} for one episode, got {tuple(earned.shape)}"
            )

    def oracle_actions(self) -> Any:
        """Return the action of the task's teacher in each environment, (B, ...)."""
        return map_tree(to_numpy, self._batch.oracle_action())

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which choices of each environment change something now, bool (B, C)."""
        return self._batch.action_masks()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return a picture of each environment."""
        return [self._batch.render(row) for row in range(self.num_envs)]

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of this object once per environment: they share it."""
        if attr_name == "action_masks" and not isinstance(self.task, Masked):
            raise AttributeError(f"{type(self.task).__name__} masks no actions")
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: the environments of a batch share every attribute."""
        raise AttributeError(f"{attr_name!r} cannot be set for single environments of a batch")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Mapping[str, Any]
    ) -> list[Any]:
        """Return action masks, bool (C,) each. Other methods are refused: a batch has no single objects."""
        if method_name == "action_masks":
            masks = self._batch.action_masks()
            return [masks[row] for row in self._get_indices(indices)]
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
