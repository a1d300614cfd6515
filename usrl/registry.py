"""The one table of environments: id, task, settings, step limit.

Tasks stand here as import paths, so that `import usrl` registers everything and loads nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from usrl.errors import UserError, suggest
from usrl.learners import load_object

if TYPE_CHECKING:
    from usrl.data.bank import Bank
    from usrl.envs.task import Task


@dataclass(frozen=True)
class Row:
    """A registered environment.

    Attributes:
        task: Import path of the task class, ``module:name``.
        settings: Import path of its settings.
        max_episode_steps: Step limit.
        summary: One line for listings.
        placement: Import path of what places its episodes on native images, a
            `usrl.envs.placement.Placement`; None if its agents make no masks.
    """

    task: str
    settings: str
    max_episode_steps: int
    summary: str
    placement: str | None = None


REGISTRY = {
    "usrl/ContourRefine-v0": Row(
        task="usrl.envs.contour.task:ContourTask",
        settings="usrl.envs.contour.starts:ContourSettings",
        max_episode_steps=10,
        summary="Move the vertices of a closed contour until it fits the lesion",
        placement="usrl.envs.contour.placement:ContourPlacement",
    ),
    "usrl/ThresholdSelect-v0": Row(
        task="usrl.envs.threshold.task:ThresholdTask",
        settings="usrl.envs.threshold.cases:ThresholdSettings",
        max_episode_steps=10,
        summary="Set a threshold and an opening for every tile until the mask fits the lesion",
        placement="usrl.envs.threshold.placement:ThresholdPlacement",
    ),
}


def register_environments() -> None:
    """Register every row with Gymnasium."""
    for env_id, row in REGISTRY.items():
        gym.register(
            id=env_id,
            entry_point="usrl.envs.gymnasium:TaskEnv",
            vector_entry_point="usrl.envs.gymnasium:TaskVectorEnv",
            max_episode_steps=row.max_episode_steps,
            kwargs={"env_id": env_id},
        )


def find_row(env_id: str) -> Row:
    """Return the row of an environment.

    Raises:
        UserError: If no environment has this id; suggests one.
    """
    if env_id not in REGISTRY:
        raise UserError(f"unknown environment {env_id!r}; {suggest(env_id, REGISTRY)}")
    return REGISTRY[env_id]


def build_task(
    env_id: str, bank: "Bank", settings: dict[str, Any], horizon: int | None = None
) -> "Task[Any]":
    """Build the task of an environment over a bank.

    In a process that `multiprocessing` started it lets torch compute with one thread; see
    `usrl.compute.devices.spare_threads_in_workers`.

    Args:
        env_id: Registered id.
        bank: Images and targets, on the device that the task is to run on.
        settings: Arguments that differ from the defaults.
        horizon: Step limit; the registered one if None.

    Raises:
        UserError: If the id or a setting is unknown or wrong, or the step limit is not positive.
    """
    from usrl.compute.devices import spare_threads_in_workers
    from usrl.strict import check

    spare_threads_in_workers()
    row = find_row(env_id)
    horizon = row.max_episode_steps if horizon is None else horizon
    if not isinstance(horizon, int | np.integer) or horizon < 1:
        raise UserError(
            "the step limit (horizon, or max_episode_steps of a vector) must be a whole number from 1 on, "
            f"got {horizon!r}"
        )
    # Settings come from arrays too: a strict model takes Python's numbers only.
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in settings.items()}
    checked = check(load_object(row.settings), plain, env_id)
    task: Task[Any] = load_object(row.task)(bank, checked, int(horizon))
    return task
