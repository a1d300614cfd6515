"""Tiny plans from YAML to their tables."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from usrl import learners
from usrl.ablation.pipeline import AblationCall, run_ablation
from usrl.cli import app
from usrl.errors import UserError
from usrl.evaluation.statistics.intervals import interquartile_mean
from usrl.runs.run import Run

WritePlan = Callable[..., Path]
IOU = {"reward": {"iou": {"env.kwargs.reward": "iou"}}}


def ablate(plan: Path, out: Path, **others: Any) -> dict[str, Any]:
    run_ablation(AblationCall(plan, out, "cpu", **others))
    results: dict[str, Any] = json.loads((out / "ablation.json").read_text())
    return results


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names the runs that are trained, in order."""
    names: list[str] = []
    train = learners.train_run

    def record(run: Run, *arguments: Any, **others: Any) -> None:
        names.append("/".join(run.path.parts[-2:]))
        train(run, *arguments, **others)

    monkeypatch.setattr(learners, "train_run", record)
    return names


def test_a_plan_becomes_a_table_and_goes_on_where_it_stopped(
    write_plan: WritePlan, tmp_path: Path, trained: list[str]
) -> None:
    groups = IOU | {
        "cloning": {"ppo": {"init_from": {"variant": "cloning/only"}}, "only": {"algorithm": "bc"}}
    }
    plan, out = write_plan(groups, seeds=[0, 1]), tmp_path / "out"
    first = ablate(plan, out)
    assert trained == ["base/0", "base/1", "iou/0", "iou/1", "only/0", "ppo/0", "only/1", "ppo/1"]
    rows = {row["variant"]: row for row in first["rows"]}
    assert list(rows) == ["base", "reward/iou", "cloning/ppo", "cloning/only"]

    cases = list(csv.DictReader((out / "cases.csv").open()))
    dice = {name: [float(case["dice"]) for case in cases if case["variant"] == name] for name in rows}
    for name, row in rows.items():
        assert row["cases"] * row["seeds"] == len(dice[name]) == 4
        assert row["dice_iqm"] == pytest.approx(interquartile_mean(dice[name]))
    assert "difference" not in rows["base"]
    assert rows["reward/iou"]["difference"] == pytest.approx(
        rows["reward/iou"]["dice_iqm"] - rows["base"]["dice_iqm"]
    )

    weights = (out / "reward/iou/0/weights.safetensors").read_bytes()
    (out / "reward/iou/0/weights.safetensors").unlink()
    trained.clear()
    again = ablate(plan, out)
    assert trained == ["iou/0"]
    assert (out / "reward/iou/0/weights.safetensors").read_bytes() == weights
    assert [row["dice_iqm"] for row in again["rows"]] == [row["dice_iqm"] for row in first["rows"]]


def test_runs_are_scored_again_with_more_starts(
    write_plan: WritePlan, tmp_path: Path, trained: list[str]
) -> None:
    out = tmp_path / "out"
    base, four = ablate(write_plan({"starts": {"four": {"starts": 4}}}, seeds=[0]), out)["rows"]
    assert trained == ["base/0"]
    assert (four["same_as"], four["changes"]) == ("", "starts: 4")
    compared = ["compare", str(out / "base/0"), "--data", "phantom", "--count", "24", "--split", "val"]
    folder = tmp_path / "compared"
    CliRunner().invoke(app, [*compared, "--starts", "4", "--out", str(folder)])
    (row,) = json.loads((folder / "results.json").read_text())["rows"]
    assert four["dice"] == pytest.approx(row["dice"], abs=1e-9)
    assert four["dice"] != base["dice"]


@pytest.mark.slow
def test_processes_give_what_one_process_gives(write_plan: WritePlan, tmp_path: Path) -> None:
    plan = write_plan(IOU, seeds=[0])
    alone, together = (ablate(plan, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    for row, other in zip(alone["rows"], together["rows"], strict=True):
        assert row["dice_iqm"] == pytest.approx(other["dice_iqm"], abs=1e-4)
    assert "val score" in (tmp_path / "2/reward/iou/0.txt").read_text()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_training_that_fails_is_named(write_plan: WritePlan, tmp_path: Path, jobs: int) -> None:
    plan, out = write_plan({"a": {"b": {}}}, seeds=[3]), tmp_path / "out"
    (out / "base/3").mkdir(parents=True)
    (out / "plan.yaml").touch()
    (out / "base/3/mine.txt").touch()
    with pytest.raises(UserError, match=r"base, seed 3: .* already holds something"):
        ablate(plan, out, jobs=jobs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_step": 1}, "a/b: unknown key 'total_step'"),
        ({"algorithm": "pppo"}, "a/b: algorithm: unknown name 'pppo'"),
        ({"policy": "CnnPolicy"}, "a/b: .*unexpected keyword argument"),
        ({"env.kwargs.observation": "image"}, "a/b: ContourPolicy sees profiles"),
        ({"hyperparameters.n_steps": 100}, "a/b: one rollout of 800 steps .* exceeds total_steps 80"),
        (
            {"init_from": {"variant": "base"}, "policy_kwargs.width": 8},
            "a/b: init_from: base has other weights",
        ),
        (
            {"init_from": {"variant": "base"}, "data.labels": 0.5},
            "a/b: init_from: base learns from data.labels=1, more than the 0.5 here",
        ),
    ],
)
def test_a_wrong_variant_is_told_before_anything_trains(
    write_plan: WritePlan, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ablate(write_plan({"a": {"b": changes}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_recipe_and_a_folder_of_others_are_refused(
    write_plan: WritePlan, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ablate(write_plan({"a": {"b": {}}}, seeds=[0]), out)
    with pytest.raises(UserError, match=r"base: .* was trained from another recipe"):
        ablate(write_plan({"a": {"b": {}}}, seeds=[0], set={"total_steps": 320}), out)
    (out / "plan.yaml").unlink()
    shutil.rmtree(out / "base")
    with pytest.raises(UserError, match="already holds something; choose another --out"):
        ablate(write_plan({"a": {"b": {}}}, seeds=[0]), out)


def test_the_table_is_markdown_with_what_made_it(write_plan: WritePlan, tmp_path: Path) -> None:
    groups = {"reward": {"dice": {"env.kwargs.reward": "dice"}}}
    plan, out = write_plan(groups, seeds=[0]), tmp_path / "out"
    ablate(plan, out)
    lines = (out / "ablation.md").read_text().splitlines()
    assert lines[1] == f"usrl ablate {plan} --out {out}"
    head, _, base, dice = lines[4:8]
    assert head.startswith(
        "| variant | changes | Dice (IQM) | difference from base | mean Dice | HD95 (mm) |"
    )
    assert base.startswith("| base |  | 0.")
    assert dice.startswith("| reward/dice (= base) | `env.kwargs.reward: dice` | 0.")
    assert "| +0.000 [+0.000, +0.000] |" in dice
    assert lines[-1].startswith("python 3.")


def test_the_command_prints_the_table_and_names_what_it_wrote(write_plan: WritePlan, tmp_path: Path) -> None:
    plan, out = write_plan(IOU, seeds=[0]), tmp_path / "out"
    arguments = ["ablate", str(plan), "--out", str(out), "--device", "cpu", "--only"]
    result = CliRunner().invoke(app, [*arguments, "base"])
    assert result.exit_code == 0, result.output
    assert "| base |" in result.output
    assert "reward/iou" not in result.output
    assert f"wrote {out / 'ablation.md'}" in result.output
    result = CliRunner().invoke(app, [*arguments, "rewards"])
    assert (result.exit_code, "did you mean 'reward'" in result.stderr) == (2, True)
