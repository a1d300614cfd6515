"""Algorithms of sb3-contrib: memory is carried, masks are passed on, evolution has no infos."""

from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.evaluation import evaluate_policy

from usrl.agents.players import PolicyPlayer, begin_evaluation, play
from usrl.agents.recipe import AgentRecipe
from usrl.agents.training import build_model
from usrl.data.bank import Bank
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.volumes import Volumes
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError
from usrl.registry import build_task
from usrl.runs.recipes import load_recipe

ENV_ID = "usrl/ThresholdSelect-v0"
SETTINGS = {"action": "raster", "grid": 1, "observation": "features"}


@pytest.fixture(scope="module")
def task() -> Any:
    return build_task(ENV_ID, Bank.from_samples(load_phantom(6, shape=(96, 96)), 64), SETTINGS)


class Cut(TaskVecEnv):
    """Begins with the episodes of the evaluation, which a library then plays by its own loop."""

    def reset(self) -> Any:
        super().reset()
        self._batch.state = begin_evaluation(self.task)
        return self._batch.observe().numpy()


def returns_of(task: Any, policy: Any) -> torch.Tensor:
    return play(task, PolicyPlayer(policy, task), begin_evaluation(task)).returns


def test_a_recurrent_policy_plays_with_its_memory_as_in_the_librarys_own_evaluation(task: Any) -> None:
    venv = Cut(task, len(task.cases))
    model = RecurrentPPO("MlpLstmPolicy", venv, n_steps=4, seed=0, device="cpu")
    with torch.no_grad():  # so that what it remembers decides
        for parameter in model.policy.lstm_actor.parameters():
            parameter.mul_(6)
    wanted, _ = evaluate_policy(
        model, venv, n_eval_episodes=len(task.cases), return_episode_rewards=True, warn=False
    )
    found = returns_of(task, model.policy)
    assert sorted(found.tolist()) == pytest.approx(sorted(wanted), abs=1e-5)

    class Forgetful:
        def predict(self, seen: Any, **_: Any) -> Any:
            return model.policy.predict(seen, deterministic=True)

    assert not torch.allclose(returns_of(task, Forgetful()), found)


def test_a_masked_policy_plays_by_the_masks_as_in_the_librarys_own_evaluation(task: Any) -> None:
    venv = Cut(task, len(task.cases))
    assert is_masking_supported(venv)
    model = MaskablePPO("MlpPolicy", venv, n_steps=4, seed=0, device="cpu")
    wanted, _ = evaluate_masked(
        model, venv, n_eval_episodes=len(task.cases), return_episode_rewards=True, warn=False
    )
    assert sorted(returns_of(task, model.policy).tolist()) == pytest.approx(sorted(wanted), abs=1e-5)


@pytest.mark.parametrize("action", ["raster", "tiles"])
def test_masks_are_those_moves_that_change_a_threshold_or_an_opening(action: str, task: Any) -> None:
    settings = {"action": action, "grid": 2, "thresholds": 3, "sizes": 2}
    small = build_task(ENV_ID, task.cases, settings)
    venv = TaskVecEnv(small, 4, seed=1)
    venv.reset()
    rng = np.random.default_rng(0)
    for _ in range(9):
        state, masks = venv._batch.state, get_action_masks(venv)
        space: Any = venv.action_space
        if action == "raster":
            assert masks.shape == (4, 9)
            tile = int(state.elapsed[0]) % 4
            level, size = state.level[:, tile].numpy(), state.size[:, tile].numpy()
            for choice in range(9):
                up, larger = choice // 3 - 1, choice % 3 - 1
                inside = (0 <= level + up) & (level + up < 3) & (0 <= size + larger) & (size + larger < 2)
                assert (masks[:, choice] == inside).all()
            actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        else:
            assert masks.shape == (4, 24)
            ranks = torch.stack([state.level, state.size], dim=2).flatten(1).numpy()  # (B, T * 2)
            parts = masks.reshape(4, 8, 3)
            assert (parts[..., 0] == (ranks > 0)).all()
            assert parts[..., 1].all()
            assert (parts[..., 2] == (ranks < np.array([2, 1] * 4))).all()
            actions = np.stack([space.sample() for _ in range(4)])
        venv.step(actions)


def test_an_environment_without_masks_is_refused_before_anything_is_read(task: Any) -> None:
    contour = build_task("usrl/ContourRefine-v0", task.cases, {})
    venv = TaskVecEnv(contour, 2)
    assert not is_masking_supported(venv)
    recipe = AgentRecipe(algorithm="maskableppo", policy="MlpPolicy", num_envs=2)
    with pytest.raises(UserError, match=r"cannot be built|needs an environment that masks actions"):
        build_model(recipe, venv, torch.device("cpu"))


def test_a_recurrent_agent_learns_probes_from_the_recipe_of_probe_ppo() -> None:
    changes = [
        "algorithm=recurrentppo",
        "policy=CnnLstmPolicy",
        "init_from=null",
        "hyperparameters.n_steps=2",
    ]
    recipe = load_recipe("probe-ppo", changes)
    assert isinstance(recipe, AgentRecipe)
    volumes = Volumes.from_bodies([make_body(0, 0)])
    task = build_task(recipe.env.id, volumes, recipe.env.kwargs, recipe.env.max_episode_steps)
    model = build_model(recipe, TaskVecEnv(task, 2), torch.device("cpu"))
    assert isinstance(model, RecurrentPPO)
    before = [weight.clone() for weight in model.policy.lstm_actor.parameters()]
    model.learn(12)
    after = model.policy.lstm_actor.parameters()
    assert all((one != two).any() for one, two in zip(before, after, strict=True))
