"""Runs that an environment uses are checked for leaks, as if an agent had started from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from summary_builders import make_clip
from typer.testing import CliRunner

from usrl.agents.recipe import AgentRecipe
from usrl.cli import app
from usrl.data.catalogue import DATASETS
from usrl.data.clips.clips import CLIPS, Clips
from usrl.data.dataset import Dataset
from usrl.data.recipe import DataRecipe
from usrl.data.splits import Member, split_samples, write_parts
from usrl.errors import UserError
from usrl.features.networks import FeatureNetworks
from usrl.features.recipe import FeatureRecipe
from usrl.learners import train_folder
from usrl.registry import find_sources
from usrl.runs.run import create_run
from usrl.runs.tensors import save_tensors, unique_state

CPU = torch.device("cpu")
NAMES = [f"clip-{index:02d}" for index in range(30)]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> DataRecipe:
    members = [Member(name, name, "made") for name in NAMES]

    def load(data: DataRecipe, split: str) -> Clips:
        part = split_samples(members, seed=data.split_seed)[split]
        return Clips.from_clips([make_clip(NAMES[index], 6) for index in part], 64)

    monkeypatch.setitem(DATASETS, "made", Dataset(load, kind=CLIPS, members=lambda data: members))
    return DataRecipe(name="made", size=64)


def write_features(path: Path, data: DataRecipe, split_seed: int) -> str:
    """Write a run of features that has learned from the training part of a split."""
    recipe = FeatureRecipe(kind="features", width=8, data=data.model_copy(update={"split_seed": split_seed}))
    run = create_run(path, recipe)
    save_tensors(run.weights_path, unique_state(FeatureNetworks(recipe)), {})
    split = split_samples([Member(name, name, "made") for name in NAMES], seed=split_seed)
    write_parts(run.split_path, {part: [NAMES[index] for index in rows] for part, rows in split.items()})
    return str(path)


def recipe_of(data: DataRecipe, features: str) -> AgentRecipe:
    settings: dict[str, Any] = {"id": "usrl/VideoSummary-v0", "max_episode_steps": 16}
    settings["kwargs"] = {"features": features, "frames": 8}
    fields = {"env": settings, "algorithm": "reinforce", "policy": "ClipPolicy", "num_envs": 2}
    fields |= {"policy_kwargs": {"width": 8}, "total_steps": 20, "evaluate_every": 20, "checkpoint_every": 20}
    return AgentRecipe.model_validate(fields | {"data": data.model_dump()})


def test_an_environment_says_which_runs_it_uses() -> None:
    assert find_sources("usrl/ContourRefine-v0", {}) == {}
    assert find_sources("usrl/VideoSummary-v0", {}) == {"features": "summary-features"}
    assert find_sources("usrl/VideoSummary-v0", {"features": "runs/mine"}) == {"features": "runs/mine"}


def test_features_that_have_seen_other_parts_are_refused(data: DataRecipe, tmp_path: Path) -> None:
    sound = write_features(tmp_path / "sound", data, 0)
    run = train_folder(recipe_of(data, sound), tmp_path / "run", CPU)
    assert run.weights_path.is_file()
    leaky = write_features(tmp_path / "leaky", data, 1)
    with pytest.raises(
        UserError, match=r"env\.kwargs\.features: wanted what learned from this run's training"
    ):
        train_folder(recipe_of(data, leaky), tmp_path / "other", CPU)


def test_an_agent_is_not_compared_on_clips_that_its_features_have_seen(
    data: DataRecipe, tmp_path: Path
) -> None:
    sound = write_features(tmp_path / "sound", data, 0)
    run = train_folder(recipe_of(data, sound), tmp_path / "run", CPU)
    call = ["compare", str(run.path), "uniform", "--data", "made", "--device", "cpu", "--out"]
    done = CliRunner().invoke(app, [*call, str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    write_parts(tmp_path / "sound" / "split.tsv", {"train": NAMES})
    done = CliRunner().invoke(app, [*call, str(tmp_path / "again")])
    assert done.exit_code == 2
    assert "was trained on 6 of these 6 test images" in done.output
