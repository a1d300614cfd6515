"""A task whose steps a GPU replays."""

from typing import Any, Generic

from torch import Tensor

from usrl.compute.recording import Recorded
from usrl.envs.task import AnyState, Task, tensors_of


class RecordedTask(Generic[AnyState]):
    """Plays a task as it is, and on a GPU with one launch for each step, observation and restart.

    A state lasts until the next step, or restart, gives another one; rewards and observations stay.

    Args:
        task: Its functions must read nothing but tensors, as `Task` says; one that reads a number on the host
            is called as it is.
    """

    def __init__(self, task: Task[AnyState]) -> None:
        self._task = task
        self._kind: Any = None
        self._reset = Recorded(self._reset_tensors)
        self._step = Recorded(self._step_tensors)
        self._observe = Recorded(self._observe_tensors)

    def reset(self, index: Tensor, keys: Tensor) -> AnyState:
        """Begin episodes; see `Task.reset`."""
        tensors = self._reset(index, keys)
        state: AnyState = self._kind(*tensors)
        return state

    def step(self, state: AnyState, action: Tensor) -> tuple[AnyState, Tensor]:
        """Apply actions; see `Task.step`."""
        *moved, reward = self._step(*tensors_of(state), action)
        return self._kind(*moved), reward.clone()

    def observe(self, state: AnyState) -> Tensor:
        """Return observations; see `Task.observe`."""
        seen: Tensor = self._observe(*tensors_of(state))[0].clone()
        return seen

    def _reset_tensors(self, index: Tensor, keys: Tensor) -> list[Tensor]:
        state = self._task.reset(index, keys)
        self._kind = type(state)
        return tensors_of(state)

    def _step_tensors(self, *tensors: Tensor) -> list[Tensor]:
        *state, action = tensors
        moved, reward = self._task.step(self._kind(*state), action)
        return [*tensors_of(moved), reward]

    def _observe_tensors(self, *state: Tensor) -> list[Tensor]:
        return [self._task.observe(self._kind(*state))]
