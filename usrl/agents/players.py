"""Playing a policy on a task without seeds, resets or rewards."""

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy

from usrl.compute.rng import episode_keys
from usrl.envs.batch import to_numpy
from usrl.envs.task import AnyState, Task

EVALUATION_SEED = 2**40
"""Seed of the proposals that policies are evaluated from: one that no training reaches."""


def play(task: Task[AnyState], policy: BasePolicy, state: AnyState) -> list[AnyState]:
    """Return the states of an episode that follows a policy's most likely actions, the first included."""
    states = [state]
    for _ in range(task.horizon):
        action, _ = policy.predict(to_numpy(task.observe(states[-1])), deterministic=True)
        states.append(task.step(states[-1], torch.from_numpy(action).to(task.bank.device))[0])
    return states


def evaluation_state(task: Task[Any]) -> Any:
    """Return the start of one episode per row of the bank, the same at every call."""
    index = np.arange(len(task.bank))
    keys = episode_keys(np.full_like(index, EVALUATION_SEED), index)
    return task.reset(torch.from_numpy(index).to(task.bank.device), keys.to(task.bank.device))


def evaluate_policy(task: Task[Any], policy: BasePolicy) -> dict[str, float]:
    """Return what a policy reaches on every row of the task's bank.

    Returns:
        ``initial_dice`` and ``dice``, means at working resolution, and ``worsened``, the share of rows
        that end below their start.
    """
    states = play(task, policy, evaluation_state(task))
    initial, final = states[-1].initial_dice, states[-1].dice
    return {
        "initial_dice": float(initial.mean()),
        "dice": float(final.mean()),
        "worsened": float((final < initial).float().mean()),
    }
