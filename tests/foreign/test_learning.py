"""Agents learn the foreign task: stock PPO, PPO on the device, and players that do not learn."""

import numpy as np
import pytest
import torch
from find_number import FindNumber, FindSettings, make_numbers
from stable_baselines3 import PPO

from usrl.agents.device_ppo import DevicePPO
from usrl.agents.players import (
    PolicyPlayer,
    RandomPlayer,
    TeacherPlayer,
    begin_evaluation,
    evaluate_player,
    play,
)
from usrl.envs.sb3 import TaskVecEnv

SETTINGS = {"n_steps": 32, "batch_size": 256, "gamma": 0.9, "seed": 0, "device": "cpu", "learning_rate": 3e-3}


def build(drift: float = 0.2, horizon: int = 8) -> FindNumber:
    return FindNumber(make_numbers(), FindSettings(drift=drift), horizon)


@pytest.mark.parametrize("algorithm", [PPO, DevicePPO])
def test_an_agent_of_dictionary_observations_learns_to_find_the_number(algorithm: type[PPO]) -> None:
    task = build(horizon=20)
    model = algorithm("MultiInputPolicy", TaskVecEnv(task, 16), **SETTINGS)  # type: ignore[arg-type]
    before = evaluate_player(task, PolicyPlayer(model.policy, task))
    model.learn(20_000)
    after = evaluate_player(task, PolicyPlayer(model.policy, task))
    assert after["score"] > max(0.95, before["score"] + 0.04)
    assert evaluate_player(task, RandomPlayer(task))["score"] < 0.9 < after["score"]


def test_rollouts_and_updates_over_ends_of_the_task_are_those_of_stock_ppo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "randperm", lambda count, device: torch.arange(count))
    settings = SETTINGS | {"batch_size": 11 * 3, "n_steps": 11, "n_epochs": 2}
    stock, ours, masked = (
        algorithm("MultiInputPolicy", TaskVecEnv(build(), 3, seed=5), **settings)  # type: ignore[arg-type]
        for algorithm in (PPO, DevicePPO, DevicePPO)
    )
    batch = masked.env._batch  # type: ignore[union-attr]
    monkeypatch.setattr(batch, "_is_host_told", lambda: False)
    for model in (stock, ours, masked):
        torch.manual_seed(0)
        model.learn(2 * 33, log_interval=None)
    assert stock.rollout_buffer.episode_starts.sum() > 6  # type: ignore[attr-defined]
    for name, value in stock.policy.state_dict().items():
        for model in (ours, masked):
            assert model.policy.state_dict()[name].numpy() == pytest.approx(value.numpy(), abs=1e-4), name


def test_the_teacher_finds_every_number_in_reach_and_stops() -> None:
    task = build(drift=0.0)
    played = play(task, TeacherPlayer(task), begin_evaluation(task))
    first, last = played.states[0], played.states[-1]
    away = (task.cases.target - first.place).abs()
    reached = task.figures(last)["found"] == 1
    assert torch.equal(reached, away <= 8)
    assert played.lengths.tolist() == (away + 1).clamp(max=8).tolist()
    # An episode that has ended keeps its last state.
    ends = torch.stack([state.is_stopped for state in played.states])
    assert (ends.long().diff(dim=0) >= 0).all()
    gain = task.figures(last)["score"] - task.figures(first)["score"]
    assert played.returns.numpy() == pytest.approx(gain.numpy(), abs=1e-6)


def test_random_players_do_the_same_in_any_batch() -> None:
    task = build()
    player = RandomPlayer(task)
    state = begin_evaluation(task)
    few = type(state)(*(getattr(state, name)[3:5] for name in vars(state)))
    whole, part = (player.act(None, each) for each in (state, few))
    assert torch.equal(whole[3:5], part)
    assert len(set(whole.tolist())) > 1


def test_figures_of_episodes_reach_the_log_of_a_callback() -> None:
    seen = []
    venv = TaskVecEnv(build(), 4)
    venv.reset()
    for _ in range(10):
        _, _, done, infos = venv.step(np.full(4, 3))
        seen += [info for info, ended in zip(infos, done, strict=True) if ended]
    assert len(seen) == 40  # every step stops
    assert set(seen[0]) == {"score", "found", "terminal_observation", "TimeLimit.truncated"}
    assert seen[0]["TimeLimit.truncated"] is False
