"""A recorded task plays what the task plays, with or without a GPU that replays it."""

from typing import Any

import pytest
import torch

from usrl.compute.rng import mix
from usrl.compute.trees import list_leaves
from usrl.envs.batch import RecordedTask
from usrl.registry import REGISTRY, build_task

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("env_id", list(REGISTRY))
def test_a_recorded_task_plays_the_same_episodes(env_id: str, device: str, cases: Any) -> None:
    task: Any = build_task(env_id, cases.to(device), {})
    recorded: Any = RecordedTask(task)
    for episode in range(4):
        index = torch.arange(4, device=device)
        keys = mix(index + 10 * episode)
        own, state = task.reset(index, keys), recorded.reset(index, keys)
        for _ in range(3):
            action = task.oracle_action(own)
            (own, reward), (state, paid) = task.step(own, action), recorded.step(state, action)
            assert torch.equal(reward, paid)
            assert torch.equal(task.observe(own), recorded.observe(state))
            for one, other in zip(list_leaves(own), list_leaves(state), strict=True):
                assert torch.equal(one, other)
