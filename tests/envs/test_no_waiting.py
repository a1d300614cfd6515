"""Steps wait for no device.

Torch's device `meta` has tensors without values: what reads one on the host raises. A GPU, where there is
one, is told to raise.
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from usrl.compute.rng import mix
from usrl.data.bank import Bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.envs.task import merge_states
from usrl.registry import build_task

CONTOUR, THRESHOLD, PROBE = "usrl/ContourRefine-v0", "usrl/ThresholdSelect-v0", "usrl/ProbeNavigate-v0"


def on_meta(task: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a copy of a task, prepared tables and all, whose tensors are on `meta`."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "__deepcopy__", lambda tensor, memo: tensor.to("meta"))
        patch.setattr(Bank, "__getstate__", lambda bank: bank.__dict__)
        return copy.deepcopy(task)


SETTINGS = pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        (CONTOUR, {}),
        (CONTOUR, {"proposal": "target", "reward": "dice+boundary", "observation": "profile+start"}),
        (CONTOUR, {"proposal": "network", "scale": "proposal", "parametrization": "fourier"}),
        (CONTOUR, {"observation": "image", "reward": "iou"}),
        (THRESHOLD, {}),
        (THRESHOLD, {"action": "raster", "polarity": "bright", "reward": "sign"}),
        (THRESHOLD, {"observation": "features", "grid": 1, "reward": "iou"}),
        (THRESHOLD, {"observation": "features", "action": "raster"}),
        (PROBE, {}),
        (PROBE, {"observation": "scene", "contact": True, "breathing": 4.0, "reward": "sign"}),
        (PROBE, {"action": "continuous", "geometry": "sector", "reward": "area", "observation": "labels"}),
        (PROBE, {"shrink": True, "reward": "distance"}),
    ],
)


@SETTINGS
def test_no_step_reads_a_number_on_the_host(
    cases: Any, env_id: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = build_task(env_id, cases, settings)
    index = torch.arange(4)

    def play(task: Any, index: torch.Tensor) -> list[torch.Tensor]:
        state = task.reset(index, mix(index))
        seen, action = task.observe(state), task.oracle_action(state)
        moved, reward = task.step(state, action)
        merged = merge_states(moved, index[:2], task.reset(index[:2], mix(index[:2])))
        return [
            seen,
            action,
            reward,
            *([] if env_id == PROBE else [task.mask(merged)]),
            *vars(merged).values(),
            *task.figures(merged).values(),
        ]

    here = play(task, index)  # prepares the tables, which is done on the host
    there = play(on_meta(task, monkeypatch), index.to("meta"))
    for one, other in zip(here, there, strict=True):
        assert other.device.type == "meta"
        assert one.shape == other.shape
        assert one.dtype == other.dtype


def test_credit_reads_no_number_on_the_host(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = build_task(CONTOUR, bank, {})
    index = torch.arange(4)

    def credit(task: Any, index: torch.Tensor) -> torch.Tensor:
        state = task.reset(index, mix(index))
        return task.credit(state, task.oracle_action(state))

    assert credit(task, index).shape == (4, 64)  # prepares the tables
    assert credit(on_meta(task, monkeypatch), index.to("meta")).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@SETTINGS
def test_a_gpu_is_not_waited_for(cases: Any, env_id: str, settings: dict[str, Any]) -> None:
    venv = TaskVecEnv(build_task(env_id, cases.to("cuda"), settings), 4)
    venv.reset()
    action = torch.from_numpy(np.stack([venv.action_space.sample() for _ in range(4)])).to("cuda")
    for _ in range(venv._batch.task.horizon):  # once through, which prepares tables on the host
        venv.step_tensors(action)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2 * venv._batch.task.horizon):
            venv.step_tensors(action)
    finally:
        torch.cuda.set_sync_debug_mode("default")
