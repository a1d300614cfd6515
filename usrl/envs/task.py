"""The contract of an environment: a task, which the adapters offer to Gymnasium and to Stable-Baselines3.

A task is a batched decision process over cases: pure functions on a state of tensors that share a leading
batch dimension and a device. It knows nothing of seeds, restarts or time limits. The adapters handle these
(`usrl.envs.gymnasium`, `usrl.envs.sb3`).
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.trees import Tree, map_tree

Picture = NDArray[np.uint8]
"""RGB picture, uint8, (h, w, 3)."""


@dataclass(frozen=True)
class State:
    """What every state holds. Tasks add fields of their own, each a tensor (B, ...).

    Attributes:
        index: The case of each episode, int64, (B,).
        elapsed: Steps since the reset, int64, (B,).
        key: Random key of each episode, int64, (B,); `usrl.compute.rng.step_keys` gives the key of a step.
    """

    index: Tensor
    elapsed: Tensor
    key: Tensor

    def replace(self, **changes: Tensor) -> Self:
        """Return the state with some fields changed: `dataclasses.replace` in a tenth of its time."""
        changed = object.__new__(type(self))
        changed.__dict__.update(self.__dict__, **changes)
        return changed


AnyState = TypeVar("AnyState", bound=State)


class Task(Protocol[AnyState]):
    """A batched decision process.

    Attributes:
        observation_space: Space of one environment: a Box, or a Dict of Boxes.
        action_space: Space of one environment.
        cases: The cases of the episodes.
        horizon: Step limit of an episode. Tasks may observe the time left; adapters enforce the limit.
    """

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    cases: Any  # a `usrl.data.cases.Cases`; each task has its own kind
    horizon: int

    def reset(self, index: Tensor, keys: Tensor) -> AnyState:
        """Begin episodes on some of the cases, int64 (B,), with random keys, int64 (B,)."""

    def step(self, state: AnyState, action: Tree) -> tuple[AnyState, Tensor]:
        """Apply actions (B, ...); return the new state and the rewards, float32 (B,)."""

    def observe(self, state: AnyState) -> Tree:
        """Return observations (B, ...) in the shape and dtype of the observation space."""

    def figures(self, state: AnyState) -> dict[str, Tensor]:
        """Return named figures of each episode, float32 (B,). Training selects weights by ``score``."""

    def terminated(self, state: AnyState) -> Tensor | None:
        """Return which episodes have ended, bool (B,), or None if only the step limit ends episodes.

        None keeps a GPU fast, because the host then knows beforehand which episodes end.
        """


@runtime_checkable
class Taught(Protocol):
    """A task with a teacher."""

    def oracle_action(self, state: Any) -> Tree:
        """Return the actions of a teacher that sees what the agent does not, (B, ...)."""


@runtime_checkable
class Credited(Protocol):
    """A task that knows what each number of an action contributes to the reward."""

    def credit(self, state: Any, action: Tensor) -> Tensor:
        """Return what each number of actions (B, A) would earn of a step's reward, float32 (B, A).

        The sum need not be the whole reward: some of it no number has earned alone.
        """


@runtime_checkable
class Masked(Protocol):
    """A task that knows which actions would do nothing. MaskablePPO leaves those out."""

    def action_masks(self, state: Any) -> Tensor:
        """Return which choices change something, bool (B, C). The parts of an action follow each other."""


@runtime_checkable
class Ruled(Protocol):
    """A task that turns scores into actions by a rule, the same for every player."""

    def decide(self, state: Any, scores: Tensor) -> Tree:
        """Return the actions that follow from scores, float32 (B, ...)."""


@runtime_checkable
class Drawn(Protocol):
    """A task that can be shown."""

    def render(self, state: Any, row: int) -> Picture:
        """Return a picture of one environment of the batch, uint8 (h, w, 3)."""


def merge_states(state: AnyState, rows: Tensor, other: AnyState) -> AnyState:
    """Return ``state`` with its rows, int64 (R,), replaced by those of ``other``, a batch of R."""
    return map_tree(lambda old, new: old.index_copy(0, rows, new), state, other)


def follow_teacher(task: Any, state: AnyState) -> AnyState:
    """Return the state that the teacher of a `Taught` task reaches within the step limit."""
    for _ in range(task.horizon):
        state, _ = task.step(state, task.oracle_action(state))
    return state
