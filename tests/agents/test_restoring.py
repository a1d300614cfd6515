"""Policies of our own that are saved and loaded without their algorithm, as Stable-Baselines3 does it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy

from usrl.agents.algorithms import POLICIES
from usrl.agents.policies import ContourPolicy
from usrl.envs.summary.task import COLUMNS

MOVES = spaces.Box(-1, 1, (16,), np.float32)
PROFILES = spaces.Box(0, 255, (3, 16, 40), np.uint8)
SLICES = spaces.Box(0, 255, (2, 64, 64), np.uint8)
FRAMES = spaces.Box(-10, 10, (8, 6 + COLUMNS), np.float32)

MADE: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ContourPolicy": (PROFILES, MOVES, {"width": 8, "layers": 2, "critic": "vertex"}),
    "SlicePolicy": (SLICES, MOVES, {"channels": [4, 8], "features": 16}),
    "SliceQPolicy": (SLICES, spaces.Discrete(4), {"channels": [4, 8], "features": 16}),
    "ClipPolicy": (FRAMES, spaces.MultiBinary(8), {"width": 16, "kinds": 2}),
}


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> BasePolicy:
    seen, acts, arguments = MADE[request.param]
    torch.manual_seed(0)
    return POLICIES[request.param](seen, acts, lambda _: 1e-3, **arguments)  # type: ignore[call-arg]


def test_a_saved_policy_comes_back_and_acts_the_same(policy: BasePolicy, tmp_path: Path) -> None:
    path = tmp_path / "policy.pth"
    policy.save(str(path))
    loaded = type(policy).load(str(path), device="cpu")
    space = policy.observation_space
    space.seed(0)
    seen = np.stack([space.sample() for _ in range(3)])
    assert np.array_equal(
        policy.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0]
    )
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_a_loaded_policy_can_be_saved_again(policy: BasePolicy, tmp_path: Path) -> None:
    first, second = str(tmp_path / "first.pth"), str(tmp_path / "second.pth")
    policy.save(first)
    type(policy).load(first, device="cpu").save(second)
    again = type(policy).load(second, device="cpu")
    assert sum(each.numel() for each in again.parameters()) == sum(e.numel() for e in policy.parameters())


def test_a_copy_of_a_policy_can_be_saved(tmp_path: Path) -> None:
    policy = copy.deepcopy(ContourPolicy(PROFILES, MOVES, lambda _: 1e-3, width=8, layers=2))
    policy.save(str(tmp_path / "policy.pth"))
    assert ContourPolicy.load(str(tmp_path / "policy.pth"), device="cpu").width == 8
