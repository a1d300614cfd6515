"""Training agents: what a run holds, resuming, and that something is learned."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed

from usrl.agents.cases import augment, make_example
from usrl.agents.recipe import AgentRecipe
from usrl.agents.training import _parts, build_model, build_untrained, train_agent
from usrl.data.bank import Bank
from usrl.data.phantom.dataset import default_bank, load_phantom
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError
from usrl.registry import build_task
from usrl.runs.checkpoints import load_checkpoint, read_best, save_checkpoint
from usrl.runs.recipes import dump_recipe
from usrl.runs.run import create_run
from usrl.runs.tensors import load_tensors, save_tensors

CPU = torch.device("cpu")


def test_a_run_holds_weights_checkpoint_log_split_and_scalars(recipe: AgentRecipe, out: Path) -> None:
    run = create_run(out, recipe)
    train_agent(run, CPU)
    names = {path.name for path in out.iterdir()}
    assert names >= {"recipe.yaml", "weights.safetensors", "checkpoint.safetensors", "log.jsonl", "split.tsv"}
    assert list((out / "tb").iterdir())
    rows = run.read_log()
    assert [row["step"] for row in rows] == [0, 160, 320]
    assert {"val_initial_dice", "val_score", "val_worsened", "train_dice", "steps_per_second"} <= set(
        rows[-1]
    )
    _, facts = load_tensors(run.checkpoint_path)
    assert facts["step"] == 320
    assert facts["best"] == max(row["val_score"] for row in rows)


def test_weights_are_the_best_by_the_figure_that_the_recipe_names(recipe: AgentRecipe, out: Path) -> None:
    chosen = recipe.model_copy(update={"select_by": "worsened"})
    run = create_run(out, chosen)
    train_agent(run, CPU)
    rows = run.read_log()
    assert all(row["val_score"] == row["val_worsened"] != row["val_dice"] for row in rows)
    best = max(rows, key=lambda row: row["val_worsened"])
    assert read_best(run).step == best["step"]
    with pytest.raises(UserError, match="select_by: unknown figure 'dise'; did you mean 'dice'"):
        build_untrained(recipe.model_copy(update={"select_by": "dise"}))


@pytest.mark.parametrize("algorithm", ["ppo", "bc", "dqn"])
def test_a_training_that_diverges_is_reported(recipe: AgentRecipe, out: Path, algorithm: str) -> None:
    settings = {"algorithm": algorithm, "hyperparameters": {"n_steps": 10, "learning_rate": 1e30}}
    if algorithm == "dqn":  # whose choice among values that are no numbers raises nothing
        task = {"id": "usrl/ThresholdSelect-v0", "kwargs": {"action": "raster"}}
        hyperparameters = {"learning_starts": 8, "learning_rate": 1e30, "buffer_size": 100}
        settings |= {"policy": "CnnPolicy", "policy_kwargs": {}, "hyperparameters": hyperparameters}
        settings["env"] = recipe.env.model_copy(update=task)
    with pytest.raises(UserError, match=r"diverged before step \d+; choose a smaller learning_rate"):
        train_agent(create_run(out, recipe.model_copy(update=settings)), CPU)


def test_two_trainings_of_one_seed_agree(recipe: AgentRecipe, tmp_path: Path) -> None:
    runs = [create_run(tmp_path / name, recipe) for name in "ab"]
    for run in runs:
        train_agent(run, CPU)
    one, other = (load_tensors(run.checkpoint_path)[0] for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_killed_before_its_second_checkpoint_logs_the_start_once(
    recipe: AgentRecipe, out: Path
) -> None:
    run = create_run(out, recipe)
    train_agent(run, CPU)
    tensors, facts = load_tensors(run.checkpoint_path)
    save_tensors(run.checkpoint_path, tensors, facts | {"step": 0})
    train_agent(run, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [0, 160, 320]


def test_a_resumed_run_continues_to_the_end_with_a_whole_log(recipe: AgentRecipe, out: Path) -> None:
    train_agent(create_run(out, recipe.model_copy(update={"total_steps": 160})), CPU)
    (out / "recipe.yaml").write_text(dump_recipe(recipe))
    with (out / "log.jsonl").open("a") as log:
        log.write(
            json.dumps({"step": 240, "seconds": 1.0, "val_score": 0.5}) + "\n"
        )  # logged after the checkpoint, then killed
    run = create_run(out, recipe, resume=True)
    before = load_tensors(run.checkpoint_path)[0]
    train_agent(run, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [0, 160, 320]
    tensors, facts = load_tensors(run.checkpoint_path)
    assert facts["step"] == 320
    steps = [name for name in tensors if name.endswith(".step")]
    assert steps
    assert all(tensors[name] == 2 * before[name] for name in steps)  # the optimizer went on counting


def test_kill_9_loses_at_most_one_checkpoint_interval(recipe: AgentRecipe, out: Path) -> None:
    long = recipe.model_copy(update={"total_steps": 100_000})
    recipe_file = out.with_suffix(".yaml")
    recipe_file.write_text(dump_recipe(long))
    program = str(Path(sys.executable).with_name("usrl"))
    command = [program, "train", str(recipe_file), "--out", str(out), "--device", "cpu"]
    training = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and _logged_steps(out) < 480:
        time.sleep(0.05)
    training.send_signal(signal.SIGKILL)
    training.wait()
    reached = _logged_steps(out)
    assert reached >= 480
    run = create_run(out, long, resume=True)
    step = load_tensors(run.checkpoint_path)[1]["step"]
    assert step >= reached - long.checkpoint_every
    done = step + 160
    run = type(run)(out, long.model_copy(update={"total_steps": done}))
    train_agent(run, CPU, resume=True)
    assert run.read_log()[-1]["step"] == done


def _logged_steps(out: Path) -> int:
    log = out / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines and lines[-1].endswith("}") else 0


@pytest.mark.parametrize(
    ("algorithm", "changes", "message"),
    [
        ("ppo", {"hyperparameters": {"learning_rate": -1}}, "learning_rate: .* greater than 0, got -1"),
        ("bc", {"hyperparameters": {"learning_rate": "fast"}}, "learning_rate: .* valid number, got 'fast'"),
        ("a2c", {"hyperparameters": {"use_sde": True}}, "use_sde: ContourPolicy has one deviation"),
        ("ppo", {"policy_kwargs": {"net_arch": 64}}, "unexpected keyword argument 'net_arch'"),
    ],
)
def test_what_no_training_can_start_from_is_explained(
    recipe: AgentRecipe, out: Path, algorithm: str, changes: dict[str, object], message: str
) -> None:
    changed = recipe.model_copy(update=changes | {"algorithm": algorithm})
    with pytest.raises(UserError, match=message):
        train_agent(create_run(out, changed), CPU)


def test_a_rollout_longer_than_the_training_is_refused(recipe: AgentRecipe, out: Path) -> None:
    hasty = recipe.model_copy(update={"hyperparameters": {}})
    with pytest.raises(UserError, match=r"one rollout of 16384 steps .* exceeds total_steps 320"):
        train_agent(create_run(out, hasty), CPU)


def test_ppo_on_the_device_trains_evaluates_and_resumes_as_stock_ppo(
    recipe: AgentRecipe, tmp_path: Path
) -> None:
    # One minibatch a rollout and no other draws: both algorithms play and learn the same for two rollouts.
    settings = dict(recipe.hyperparameters) | {"batch_size": 80}
    logs = []
    for name, own in (("ppo", {}), ("ppo-device", {"autocast": False})):
        changes = {"algorithm": name, "hyperparameters": settings | own, "total_steps": 80}
        run = create_run(tmp_path / name, recipe.model_copy(update=changes))
        train_agent(run, CPU)
        longer = run.recipe.model_copy(update={"total_steps": 160})
        (run.path / "recipe.yaml").write_text(dump_recipe(longer))
        run = create_run(run.path, longer, resume=True)
        train_agent(run, CPU, resume=True)
        logs.append(run.read_log())
    assert [row["step"] for row in logs[1]] == [0, 80, 160]
    for theirs, ours in zip(logs[0][:2], logs[1][:2], strict=True):
        for name in set(theirs) - {"seconds", "steps_per_second"}:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4), name
    assert set(logs[0][2]) == set(logs[1][2])


def test_two_trainings_on_the_device_of_one_seed_agree(recipe: AgentRecipe, tmp_path: Path) -> None:
    ours = recipe.model_copy(update={"algorithm": "ppo-device"})
    runs = [create_run(tmp_path / name, ours) for name in "ab"]
    for run in runs:
        train_agent(run, CPU)
    one, other = (load_tensors(run.checkpoint_path)[0] for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("algorithm", ["sac", "a2c"])
def test_other_algorithms_train_and_resume(recipe: AgentRecipe, out: Path, algorithm: str) -> None:
    hyperparameters = (
        {"buffer_size": 200, "learning_starts": 64, "batch_size": 16} if algorithm == "sac" else {}
    )
    policy = "CnnPolicy" if algorithm == "sac" else "ContourPolicy"
    other = recipe.model_copy(
        update={
            "algorithm": algorithm,
            "hyperparameters": hyperparameters,
            "policy": policy,
            "policy_kwargs": recipe.policy_kwargs if algorithm == "a2c" else {},
            "total_steps": 96,
        }
    )
    train_agent(create_run(out, other), CPU)
    longer = other.model_copy(update={"total_steps": 176})
    (out / "recipe.yaml").write_text(dump_recipe(longer))
    run = create_run(out, longer, resume=True)
    train_agent(run, CPU, resume=True)
    assert run.read_log()[-1]["step"] >= 176


def test_a_checkpoint_holds_the_temperature_of_sac(recipe: AgentRecipe, out: Path) -> None:
    changes = {"algorithm": "sac", "policy": "CnnPolicy", "policy_kwargs": {}, "total_steps": 8}
    hyperparameters = {"buffer_size": 16, "learning_starts": 0}
    tiny = recipe.model_copy(update=changes | {"hyperparameters": hyperparameters})
    venv = TaskVecEnv(build_task(tiny.env.id, default_bank(64), {}), tiny.num_envs)
    parts = _parts(model := build_model(tiny, venv, CPU))
    model.log_ent_coef.data.fill_(-1.5)  # type: ignore[attr-defined]
    save_checkpoint(out, parts, {})
    model.log_ent_coef.data.fill_(0.0)  # type: ignore[attr-defined]
    load_checkpoint(out, parts)
    assert model.log_ent_coef.item() == -1.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(("seed", "resumed"), [(3, 163), (2**32 - 1, 159)])
def test_a_resumed_training_seeds_all_generators_anew(
    recipe: AgentRecipe, out: Path, monkeypatch: pytest.MonkeyPatch, seed: int, resumed: int
) -> None:
    train_agent(create_run(out, recipe.model_copy(update={"total_steps": 160, "seed": seed})), CPU)
    longer = recipe.model_copy(update={"seed": seed})
    (out / "recipe.yaml").write_text(dump_recipe(longer))
    drawn = []

    def learn(model: BaseAlgorithm, steps: int, **_: object) -> None:
        drawn.append((steps, model.num_timesteps, torch.rand(1).item(), np.random.rand()))

    monkeypatch.setattr(PPO, "learn", learn)
    train_agent(create_run(out, longer, resume=True), CPU, resume=True)
    set_random_seed(resumed)
    assert drawn == [(160, 160, torch.rand(1).item(), np.random.rand())]


@pytest.mark.slow
def test_ppo_learns_on_the_phantom(recipe: AgentRecipe, out: Path) -> None:
    learning = recipe.model_copy(
        update={
            "num_envs": 32,
            "total_steps": 30_720,
            "evaluate_every": 10_240,
            "hyperparameters": {"n_steps": 20, "batch_size": 128, "gamma": 0.5, "learning_rate": 1e-3},
            "data": recipe.data.model_copy(update={"count": 100}),
        }
    )
    run = create_run(out, learning)
    train_agent(run, CPU)
    rows = run.read_log()
    assert max(row["val_score"] for row in rows) > rows[0]["val_initial_dice"] + 0.05


def test_proposals_that_no_episode_would_start_from_are_refused(recipe: AgentRecipe, out: Path) -> None:
    env = recipe.env.model_copy(update={"proposals": str(out)})
    run = create_run(out, recipe.model_copy(update={"env": env}))
    with pytest.raises(UserError, match=r"set env\.kwargs\.proposal=network"):
        train_agent(run, torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hyperparameters": {"gama": 0.3}}, "did you mean 'gamma'"),
        ({"init_from": "nowhere"}, "nowhere: no such run"),
    ],
)
def test_a_refused_training_does_not_take_the_folder(
    recipe: AgentRecipe, out: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train_agent(create_run(out, recipe.model_copy(update=changes)), CPU)
    run = create_run(out, recipe)
    train_agent(run, CPU)
    with pytest.raises(UserError, match="already holds something"):
        create_run(out, recipe)


def test_steps_per_second_is_steps_over_time_however_often_checkpoints_are_written(
    recipe: AgentRecipe, out: Path
) -> None:
    run = create_run(out, recipe.model_copy(update={"checkpoint_every": 32}))
    train_agent(run, CPU)
    rows = run.read_log()
    for before, after in itertools.pairwise(rows):
        spent = after["seconds"] - before["seconds"]  # rounded to a tenth
        steps = after["step"] - before["step"]
        assert steps / (spent + 0.11) <= after["steps_per_second"] <= steps / max(spent - 0.11, 1e-3)


def test_augmented_copies_are_changed_and_keep_names_and_seeds() -> None:
    targets = Bank.from_samples(load_phantom(6, seed=2, shape=(64, 64)), 64).targets
    names = tuple(map(str, range(6)))
    bank = Bank(torch.where(targets, 200, 50).to(torch.uint8), targets, None, names)
    more, again, other = (augment(bank, 3, seed) for seed in (0, 0, 1))
    assert len(more) == 4 * len(bank)
    assert torch.equal(more.images, again.images)
    assert not torch.equal(more.images, other.images)
    assert torch.equal(more.images[: len(bank.images)], bank.images)
    assert more.names == bank.names * 4
    rows = torch.arange(len(bank), len(more))
    images, targets = more.image(rows).float(), more.targets[rows]
    assert (images != bank.images.repeat(3, 1, 1)).flatten(1).any(dim=1).all()
    inside = torch.stack([image[target].mean() for image, target in zip(images, targets, strict=True)])
    outside = torch.stack([image[~target].mean() for image, target in zip(images, targets, strict=True)])
    assert (inside > 2 * outside).all()  # masks move with their images
    assert augment(bank, 0, 0) is bank


def test_copies_of_images_with_proposals_are_refused(recipe: AgentRecipe) -> None:
    env = recipe.env.model_copy(update={"proposals": "masks", "kwargs": {"proposal": "network"}})
    with pytest.raises(UserError, match=r"augment: 2 copies .* without env\.proposals only; set augment: 0"):
        make_example(recipe.model_copy(update={"augment": 2, "env": env}))
