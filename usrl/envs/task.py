"""The seam between environments and the faces that offer them.

A task is a batched decision process over a bank: pure functions on a state of tensors that share a
leading batch dimension and a device. It knows nothing of seeds, auto-reset or time limits; faces
(`usrl.envs.gymnasium`, `usrl.envs.sb3`) do.
"""

from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from usrl.data.bank import Bank
from usrl.errors import UserError


@dataclass(frozen=True)
class State:
    """What every task's state holds; tasks add fields of their own, each a tensor (B, ...).

    Attributes:
        index: Row of the bank, int64, (B,).
        elapsed: Steps since the reset, int64, (B,).
        dice: Dice of the current mask and the target, float32, (B,).
        initial_dice: Dice at the reset, float32, (B,).
    """

    index: Tensor
    elapsed: Tensor
    dice: Tensor
    initial_dice: Tensor


AnyState = TypeVar("AnyState", bound=State)


class Task(Protocol[AnyState]):
    """A batched decision process.

    Attributes:
        observation_space: Of one environment: a uint8 Box, channels first.
        action_space: Of one environment.
        bank: The images and targets.
        horizon: Steps of an episode, for tasks that observe the time left; faces enforce it.
    """

    observation_space: gym.spaces.Box
    action_space: gym.Space[Any]
    bank: Bank
    horizon: int

    def reset(self, index: Tensor, keys: Tensor) -> AnyState:
        """Begin episodes on rows of the bank, int64 (B,), with random keys, int64 (B,)."""

    def step(self, state: AnyState, action: Tensor) -> tuple[AnyState, Tensor]:
        """Apply actions (B, ...); return the new state and the rewards, float32 (B,)."""

    def observe(self, state: AnyState) -> Tensor:
        """Return observations, uint8 (B, *observation_space.shape)."""

    def mask(self, state: AnyState) -> Tensor:
        """Return the current masks, bool (B, S, S)."""

    def oracle_action(self, state: AnyState) -> Tensor:
        """Return the action of a teacher that sees the target, (B, ...)."""

    def render(self, state: AnyState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one environment of the batch, uint8 (h, w, 3)."""


def require_proposals(bank: Bank, setting: str) -> None:
    """Raise a `UserError` if a bank has no proposals, which a setting like ``roi='network'`` needs."""
    if bank.proposals is None:
        raise UserError(
            f"{setting} needs a bank with proposals, got one without; name their folder in the recipe's "
            "env.proposals (`usrl proposals` writes it), or build the bank with "
            "Bank.from_samples(samples, proposals=masks)"
        )


def require_targets(bank: Bank) -> None:
    """Raise a `UserError` if a target of a bank has no pixel; for `Bank.prepare`, which asks once."""
    empty = ~bank.targets.flatten(1).any(dim=1)  # (M,)
    if empty.any():
        row = int(empty.nonzero()[0])
        raise UserError(
            f"an episode needs a target with a pixel, and {int(empty.sum())} of the bank's {len(bank)} rows "
            f"have none, the first is row {row} ({bank.names[row]}); leave them out, as "
            "Bank.from_samples does by component"
        )


def tensors_of(record: Any) -> list[Tensor]:
    """Return the fields of a dataclass of tensors, such as a state, in their order."""
    return [getattr(record, field.name) for field in fields(record)]


def merge_states(state: AnyState, rows: Tensor, other: AnyState) -> AnyState:
    """Return ``state`` with its rows, int64 (R,), replaced by those of ``other``, a batch of R."""
    pairs = zip(tensors_of(state), tensors_of(other), strict=True)
    return type(state)(*(old.index_copy(0, rows, new) for old, new in pairs))


def follow_oracle(task: Task[AnyState], state: AnyState) -> AnyState:
    """Return the state that the teacher reaches within the step limit."""
    for _ in range(task.horizon):
        state, _ = task.step(state, task.oracle_action(state))
    return state
