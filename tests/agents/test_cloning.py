"""Cloning the teacher: what is learned, on whose states, and what a run of it holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from usrl.agents.cloning import Cloning
from usrl.agents.policies import ContourPolicy
from usrl.agents.recipe import AgentRecipe
from usrl.agents.training import train_agent
from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError
from usrl.registry import build_task
from usrl.runs.recipes import dump_recipe
from usrl.runs.run import create_run
from usrl.runs.tensors import load_tensors

CPU = torch.device("cpu")
SETTINGS = {"n_steps": 10, "batch_size": 40, "n_epochs": 1, "learning_rate": 1e-3}


@pytest.fixture
def cloning_recipe(recipe: AgentRecipe) -> AgentRecipe:
    return recipe.model_copy(update={"algorithm": "bc", "hyperparameters": dict(SETTINGS)})


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.from_samples(load_phantom(8, seed=3), 64)


def build(bank: Bank, venv: type[TaskVecEnv] = TaskVecEnv, **settings: object) -> Cloning:
    model = Cloning(
        ContourPolicy,
        venv(build_task("usrl/ContourRefine-v0", bank, {}), 8, seed=0),
        seed=0,
        device="cpu",
        policy_kwargs={"width": 16, "layers": 2},
        **(SETTINGS | settings),  # type: ignore[arg-type]
    )
    model.set_logger(configure(None, []))
    return model


class Played(BaseCallback):
    """Keeps what was played and what the teacher would have played, one pair a step."""

    def __init__(self) -> None:
        super().__init__()
        self.played: list[np.ndarray] = []
        self.taught: list[np.ndarray] = []

    def _on_step(self) -> bool:
        self.played.append(self.locals["played"])
        self.taught.append(self.locals["taught"])
        return True


def follow(model: Cloning, steps: int) -> np.ndarray:
    """Return which environments followed the teacher in each step, bool, (steps, B)."""
    seen = Played()
    model.learn(steps * 8, callback=seen)
    pairs = zip(seen.played, seen.taught, strict=True)
    return np.stack([(played == taught).all(axis=1) for played, taught in pairs])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_steps", 0, "n_steps: Input should be greater than 0, got 0"),
        ("n_epochs", -2, "n_epochs: Input should be greater than 0, got -2"),
        ("batch_size", 0, "batch_size: Input should be greater than 0, got 0"),
        ("gamma", 1.5, "gamma: Input should be less than or equal to 1, got 1.5"),
        ("huber_delta", 0.0, "huber_delta: Input should be greater than 0, got 0.0"),
        ("teacher_share", 50, "teacher_share must be from 0 to 1, or lin_X with X from 0 to 1, got 50"),
        ("mixed_by", "steps", "hyperparameters: mixed_by: unknown value 'steps'; did you mean 'step'"),
        ("teacher_share", "all", "teacher_share must be from 0 to 1, .* got 'all'"),
        ("teacher_share", LinearSchedule(2.0, 0.0, 1.0), "teacher_share must be from 0 to 1, .* got Linear"),
    ],
)
def test_numbers_out_of_range_are_refused(bank: Bank, name: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(bank, **{name: value})


def test_the_buffer_holds_the_teachers_action_whoever_acts(bank: Bank) -> None:
    model = build(bank, teacher_share=0.0)
    seen = Played()
    model.learn(80, callback=seen)
    held = model.rollout_buffer.swap_and_flatten(np.stack(seen.taught))
    assert np.array_equal(np.sort(held, axis=0), np.sort(model.rollout_buffer.actions, axis=0))


def test_the_share_says_who_acts_and_an_episode_has_one_actor(bank: Bank) -> None:
    assert follow(build(bank, teacher_share=1.0), 20).all()
    assert not follow(build(bank, teacher_share=0.0), 20).any()
    half = follow(build(bank, teacher_share=0.5), 200).reshape(20, 10, 8)
    assert (half.all(axis=1) | ~half.any(axis=1)).all()
    assert 0.3 < half.mean() < 0.7


def test_by_steps_teacher_and_policy_take_turns_within_an_episode(bank: Bank) -> None:
    half = follow(build(bank, teacher_share=0.5, mixed_by="step"), 200).reshape(20, 10, 8)
    assert ((half.mean(axis=1) > 0) & (half.mean(axis=1) < 1)).mean() > 0.95
    assert 0.45 < half.mean() < 0.55
    assert follow(build(bank, teacher_share=1.0, mixed_by="step"), 20).all()


def test_a_clone_of_discrete_actions_learns_what_the_teacher_does(bank: Bank) -> None:
    settings = {"grid": 1, "action": "raster"}
    venv = TaskVecEnv(build_task("usrl/ThresholdSelect-v0", bank, settings), 16, seed=0)
    steps = {"n_steps": 10, "batch_size": 32, "n_epochs": 4, "learning_rate": 2e-3}
    model = Cloning(
        "CnnPolicy",
        venv,
        seed=0,
        device="cpu",
        policy_kwargs={"features_extractor_kwargs": {"features_dim": 32}},
        **steps,
    )
    model.set_logger(configure(None, []))

    def agreement() -> float:
        seen = venv.reset()
        actions, _ = model.predict(seen, deterministic=True)
        return float((actions == venv.oracle_actions()).mean())

    before = agreement()
    model.learn(1600)
    assert agreement() > before + 0.3


def test_a_share_that_falls_ends_with_the_policy(bank: Bank) -> None:
    fell = follow(build(bank, teacher_share=lambda left: left), 200).reshape(20, 10, 8).mean(axis=(1, 2))
    assert fell[:5].mean() > 0.65
    assert fell[-5:].mean() < 0.35


class OneAStep(TaskVecEnv):
    """Pays 1 in every step."""

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = super().step_wait()
        return observations, np.ones_like(rewards), dones, infos


def test_the_value_of_one_a_step_is_that_of_a_geometric_series(bank: Bank) -> None:
    model = build(bank, venv=OneAStep, gamma=0.5, learning_rate=3e-3, n_epochs=4)
    model.learn(3200)
    assert model.rollout_buffer.values.mean() == pytest.approx(2.0, abs=0.1)  # 1 / (1 - gamma)


def test_without_its_weight_the_critic_stays_as_it_was(bank: Bank) -> None:
    model = build(bank, vf_coef=0.0)
    before = model.policy.value_net.weight.detach().clone()
    model.learn(160)
    assert torch.equal(model.policy.value_net.weight, before)


def test_the_standard_deviation_is_not_trained(bank: Bank) -> None:
    model = build(bank)
    before = model.policy.log_std.detach().clone()
    model.learn(160)
    assert torch.equal(model.policy.log_std, before)


def test_a_clone_fits_the_phantom_better_than_its_proposal(cloning_recipe: AgentRecipe, out: Path) -> None:
    view = {"scale": "proposal", "observation": "profile+start"}
    hyperparameters = SETTINGS | {"teacher_share": "lin_1", "learning_rate": "lin_3e-3"}
    longer = {"hyperparameters": hyperparameters, "total_steps": 8000, "evaluate_every": 2000}
    longer["env"] = cloning_recipe.env.model_copy(update={"kwargs": view})
    run = create_run(out, cloning_recipe.model_copy(update=longer))
    train_agent(run, CPU)
    rows = run.read_log()
    assert max(row["val_score"] for row in rows) > rows[0]["val_initial_dice"] + 0.02
    assert rows[0].keys() | {"train_dice", "steps_per_second"} <= rows[-1].keys() | rows[0].keys()


def test_a_clones_run_resumes_where_it_was_cut(cloning_recipe: AgentRecipe, out: Path) -> None:
    train_agent(create_run(out, cloning_recipe.model_copy(update={"total_steps": 160})), CPU)
    (out / "recipe.yaml").write_text(dump_recipe(cloning_recipe))
    run = create_run(out, cloning_recipe, resume=True)
    before = load_tensors(run.checkpoint_path)[0]
    train_agent(run, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [0, 160, 320]
    after = load_tensors(run.checkpoint_path)[0]
    steps = [name for name in after if name.endswith(".step")]
    assert steps
    assert all(after[name] == 2 * before[name] for name in steps)


def test_two_clonings_of_one_seed_agree(cloning_recipe: AgentRecipe, tmp_path: Path) -> None:
    runs = [create_run(tmp_path / name, cloning_recipe) for name in "ab"]
    for run in runs:
        train_agent(run, CPU)
    one, other = (load_tensors(run.checkpoint_path)[0] for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"teachershare": 0.5}, "bc has no 'teachershare'; did you mean 'teacher_share'"),
        ({"clip_range": 0.1}, "bc has no 'clip_range'"),
        ({"loss": "hubber"}, "loss: unknown name 'hubber'; did you mean 'huber'"),
    ],
)
def test_hyperparameters_that_cloning_lacks_are_refused(
    cloning_recipe: AgentRecipe, out: Path, hyperparameters: dict[str, object], message: str
) -> None:
    wrong = cloning_recipe.model_copy(update={"hyperparameters": SETTINGS | hyperparameters})
    with pytest.raises(UserError, match=message):
        train_agent(create_run(out, wrong), CPU)


def test_a_clone_that_sb3_saved_is_loaded_and_goes_on(bank: Bank, tmp_path: Path) -> None:
    model = build(bank).learn(80)
    model.save(tmp_path / "clone")
    loaded = Cloning.load(tmp_path / "clone", env=model.get_env(), device="cpu")
    assert all(
        torch.equal(old, new)
        for old, new in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True)
    )
    assert loaded.learn(80, reset_num_timesteps=False).num_timesteps == 160


def test_an_environment_without_a_teacher_is_refused() -> None:
    model = Cloning("MlpPolicy", DummyVecEnv([_pendulum]), n_steps=10, batch_size=10, device="cpu")
    with pytest.raises(UserError, match="learns from the teacher of a task, got a DummyVecEnv"):
        model.learn(10)


def _pendulum():  # type: ignore[no-untyped-def]
    import gymnasium

    return gymnasium.make("Pendulum-v1")
