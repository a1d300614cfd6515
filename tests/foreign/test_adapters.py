"""A task that terminates, sees dictionaries, has chance within a step and no Dice, in every adapter."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from find_number import LEFT, RIGHT, STAY, STOP, FindNumber, FindSettings, make_numbers
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_sb3_env

from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.batch import Batch
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError
from usrl.registry import build_task

ENV_ID = "test/FindNumber-v0"
STEPS = 40


def build(horizon: int = 8) -> FindNumber:
    return FindNumber(make_numbers(), FindSettings(), horizon)


def random_actions(count: int) -> np.ndarray:
    """Stop now and then, so that episodes end one by one, by the task and by the limit."""
    return np.random.default_rng(0).choice(4, size=(STEPS, count), p=[0.4, 0.2, 0.3, 0.1])


def test_it_passes_both_checkers_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "no display for render_mode")
        check_env(gym.make(ENV_ID, render_mode="rgb_array").unwrapped)
        check_sb3_env(gym.make(ENV_ID))


def test_all_adapters_play_the_same_episodes_to_the_same_ends() -> None:
    count = 5
    singles = [gym.make(ENV_ID) for _ in range(count)]
    vector = gym.make_vec(ENV_ID, num_envs=count)
    sb3 = TaskVecEnv.make(ENV_ID, count, seed=3)
    seen = [env.reset(seed=3 + i)[0] for i, env in enumerate(singles)]
    by_vector, by_sb3 = vector.reset(seed=3)[0], sb3.reset()
    ends = {"terminated": 0, "truncated": 0}
    for actions in random_actions(count):
        for key in ("place", "hint"):
            stacked = np.stack([each[key] for each in seen])
            assert (stacked == by_vector[key]).all()
            assert (stacked == by_sb3[key]).all()  # type: ignore[call-overload]
        results = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        by_vector, rewards, terminated, truncated, info = vector.step(actions)
        by_sb3, sb3_rewards, done, infos = sb3.step(actions)
        assert rewards.tolist() == sb3_rewards.tolist() == [result[1] for result in results]
        assert terminated.tolist() == [result[2] for result in results]
        # Gymnasium's own limit also cuts an episode that the task ends in the same step.
        assert (terminated | truncated).tolist() == done.tolist() == [r[2] or r[3] for r in results]
        ends["terminated"] += int(terminated.sum())
        ends["truncated"] += int(truncated.sum())
        for row in np.flatnonzero(done):
            last = results[row][0]
            assert all((infos[row]["terminal_observation"][key] == last[key]).all() for key in last)
            assert infos[row]["TimeLimit.truncated"] == truncated[row]
            assert all((info["final_obs"][row][key] == last[key]).all() for key in last)
            assert info["final_info"]["score"][row] == results[row][4]["score"]
        seen = [env.reset()[0] if d else r[0] for env, r, d in zip(singles, results, done, strict=True)]
    assert min(ends.values()) > 5


def test_chance_within_a_step_is_the_same_whatever_the_batch() -> None:
    alone, among = gym.make(ENV_ID, drift=0.5), gym.make_vec(ENV_ID, num_envs=7, drift=0.5)
    alone.reset(seed=7)
    among.reset(seed=4)
    places = [[], []]  # type: ignore[var-annotated]
    for _ in range(6):
        places[0].append(float(alone.step(STAY)[0]["place"][0]))
        places[1].append(float(among.step(np.full(7, STAY))[0]["place"][3, 0]))
    assert places[0] == places[1]
    assert {round(step * 20) for step in np.diff(places[0])} == {0, 1}  # without and with the drift


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_every_restart_mode_plays_the_episodes_of_the_same_step_mode(mode: AutoresetMode) -> None:
    wanted, found = ([], []), ([], [])  # type: ignore[var-annotated]
    same = gym.make_vec(ENV_ID, num_envs=2)
    other = gym.make_vec(ENV_ID, num_envs=2, autoreset_mode=mode)
    assert other.metadata["autoreset_mode"] is mode
    script = {row: iter(random_actions(2)[:, row].tolist()) for row in range(2)}
    same.reset(seed=1)
    for actions in random_actions(2):
        _, rewards, terminated, truncated, _ = same.step(actions)
        for row in range(2):
            wanted[row].append((rewards[row], terminated[row], truncated[row]))
    other.reset(seed=1)
    ended = np.zeros(2, bool)
    while min(map(len, found)) < 25:
        if mode is AutoresetMode.DISABLED and ended.any():
            other.reset(options={"reset_mask": ended})
            ended = np.zeros(2, bool)
        actions = np.array([LEFT if ended[row] else next(script[row], STOP) for row in range(2)])
        _, rewards, terminated, truncated, _ = other.step(actions)
        for row in range(2):
            if ended[row]:  # NEXT_STEP: this step was the restart
                assert (rewards[row], terminated[row], truncated[row]) == (0, False, False)
            else:
                found[row].append((rewards[row], terminated[row], truncated[row]))
        ended = terminated | truncated
    for row in range(2):
        assert found[row][:25] == wanted[row][:25]


def test_restarts_by_mask_on_the_device_play_the_episodes_of_restarts_by_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, device = (Batch(build(), 6) for _ in range(2))
    monkeypatch.setattr(device, "_is_host_told", lambda: False)
    for batch in (host, device):
        batch.seed(range(6))
        batch.begin(np.arange(6))
    for actions in random_actions(6):
        ours, theirs = (batch.advance(torch.from_numpy(actions)) for batch in (device, host))
        assert isinstance(ours.ended, torch.Tensor)
        fetched = ours.fetch()
        assert fetched.ended.tolist() == theirs.ended.tolist()
        assert fetched.terminated.tolist() == theirs.terminated.tolist()
        for key in ("place", "hint"):
            assert torch.equal(ours.observations[key], theirs.observations[key])
            if len(theirs.ended):
                assert torch.equal(fetched.last_observations[key], theirs.last_observations[key])
        if len(theirs.ended):
            assert torch.equal(fetched.figures["score"], theirs.figures["score"])


@pytest.mark.parametrize("seeds", [[None] * 6, [None, 9, None, 9, None, None]])
def test_a_reset_after_restarts_on_the_device_goes_on_with_the_next_episodes(
    monkeypatch: pytest.MonkeyPatch, seeds: list[int | None]
) -> None:
    host, device = (Batch(build(), 6) for _ in range(2))
    monkeypatch.setattr(device, "_is_host_told", lambda: False)
    for batch in (host, device):
        batch.seed(range(6))
        batch.begin(np.arange(6))
        for actions in random_actions(6):
            batch.advance(torch.from_numpy(actions))
        batch.seed(seeds)
        batch.begin(np.array([1, 3, 4]))
    for actions in random_actions(6):
        ours, theirs = (batch.advance(torch.from_numpy(actions)) for batch in (device, host))
        for key in ("place", "hint"):
            assert torch.equal(ours.observations[key], theirs.observations[key])


def test_each_episode_that_ends_on_a_device_has_the_score_of_its_own_teacher() -> None:
    task = FindNumber(make_numbers().to("meta"), FindSettings(), 8)
    assert not Batch(task, 4)._is_host_told()
    # Restarts on the device would leave the score of the episode before.
    assert Batch(task, 4, with_oracle=True)._is_host_told()


def test_ends_on_a_device_are_not_read_on_the_host() -> None:
    task = FindNumber(make_numbers().to("meta"), FindSettings(), 8)
    batch = Batch(task, 4)
    batch.seed(range(4))
    batch.begin(np.arange(4))
    for _ in range(3):  # what reads a value of a tensor on `meta` raises
        step = batch.advance(torch.zeros(4, dtype=torch.int64, device="meta"))
    assert isinstance(step.ended, torch.Tensor)
    assert step.ended.shape == (4,)


def test_the_teacher_is_at_hand_in_every_adapter() -> None:
    single, vector, sb3 = gym.make(ENV_ID), gym.make_vec(ENV_ID, num_envs=2), TaskVecEnv.make(ENV_ID, 2)
    single.reset(seed=0), vector.reset(seed=0), sb3.reset()  # type: ignore[func-returns-value]
    action = single.unwrapped.oracle_action()  # type: ignore[attr-defined]
    assert single.action_space.contains(action)
    both = vector.unwrapped.oracle_action()  # type: ignore[attr-defined]
    assert both.tolist() == sb3.oracle_actions().tolist()
    assert both[0] == action


def test_cases_of_another_kind_are_refused_with_both_names() -> None:
    bank = Bank.from_samples(load_phantom(2, shape=(64, 64)), 64)
    with pytest.raises(UserError, match="test/FindNumber-v0 is about numbers, got cases of images"):
        gym.make(ENV_ID, cases=bank)
    with pytest.raises(UserError, match="usrl/ContourRefine-v0 is about images, got cases of numbers"):
        gym.make("usrl/ContourRefine-v0", cases=make_numbers())


class Structured(FindNumber):
    """Takes its move and its stop as parts of one action."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        parts = (gym.spaces.Box(-1, 1, (), np.float32), gym.spaces.Discrete(2))
        self.action_space = gym.spaces.Dict({"move": parts[0], "flags": gym.spaces.Tuple([parts[1]])})

    def step(self, state: Any, action: Any) -> Any:
        move = 1 + action["move"].sign().long()
        return super().step(state, torch.where(action["flags"][0] == 1, STOP, move))


def test_actions_may_be_dictionaries_and_tuples() -> None:
    task, plain = Structured(make_numbers(), FindSettings(), 8), build()
    batch, other = Batch(task, 2), Batch(plain, 2)
    vector = TaskVecEnv(task, 2)
    for each in (batch, other):
        each.seed([0, 1])
        each.begin(np.arange(2))
    vector.seed(0)
    vector.reset()
    given = {"move": [0.5, -0.5], "flags": (np.array([0, 1]),)}
    rewards = vector.step(given)[1]  # type: ignore[arg-type]
    assert rewards.tolist() == other.step(torch.tensor([RIGHT, STOP])).tolist()
    for wrong, message in (
        ({"move": [0.5, 0.5]}, "keys 'flags', 'move'"),
        ({"move": [0.5, 0.5], "flags": ()}, "tuple of 1 parts"),
        ({"move": [0.5], "flags": ([0, 1],)}, r"shape \(2,\), got \(1,\)"),
    ):
        with pytest.raises(UserError, match=message):
            vector.step(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"env_id": "NoNamespace-v0"}, "must be namespace/Name-vN"),
        ({"env_id": ENV_ID}, "registered already; choose another name"),
        ({"env_id": "test/Other-v0", "max_episode_steps": None}, "missing .*max_episode_steps"),
        (
            {"env_id": "test/Other-v0", "steps": 3},
            "unexpected keyword argument 'steps'; register\\(\\) takes task",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused(row: dict[str, Any], message: str) -> None:
    import usrl

    given = {"task": FindNumber, "max_episode_steps": 3} | row
    if given["max_episode_steps"] is None:
        del given["max_episode_steps"]
    with pytest.raises(UserError, match=message):
        usrl.register(**given)


def test_a_task_without_teacher_or_pictures_says_so() -> None:
    class Bare:
        def __init__(self, task: FindNumber) -> None:
            self._task = task

        def __getattr__(self, name: str) -> Any:
            if name in ("oracle_action", "render"):
                raise AttributeError(name)
            return getattr(self._task, name)

    venv = TaskVecEnv(Bare(build()), 2)  # type: ignore[arg-type]
    venv.reset()
    with pytest.raises(UserError, match=r"Bare has no teacher; give it an oracle_action\(state\)"):
        venv.oracle_actions()
    with pytest.raises(UserError, match="Bare draws no pictures"):
        venv.get_images()


def test_a_registered_environment_is_built_by_its_id() -> None:
    assert isinstance(build_task(ENV_ID, make_numbers(), {"drift": 0.5}), FindNumber)
    with pytest.raises(UserError, match="drift: Input should be less than or equal to 1"):
        build_task(ENV_ID, make_numbers(), {"drift": 1.5})
