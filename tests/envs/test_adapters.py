"""Every registered environment through every face."""

import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import usrl
from usrl.data.bank import Bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError
from usrl.registry import IMAGES, REGISTRY, build_task

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
IDS = list(REGISTRY)


def make(env_id: str, cases: Any, **settings: Any) -> gym.Env[Any, Any]:
    return gym.make(env_id, cases=cases, **settings)


@pytest.mark.parametrize("env_id", IDS)
def test_environments_pass_gymnasiums_checker_without_warnings(env_id: str, cases: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "no display for render_mode")  # the checker opens windows too
        # Gymnasium says so of all versions but the last.
        warnings.filterwarnings("ignore", ".* is out of date")
        check_env(make(env_id, cases, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("observation", ["profile", "image"])
def test_contour_refinement_passes_sb3s_checker_without_warnings(
    observation: str, version: str, bank: Bank
) -> None:
    env = make(f"usrl/ContourRefine-{version}", bank, observation=observation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sb3_env(env)


@pytest.mark.parametrize("env_id", IDS)
def test_environments_are_made_without_any_argument(env_id: str) -> None:
    env = gym.make(env_id)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert "score" in info


def rollout(env: gym.Env[Any, Any], seed: int, steps: int) -> list[tuple[Any, ...]]:
    """Return what an environment gives under actions of its own seeded space."""
    env.action_space.seed(0)
    rows = [env.reset(seed=seed)]
    for _ in range(steps):
        step = env.step(env.action_space.sample())
        rows.append(step)
        if step[2] or step[3]:
            rows.append(env.reset())
    return rows


@pytest.mark.parametrize("env_id", IDS)
def test_two_environments_of_one_seed_agree_exactly(env_id: str, cases: Any) -> None:
    first, second = (rollout(make(env_id, cases), 7, 25) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one[0] == other[0]).all()
        assert one[1:] == other[1:]
    assert (rollout(make(env_id, cases), 9, 1)[0][0] != first[0][0]).any()


@pytest.mark.parametrize("env_id", IDS)
def test_a_pickled_environment_goes_on_as_the_original(env_id: str, cases: Any) -> None:
    env = make(env_id, cases)
    env.reset(seed=1)
    action = env.action_space.sample()
    copy = pickle.loads(pickle.dumps(env))
    one, other = env.step(action), copy.step(action)
    assert (one[0] == other[0]).all()
    assert one[1:] == other[1:]


def test_a_pickled_contour_environment_holds_images_and_masks_and_no_tables(bank: Bank) -> None:
    env = make("usrl/ContourRefine-v0", bank, reward="dice+boundary", proposal="target")
    env.reset(seed=1)
    env.step(env.action_space.sample())
    assert len(pickle.dumps(env)) < len(pickle.dumps(bank)) + 200_000


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("env_id", IDS)
def test_all_faces_play_the_same_episodes_from_the_same_seed(env_id: str, device: str, cases: Any) -> None:
    count, steps = 3, 23
    near = 1e-5 if device == "cpu" else 2e-3  # an edge may round to the next cell of the target
    singles = [make(env_id, cases) for _ in range(count)]
    vector = gym.make_vec(env_id, num_envs=count, cases=cases, device=device)
    sb3 = TaskVecEnv(build_task(env_id, cases.to(device), {}), count, seed=11)
    seen = [env.reset(seed=11 + i)[0] for i, env in enumerate(singles)]
    batches = [vector.reset(seed=11)[0], sb3.reset()]
    vector.action_space.seed(0)
    for _ in range(steps):
        for batch in batches:
            assert np.mean(np.stack(seen) != batch) < 2e-3  # a read may round to the next pixel
        actions = vector.action_space.sample()
        results = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        by_vector, by_sb3 = vector.step(actions), sb3.step(actions)
        rewards = [result[1] for result in results]
        assert by_vector[1] == pytest.approx(rewards, abs=near)
        assert by_sb3[1] == pytest.approx(rewards, abs=near)
        assert by_vector[2].tolist() == [result[2] for result in results]
        assert by_vector[3].tolist() == [result[3] for result in results]
        ended = [result[2] or result[3] for result in results]
        assert by_sb3[2].tolist() == ended
        seen = [
            env.reset()[0] if done else r[0] for env, r, done in zip(singles, results, ended, strict=True)
        ]
        batches = [by_vector[0], by_sb3[0]]


def test_a_vector_restarts_in_the_same_step_and_keeps_the_last_observation(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank, max_episode_steps=3)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    vector.reset(seed=0)
    for step in range(1, 7):
        observation, _, terminated, truncated, info = vector.step(vector.action_space.sample())
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step % 3 == 0)
        assert ("final_obs" in info) == (step % 3 == 0)
    assert info["_final_obs"].all()
    assert (info["final_obs"][0] != observation[0]).any()
    assert (info["final_info"]["initial_dice"] != info["initial_dice"]).any()
    assert (info["dice"] == info["initial_dice"]).all()


@pytest.mark.parametrize("env_id", IDS)
def test_what_is_written_into_the_info_of_a_vector_changes_no_reward(env_id: str, cases: Any) -> None:
    rewards = []
    for scale in (1, 0):
        vector = gym.make_vec(env_id, num_envs=2, cases=cases)
        _, info = vector.reset(seed=0)
        for values in info.values():
            if values.dtype == np.float32:
                values *= scale
        vector.action_space.seed(0)
        rewards.append(vector.step(vector.action_space.sample())[1])
    np.testing.assert_array_equal(*rewards)


def test_environments_of_a_vector_restart_one_by_one(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank, max_episode_steps=4)
    vector.reset(seed=0)
    batch = vector.unwrapped._batch  # type: ignore[attr-defined]
    batch.elapsed[1] = 2
    truncated = [vector.step(np.zeros((2, 64), np.float32))[3].tolist() for _ in range(4)]
    assert truncated == [[False, False], [False, True], [False, False], [True, False]]


def test_sb3_gets_the_last_observation_and_figures_of_an_episode(bank: Bank) -> None:
    venv = TaskVecEnv(build_task("usrl/ContourRefine-v0", bank, {}, horizon=2), 2)
    venv.reset()
    venv.step(np.zeros((2, 64), np.float32))
    _, _, done, infos = venv.step(np.zeros((2, 64), np.float32))
    assert done.all()
    assert infos[0]["TimeLimit.truncated"] is True
    assert infos[0]["terminal_observation"].shape == (3, 64, 40)
    assert infos[0]["dice"] == infos[0]["initial_dice"]


def test_max_episode_steps_sets_the_limit_and_the_time_left(bank: Bank) -> None:
    env = gym.make("usrl/ContourRefine-v0", cases=bank, observation="image", max_episode_steps=2, horizon=2)
    env.reset(seed=0)
    observation, _, _, truncated, _ = env.step(np.zeros(64, np.float32))
    assert not truncated
    assert int(observation[2, 0, 0]) == 127
    assert env.step(np.zeros(64, np.float32))[3]


def test_a_limit_beyond_the_horizon_is_warned_of_once(bank: Bank) -> None:
    env = gym.make("usrl/ContourRefine-v0", cases=bank, max_episode_steps=4, horizon=2)
    action = np.zeros(64, np.float32)
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.step(action), env.step(action)
    with pytest.warns(UserWarning, match="after 2 steps, .*same number as horizon and as max_episode_steps"):
        env.step(action)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.step(action)
        env.reset()
        for _ in range(4):
            env.step(action)


def test_reset_can_choose_the_row_of_the_bank(bank: Bank) -> None:
    env = make("usrl/ContourRefine-v0", bank, observation="image")
    observation, _ = env.reset(seed=0, options={"index": 4})
    assert (observation[0] == bank.images[4].numpy()).all()
    with pytest.raises(UserError, match="index must be from 0 to 5, got 6"):
        env.reset(options={"index": 6})
    with pytest.raises(UserError, match=r"index must be a whole number or a list of 1, got 1\.7"):
        env.reset(options={"index": 1.7})
    with pytest.raises(UserError, match=r"index must be a whole number or a list of 1, got \[1, 2\]"):
        env.reset(options={"index": [1, 2]})
    with pytest.raises(UserError, match="unknown reset option 'row'"):
        env.reset(options={"row": 1})


def test_oracle_info_tells_what_the_teacher_reaches(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=4, cases=bank, oracle_info=True)
    _, info = vector.reset(seed=0)
    assert (info["oracle_score"] > info["initial_dice"]).all()


def test_rendering_draws_contour_and_target(bank: Bank) -> None:
    env = make("usrl/ContourRefine-v0", bank, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert isinstance(before, np.ndarray)
    assert before.dtype == np.uint8
    for color in ((0, 158, 115), (86, 180, 233)):
        assert (before == color).all(axis=2).any()
    env.step(np.ones(64, np.float32))
    assert (env.render() != before).any()
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank, render_mode="rgb_array")
    vector.reset(seed=0)
    frames = vector.render()
    assert frames is not None
    assert (frames[0] == before).all()


def test_human_rendering_shows_every_step_and_closes(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    pauses: list[float] = []
    monkeypatch.setattr(plt, "pause", pauses.append)
    env = make("usrl/ContourRefine-v0", bank, render_mode="human")
    with pytest.warns(UserWarning, match='no display for render_mode="human".*"rgb_array" returns pictures'):
        env.reset(seed=0)
    env.step(np.zeros(64, np.float32))
    assert len(pauses) == 2
    env.close()
    assert not plt.get_fignums()


def test_rendering_without_a_mode_warns_as_gymnasiums_environments_do(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    for env in (make("usrl/ContourRefine-v0", bank), vector):
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="returns nothing without a render mode"):
            assert env.render() is None


def test_rendering_before_the_first_reset_is_refused(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank, render_mode="rgb_array")
    for env in (make("usrl/ContourRefine-v0", bank, render_mode="rgb_array").unwrapped, vector):
        with pytest.raises(UserError, match=r"no episode has begun; call reset\(\) before render"):
            env.render()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((2, 63), np.float32), "shape .2, 64., got .2, 63."),
        (np.full((2, 64), np.nan), "finite, got nan"),
        ([[0.0] * 64, [0.0] * 63], "an array of numbers on the host, got"),
        ("left", "an array of numbers on the host, got 'left'"),
    ],
)
def test_unusable_actions_are_refused(bank: Bank, actions: Any, message: str) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    vector.reset(seed=0)
    with pytest.raises(UserError, match=message):
        vector.step(actions)


def as_read_only(actions: np.ndarray) -> np.ndarray:
    actions = actions.copy()
    actions.setflags(write=False)
    return actions


@pytest.mark.parametrize(
    "convert",
    [np.ndarray.tolist, lambda actions: np.flip(np.flip(actions).copy()), as_read_only, torch.from_numpy],
    ids=["lists", "negative strides", "read only", "tensors"],
)
@pytest.mark.parametrize("env_id", IDS)
def test_every_face_takes_actions_of_any_form(env_id: str, convert: Any, cases: Any) -> None:
    env, vector = make(env_id, cases), gym.make_vec(env_id, num_envs=2, cases=cases)
    sb3 = TaskVecEnv(build_task(env_id, cases, {}), 2)
    actions = np.stack([env.action_space.sample(), env.action_space.sample()])

    def rewards(one: Any, both: Any) -> list[float]:
        env.reset(seed=0), vector.reset(seed=0), sb3.seed(0), sb3.reset()  # type: ignore[func-returns-value]
        return [env.step(one)[1], *vector.step(both)[1], *sb3.step(both)[1]]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rewards(convert(actions)[0], convert(actions)) == rewards(actions[0], actions)


@pytest.mark.parametrize("is_vector", [False, True])
def test_settings_may_be_numbers_of_numpy(bank: Bank, is_vector: bool) -> None:
    settings = {"vertices": np.int64(32), "step_px": np.float32(2), "jitter": np.float64(0.1)}
    env_id = "usrl/ContourRefine-v0"

    def first_step(given: dict[str, Any], count: Any) -> np.ndarray:
        env = (
            gym.make_vec(env_id, num_envs=count, cases=bank, **given)
            if is_vector
            else make(env_id, bank, **given)
        )
        env.reset(seed=0)
        return env.step(np.ones(env.action_space.shape, np.float32))[0]  # type: ignore[arg-type]

    wanted = first_step({"vertices": 32, "step_px": 2.0, "jitter": 0.1}, 2)
    assert (first_step(settings, np.int64(2)) == wanted).all()
    with pytest.raises(UserError, match=r"vertices: Input should be a valid integer, got 32\.0"):
        first_step({"vertices": np.float64(32)}, 2)


def test_seeds_may_be_of_any_integer_type(bank: Bank) -> None:
    env = make("usrl/ContourRefine-v0", bank)
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    sb3 = TaskVecEnv(build_task("usrl/ContourRefine-v0", bank, {}), 2, seed=np.int64(3))
    wanted = [env.reset(seed=seed)[0] for seed in (3, 4)]
    assert (env.reset(seed=np.int64(3))[0] == wanted[0]).all()  # type: ignore[arg-type]
    for seed in (3, np.int64(3), np.array(3), [3, 4], (np.int32(3), 4), np.array([3, 4])):
        assert (vector.reset(seed=seed)[0] == np.stack(wanted)).all()  # type: ignore[arg-type]
    assert (sb3.reset() == np.stack(wanted)).all()


def test_an_environment_of_a_vector_whose_seed_is_none_goes_on_from_the_one_it_has(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    ours, kept = make("usrl/ContourRefine-v0", bank), make("usrl/ContourRefine-v0", bank)
    vector.reset(seed=3)
    kept.reset(seed=4)
    seen = vector.reset(seed=[8, None])[0]  # type: ignore[arg-type]
    assert (seen[0] == ours.reset(seed=8)[0]).all()
    assert (seen[1] == kept.reset()[0]).all()
    fresh = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    assert (fresh.reset(seed=[None, 8])[0][1] == seen[0]).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ([1, 2, 3], "2 environments need 2 seeds or a single one, got 3"),
        ([1], "2 environments need 2 seeds or a single one, got 1"),
        ([1, "2"], "a seed must be a whole number from 0 to .*, got '2'"),
        (1.5, "a seed must be a whole number from 0 to .*, got 1.5"),
        (-1, "a seed must be a whole number from 0 to .*, got -1"),
        (2**70, "a seed must be a whole number from 0 to .*, got 11805"),
    ],
)
def test_unusable_seeds_are_refused(bank: Bank, seed: Any, message: str) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    with pytest.raises(UserError, match=message):
        vector.reset(seed=seed)
    if not isinstance(seed, list):
        with pytest.raises(UserError, match=message):
            make("usrl/ContourRefine-v0", bank).reset(seed=seed)


@pytest.mark.filterwarnings("ignore:.*The environment is being initialised with render_mode")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "foo"}, "device must be auto, cpu, cuda or cuda:N, got 'foo'"),
        ({"device": "cuda:99"}, "device cuda:99: found .* CUDA devices; use device auto or cpu"),
        ({"render_mode": "ansi"}, "render_mode must be None or one of .*'rgb_array'.*, got 'ansi'"),
    ],
)
@pytest.mark.parametrize("is_vector", [False, True])
def test_arguments_that_no_face_can_follow_are_refused(
    bank: Bank, settings: dict[str, Any], message: str, is_vector: bool
) -> None:
    def make_face() -> object:
        env_id = "usrl/ContourRefine-v0"
        if is_vector:
            return gym.make_vec(env_id, num_envs=2, cases=bank, **settings)
        return gym.make(env_id, cases=bank, **settings)

    with pytest.raises(UserError, match=message):
        make_face()


@pytest.mark.parametrize("env_id", [env_id for env_id in IDS if REGISTRY[env_id].cases == IMAGES])
def test_a_bank_with_a_target_without_a_pixel_is_refused(env_id: str, bank: Bank) -> None:
    targets = bank.targets.clone()
    targets[4] = False
    faulty = replace(bank, targets=targets)
    message = f"1 of the bank's 6 rows have none, the first is row 4 .{bank.names[4]}.; leave them out"
    with pytest.raises(UserError, match=message):
        make(env_id, faulty)
    with pytest.raises(UserError, match=message):
        gym.make_vec(env_id, num_envs=2, cases=faulty)
    with pytest.raises(UserError, match=message):
        TaskVecEnv(build_task(env_id, faulty, {}), 2)


def test_what_is_no_bank_is_refused() -> None:
    with pytest.raises(UserError, match=r"cases must be a usrl\.Bank or None, got a list; Bank\.from_arrays"):
        make("usrl/ContourRefine-v0", [])  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -3, 2.5])
def test_step_limits_are_positive_numbers(bank: Bank, limit: Any) -> None:
    message = f"must be a whole number from 1 on, got {limit}"
    with pytest.raises(UserError, match=message):
        make("usrl/ContourRefine-v0", bank, horizon=limit)
    with pytest.raises(UserError, match=message):
        gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank, max_episode_steps=limit)


def test_a_vector_has_no_window(bank: Bank) -> None:
    with pytest.raises(UserError, match=r"got 'human'; a window shows one environment, of gym\.make"):
        gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank, render_mode="human")


def test_a_step_before_the_first_reset_is_refused(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    with pytest.raises(UserError, match=r"no episode has begun; call reset\(\) before step"):
        vector.step(np.zeros((2, 64), np.float32))


def test_the_step_limit_is_registered() -> None:
    assert usrl.__version__
    spec = gym.spec("usrl/ContourRefine-v0")
    assert spec.max_episode_steps == 10
    assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("make_face", "name", "message"),
    [
        (gym.make, "oracleinfo", "unexpected keyword argument 'oracleinfo'; did you mean 'oracle_info'"),
        (gym.make, "vertexes", "unexpected keyword argument 'vertexes'; did you mean 'vertices'"),
        (
            gym.make_vec,
            "horizon",
            "unexpected keyword argument 'horizon'; known names: .*max_episode_steps, .*vertices",
        ),
    ],
)
def test_a_misspelt_argument_is_suggested_among_those_of_face_and_environment(
    make_face: Any, name: str, message: str, bank: Bank
) -> None:
    with pytest.raises(UserError, match=message):
        make_face("usrl/ContourRefine-v0", cases=bank, **{name: 20})


FORKED = """
import gymnasium as gym
import numpy as np
import torch

import usrl

env_id = "{env_id}"
torch.rand(1000, 1000) @ torch.rand(1000, 1000)  # begins the threads that a fork would wait for
dice = []
for mode in ("sync", "async"):
    vector = gym.make_vec(env_id, num_envs=2, vectorization_mode=mode)
    vector.reset(seed=3)
    vector.action_space.seed(0)
    dice.append(vector.step(vector.action_space.sample())[4]["score"])
    vector.close()
np.testing.assert_array_equal(*dice)
"""
FORKED_BATCHES = """
import multiprocessing

import gymnasium as gym
import numpy as np
import torch

import usrl
from usrl.envs.sb3 import TaskVecEnv
from usrl.data.phantom.dataset import default_bank
from usrl.registry import build_task

task = build_task("usrl/ContourRefine-v0", default_bank(), dict(vertices=256))


def step_vector():
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=64, vertices=256)
    vector.reset(seed=0)
    vector.step(vector.action_space.sample())


def step_venv():
    venv = TaskVecEnv(task, 64)
    venv.reset()
    venv.step(np.zeros((64, 256)))


step_vector()  # begins the threads that a fork would wait for
for work in (step_vector, step_venv):
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    hangs = process.is_alive()
    process.kill()
    assert not hangs, work
    assert process.exitcode == 0, work
"""


@pytest.mark.parametrize("env_id", IDS)
def test_environments_in_forks_do_not_wait_for_the_threads_of_their_parent(env_id: str) -> None:
    script = FORKED.format(env_id=env_id)
    threads = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, env=threads)


def test_vectors_in_forks_do_not_wait_for_the_threads_of_their_parent() -> None:
    threads = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", FORKED_BATCHES], check=True, timeout=150, env=threads)


def test_an_unknown_keyword_is_a_type_error_too_as_other_libraries_expect() -> None:
    # TorchRL tries `frameskip` and goes on without it after this very error.
    for make_adapter in (gym.make, gym.make_vec):
        with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
            make_adapter("usrl/ContourRefine-v0", frameskip=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": True}, "num_envs must be a whole number from 1 to .*, got True"),
        ({"num_envs": 10**12}, "num_envs must be a whole number from 1 to .*, got 1000000000000"),
        ({"num_envs": 2**63}, "num_envs must be a whole number from 1 to"),
        ({"oracle_info": "yes"}, "oracle_info must be True or False, got 'yes'"),
        ({"render_mode": 3}, "render_mode must be None or one of .*, got 3"),
        ({"render_mode": np.zeros(3)}, "render_mode must be None or one of"),
        ({"layout": "nhwc"}, "layout must be 'chw' or 'hwc', got 'nhwc'"),
        ({"dtype": np.float32}, "dtype must be 'uint8' or 'float32', got"),
        (
            {"autoreset_mode": "never"},
            "autoreset_mode must be one of .*NEXT_STEP, .*, got 'never'",
        ),
        ({"max_episode_steps": True}, "step limit .* must be a whole number from 1 on, got True"),
        ({"max_episode_steps": 2**63}, "step limit .* must be a whole number from 1 on"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*The environment is being initialised with render_mode")
def test_arguments_of_another_type_or_without_bounds_are_refused(
    arguments: dict[str, Any], message: str, bank: Bank
) -> None:
    with pytest.raises(UserError, match=message):
        gym.make_vec("usrl/ContourRefine-v0", **{"num_envs": 2, "cases": bank} | arguments)


@pytest.mark.parametrize("options", [1, [0, 1], np.zeros(2), "index"])
def test_options_that_are_no_dictionary_are_refused(options: Any, bank: Bank) -> None:
    with pytest.raises(UserError, match="options must be a dictionary such as"):
        make("usrl/ContourRefine-v0", bank).unwrapped.reset(options=options)
    with pytest.raises(UserError, match="options must be a dictionary such as"):
        gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank).unwrapped.reset(options=options)


@pytest.mark.parametrize("index", [[[0], [1, 2]], [0, 1, 2], 1.5, "0", [True, False], -1, 6])
def test_an_index_that_names_no_case_of_each_environment_is_refused(index: Any, bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank)
    with pytest.raises(UserError, match="index must be"):
        vector.reset(options={"index": index})


def test_infos_of_one_environment_are_scalars_of_numpy(bank: Bank) -> None:
    env = make("usrl/ContourRefine-v0", bank)
    for info in (env.reset(seed=0)[1], env.step(env.action_space.sample())[4]):
        assert {type(value) for value in info.values()} == {np.float32}


def test_a_vector_says_its_restart_mode_as_metadata_and_as_attribute(bank: Bank) -> None:
    vector = gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank, autoreset_mode="NextStep")
    assert vector.unwrapped.autoreset_mode is vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP  # type: ignore[attr-defined]


def test_wrappers_that_want_restarts_in_the_next_step_take_the_vector(bank: Bank) -> None:
    from gymnasium.wrappers.vector import NormalizeObservation, RescaleObservation

    vector = gym.make_vec(
        "usrl/ContourRefine-v0", num_envs=2, cases=bank, autoreset_mode="NextStep", dtype="float32"
    )
    for wrapped in (NormalizeObservation(vector), RescaleObservation(vector, np.float32(-1), np.float32(1))):
        wrapped.reset(seed=0)
        for _ in range(12):
            seen = wrapped.step(wrapped.action_space.sample())[0]
            assert np.isfinite(seen).all()
            assert seen.std() > 0.1


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize(("layout", "dtype"), [("hwc", "uint8"), ("chw", "float32"), ("hwc", "float32")])
def test_layout_and_dtype_show_the_same_observations_in_every_adapter(
    env_id: str, layout: str, dtype: str, cases: Any
) -> None:
    view = {"layout": layout, "dtype": dtype}
    # The frames of a long clip, all in one observation, would take the checker a minute.
    settings = {"observation": "image", **({"frames": 20} if "Video" in env_id else {})}
    plain = gym.make_vec(env_id, num_envs=2, cases=cases, **settings)
    shown: Any = gym.make_vec(env_id, num_envs=2, cases=cases, **settings | view)
    single: Any = make(env_id, cases, **settings | view)
    sb3: Any = TaskVecEnv.make(env_id, 2, seed=4, cases=cases, **settings | view)  # type: ignore[arg-type]
    wanted = plain.reset(seed=4)[0]
    found = [shown.reset(seed=4)[0], sb3.reset()]
    if layout == "hwc":
        wanted = np.moveaxis(wanted, 1, 3)
    if dtype == "float32":
        wanted = wanted.astype(np.float32) / 255
    assert single.reset(seed=4)[0] == pytest.approx(wanted[0], abs=1e-6)
    for seen, space in zip(found, (shown.observation_space, None), strict=True):
        assert seen.dtype == dtype
        assert seen == pytest.approx(wanted, abs=1e-6)
        assert space is None or space.contains(seen)
    assert single.observation_space.contains(single.reset()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*image.*")  # SB3 wants its own layout for images
        warnings.filterwarnings("ignore", ".* is out of date")
        check_env(make(env_id, cases, **settings | view).unwrapped, skip_render_check=True)


def test_the_teacher_acts_through_both_gymnasium_adapters(bank: Bank) -> None:
    env, vector = (
        make("usrl/ContourRefine-v0", bank),
        gym.make_vec("usrl/ContourRefine-v0", num_envs=2, cases=bank),
    )
    env.reset(seed=5), vector.reset(seed=5)
    for _ in range(10):
        both = vector.unwrapped.oracle_action()  # type: ignore[attr-defined]
        action = env.unwrapped.oracle_action()  # type: ignore[attr-defined]
        assert (action == both[0]).all()
        assert env.action_space.contains(action)
        info = env.step(action)[4]
        vector.step(both)
    assert info["dice"] > 0.95
