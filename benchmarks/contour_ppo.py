"""PPO with environment, policy and hyperparameters of `agents/contour-ppo`, on the default phantoms."""

from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO

from usrl.agents.recipe import AgentRecipe
from usrl.agents.training import build_model
from usrl.data.phantom.dataset import default_bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.registry import build_task
from usrl.runs.recipes import load_recipe

RECIPE = Path(__file__).resolve().parents[1] / "agents" / "contour-ppo" / "recipe.yaml"


def build(algorithm: str, device: str, num_envs: int | None = None, **changed: Any) -> PPO:
    """Return an untrained model.

    Args:
        algorithm: ``ppo`` or ``ppo-device``.
        device: Where environments and policy compute.
        num_envs: Number of environments; the recipe's if None.
        changed: Hyperparameters other than the recipe's.
    """
    recipe = load_recipe(RECIPE, [f"algorithm={algorithm}"])
    assert isinstance(recipe, AgentRecipe)
    num_envs = num_envs or recipe.num_envs
    recipe = recipe.model_copy(update={"hyperparameters": recipe.hyperparameters | changed})
    env, bank = recipe.env, default_bank(recipe.data.size).to(device)
    task = build_task(env.id, bank, dict(env.kwargs), env.max_episode_steps)
    model = build_model(recipe, TaskVecEnv(task, num_envs), torch.device(device))
    assert isinstance(model, PPO)
    return model
