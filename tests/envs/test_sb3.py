"""SB3's face of a task: tensors and NumPy play the same episodes, which end one by one."""

from typing import Any

import numpy as np
import pytest
import torch

from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.gymnasium import RENDER_FPS
from usrl.envs.sb3 import StepInfos, TaskVecEnv
from usrl.errors import UserError
from usrl.registry import build_task


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.from_samples(load_phantom(4), 64)


def build(bank: Bank, horizon: int) -> TaskVecEnv:
    """Return three environments, the second of which is two steps ahead."""
    venv = TaskVecEnv(build_task("usrl/ContourRefine-v0", bank, {"vertices": 16}, horizon), 3, seed=7)
    venv.reset()
    venv._batch.elapsed[1] += 2
    return venv


def actions(steps: int) -> torch.Tensor:
    return torch.rand((steps, 3, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_tensors_play_the_episodes_of_numpy(bank: Bank) -> None:
    by_tensors, by_numpy = build(bank, 4), build(bank, 4)
    ends = []
    for action in actions(10):
        step = by_tensors.step_tensors(action)
        seen, rewards, done, infos = by_numpy.step(action.numpy())
        assert (step.observations.numpy() == seen).all()
        assert (step.rewards.numpy() == rewards).all()
        assert step.ended.tolist() == np.flatnonzero(done).tolist()
        assert [info.keys() for info in StepInfos(step)] == [info.keys() for info in infos]
        ends.append(step.ended.tolist())
    assert ends == [[], [1], [], [0, 2], [], [1], [], [0, 2], [], [1]]


def test_an_episode_that_ends_hands_over_its_own_last_observation_and_figures(bank: Bank) -> None:
    ending, endless = build(bank, 4), build(bank, 99)
    first, second = actions(2)
    for venv in (ending, endless):
        venv.step_tensors(first)
    step, goes_on = ending.step_tensors(second), endless.step_tensors(second)
    assert step.ended.tolist() == [1]
    assert torch.equal(step.last_observations, goes_on.observations[1:2])
    assert torch.equal(step.figures["dice"], endless._batch.state.dice[1:2])
    assert torch.equal(step.observations[[0, 2]], goes_on.observations[[0, 2]])
    assert not torch.equal(step.observations[1], goes_on.observations[1])
    info = StepInfos(step)[1]
    assert (info["terminal_observation"] == goes_on.observations[1].numpy()).all()
    assert info["dice"] == float(endless._batch.state.dice[1])
    assert StepInfos(step)[0] == {}
    assert len(StepInfos(step)) == 3


def test_options_choose_the_rows_of_the_next_reset(bank: Bank) -> None:
    venv = TaskVecEnv(build_task("usrl/ContourRefine-v0", bank, {"observation": "image"}), 3)
    venv.set_options([{"index": 2}, {"index": 0}, {"index": 3}])
    assert (venv.reset()[:, 0] == bank.images[[2, 0, 3]].numpy()).all()
    venv.set_options({"index": 1})
    assert (venv.reset()[:, 0] == bank.images[1].numpy()).all()
    free = [venv.reset()[:, 0] for _ in range(4)]
    assert any((seen != bank.images[1].numpy()).any() for seen in free)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": 1}, "unknown reset option 'row'"),
        ([{"index": 1}, {}, {}], r"to all environments or to none, got .*'index': 1"),
        ({"index": 9}, "index must be from 0 to 3, got"),
    ],
)
def test_unusable_options_are_refused(bank: Bank, options: Any, message: str) -> None:
    venv = build(bank, 4)
    venv.set_options(options)
    with pytest.raises(UserError, match=message):
        venv.reset()
    venv.reset()


def test_a_seed_is_checked_where_it_is_given(bank: Bank) -> None:
    venv = build(bank, 4)
    with pytest.raises(UserError, match=r"a seed must be a whole number from 0 to .*, got -1"):
        venv.seed(-1)
    assert len(venv.seed()) == 3
    venv.reset()


def test_videos_have_the_speed_of_the_other_faces(bank: Bank) -> None:
    assert build(bank, 4).metadata == {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}


def test_credit_waits_for_an_episode(bank: Bank) -> None:
    venv = TaskVecEnv(build_task("usrl/ContourRefine-v0", bank, {}), 3)
    actions = torch.zeros(3, 64)
    with pytest.raises(UserError, match=r"no episode has begun; call reset\(\) before credit"):
        venv.credit(actions)
    venv.reset()
    assert venv.credit(actions).shape == (3, 64)


def test_pictures_come_as_one_array_and_in_no_window(bank: Bank) -> None:
    venv = TaskVecEnv(build_task("usrl/ContourRefine-v0", bank, {}), 3)
    with pytest.raises(UserError, match=r"no episode has begun; call reset\(\) before render"):
        venv.render()
    venv.reset()
    frame = venv.render()
    assert frame is not None
    assert frame.dtype == np.uint8
    with pytest.raises(UserError, match="has no window here; mode='rgb_array'"):
        venv.render("human")


def test_unusable_actions_are_refused(bank: Bank) -> None:
    venv = build(bank, 4)
    with pytest.raises(UserError, match="actions must be finite, got nan"):
        venv.step(np.full((3, 16), np.nan, np.float32))
    with pytest.raises(UserError, match=r"shape \(3, 16\), got \(3, 15\)"):
        venv.step_tensors(torch.zeros(3, 15))
