"""A trained agent of contour correction as a method of a session."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usrl.agents.algorithms import load_policy
from usrl.agents.players import PolicyPlayer
from usrl.agents.recipe import AgentRecipe
from usrl.compute.devices import spare_threads_in_workers
from usrl.envs.correct.methods import ContourMethod
from usrl.envs.correct.placement import CorrectPlacement
from usrl.envs.correct.task import CorrectState, CorrectTask
from usrl.envs.placement import Place
from usrl.errors import UserError
from usrl.learners import load_object
from usrl.registry import find_row
from usrl.runs.run import Run
from usrl.strict import check


@dataclass(frozen=True)
class PolicyMoves:
    """Moves contours by a policy's most likely actions.

    Attributes:
        policy: Of Stable-Baselines3.
        name: For messages.
    """

    policy: Any
    name: str

    def __call__(self, task: CorrectTask, state: CorrectState) -> Tensor:
        """Return actions (B, A); see `usrl.envs.correct.methods.Act`."""
        action: Tensor = PolicyPlayer(self.policy, task, self.name).act(task.observe(state), state)
        return action


def open_correcting_agent(run: Run, device: torch.device) -> ContourMethod:
    """Return the agent of a run as a method that takes points on the border.

    Raises:
        UserError: If agents of the run's environment take no corrections, or the weights cannot be used.
    """
    recipe = run.recipe_as(AgentRecipe)
    env, row = recipe.env, find_row(recipe.env.id)
    placement: Any = load_object(row.placement) if row.placement else None
    if not isinstance(placement, type) or not issubclass(placement, CorrectPlacement):
        raise UserError(
            f"{run.path}: agents of {env.id} take no corrections; name an agent of usrl/ContourCorrect-v0"
        )
    spare_threads_in_workers()
    settings = check(load_object(row.settings), env.kwargs, env.id)
    placed = placement(settings, env.max_episode_steps, recipe.data.size, device)
    # The spaces depend on the recipe alone, so that any image and any box will do.
    task = placed.begin(Place(np.zeros((8, 8), np.uint8), ((-0.5, -0.5, 7.5, 7.5),))).task
    policy = load_policy(run.weights_path, recipe, task, device)
    return ContourMethod(run.name, placed, PolicyMoves(policy, run.name))
