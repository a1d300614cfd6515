"""The report of players of summaries, and summaries of clips on disk."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from summary_builders import LENGTHS, make_clip, make_clips, make_task
from typer.testing import CliRunner

from usrl.agents.clips import ClipPolicy
from usrl.agents.players import PolicyPlayer, begin_evaluation, play
from usrl.agents.summaries import ClassifierPlayer, UniformPlayer
from usrl.cli import app
from usrl.data.clips.reading import read_clip, write_clip
from usrl.envs.summary.rules import count_kept, keep_windows
from usrl.errors import UserError
from usrl.evaluation.episodes import compare_players
from usrl.evaluation.report.summary_plots import score_clip
from usrl.evaluation.summarising import summarise_file
from usrl.learners import load_object
from usrl.registry import REGISTRY

CPU = torch.device("cpu")
ENV = "usrl/VideoSummary-v0"
SCRIPTED = ("uniform", "random", "k-medoids", "classifier", "known")
NAMES = ("f1", "precision", "recall", "diversity", "representativeness", "share")


def make_player(task: Any) -> PolicyPlayer:
    torch.manual_seed(0)
    policy = ClipPolicy(task.observation_space, task.action_space, lambda _: 1e-3, width=8)
    return PolicyPlayer(policy, task, "agent")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = make_task(make_clips(), share=0.3)
    out = tmp_path_factory.mktemp("report") / "out"
    scripted = [load_object(REGISTRY[ENV].players[name])(task) for name in SCRIPTED]
    players = [make_player(task), *scripted]
    compare_players(task, players, out, ENV, dataset="made", split="test")
    return out


def test_rows_of_results_hold_the_names_that_programs_read(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert list(rows) == ["agent", *SCRIPTED]
    for row in rows.values():
        for name in NAMES:
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["share"] == pytest.approx(rows["agent"]["share"])
    assert max(rows, key=lambda name: rows[name]["f1"]) == "known"
    assert {test["figure"] for test in results["tests"]} == {"score", "f1"}


def test_the_page_shows_scores_over_time_and_the_agreement_with_known_frames(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert "Scores over time, by the f1 of agent" in page
    assert "Agreement with known frames" in page
    assert "Best, median and worst episode of each player" in page


def test_clips_without_known_frames_are_compared_by_the_reward(tmp_path: Path) -> None:
    task = make_task(make_clips(known=False))
    players = [UniformPlayer(task), ClassifierPlayer(task)]
    results = compare_players(task, players, tmp_path / "out", ENV, dataset="made", split="test")
    assert "f1" not in results["rows"][0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Scores over time, by the score of uniform" in page
    assert "Agreement with known frames" not in page


def test_scores_of_a_clip_are_those_that_the_player_decides_by() -> None:
    task = make_task(make_clips())
    player = make_player(task)
    states = play(task, player, begin_evaluation(task)).states
    scores = score_clip(task, player, states, 2)
    assert scores is not None
    assert len(scores) == LENGTHS[2]
    kept = keep_windows(torch.from_numpy(scores)[None], torch.tensor([LENGTHS[2]]), 0.15)
    assert kept[0].equal(states[-1].kept[2, : LENGTHS[2]])
    assert score_clip(task, UniformPlayer(task), states, 2) is None


def test_scores_of_a_stepwise_agent_are_its_probabilities() -> None:
    from stable_baselines3 import PPO

    from usrl.envs.sb3 import TaskVecEnv

    task = make_task(make_clips(), action="sequential", budget=True)
    policy = PPO("MlpPolicy", TaskVecEnv(task, 2), n_steps=8, batch_size=8, device="cpu").policy
    player = PolicyPlayer(policy, task, "stepwise")
    states = play(task, player, begin_evaluation(task)).states
    scores = score_clip(task, player, states, 1)
    assert scores is not None
    assert len(scores) == LENGTHS[1]
    assert ((scores > 0) & (scores < 1)).all()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "film.mp4"
    write_clip(path, make_clip("film", 40).frames, 20.0)
    return path


def read_scores(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("by", ["uniform", "k-medoids", "sharp"])
def test_a_summary_holds_the_kept_frames_a_score_for_each_frame_a_sheet_and_a_plot(
    film: Path, tmp_path: Path, by: str
) -> None:
    summary = summarise_file(film, tmp_path / "out", by=by, share=0.25, device=CPU)
    names = {"summary.mp4", "scores.csv", "sheet.png", "scores.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    rows = read_scores(tmp_path / "out/scores.csv")
    assert list(rows[0]) == ["frame", "score", "kept"]
    assert [int(row["frame"]) for row in rows] == list(range(40))
    kept = [int(row["frame"]) for row in rows if row["kept"] == "1"]
    assert len(kept) == 10
    assert kept == np.flatnonzero(summary.kept).tolist()
    whole, part = read_clip(film).frames, read_clip(tmp_path / "out/summary.mp4").frames
    assert part.shape == (10, 32, 32)
    assert np.abs(part.astype(float) - whole[kept]).mean() < 8  # it is encoded once more
    sheet = cv2.imread(str(tmp_path / "out/sheet.png"))
    assert sheet is not None
    assert sheet.shape == (2 * 160, 6 * 160, 3)
    assert cv2.imread(str(tmp_path / "out/scores.png")) is not None


def test_the_command_says_what_it_kept(film: Path, tmp_path: Path) -> None:
    call = ["summarize", str(film), "--out", str(tmp_path / "out"), "--by", "sharp", "--device", "cpu"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert f"kept 6 of 40 frames; wrote {tmp_path}/out/summary.mp4" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.0}, "--share must be above 0 and at most 1, got 0"),
        ({"by": "contour-ppo"}, "--by: contour-ppo is an agent of usrl/ContourRefine-v0"),
        ({"by": "unet-phantom"}, "wanted a recipe of kind 'agent', got 'network'"),
        ({"by": "nobody"}, "nobody: no such run"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    film: Path, tmp_path: Path, arguments: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        summarise_file(film, tmp_path / "out", device=CPU, **{"by": "uniform"} | arguments)
    assert not (tmp_path / "out").exists()


def test_a_clip_that_ends_early_leaves_no_summary(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"broken\.mp4"):
        summarise_file(broken, tmp_path / "out", by="uniform", device=CPU)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_that_holds_something_is_refused(film: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds something"):
        summarise_file(film, tmp_path, by="uniform", device=CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_summary_of_two_frames_keeps_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "short.mp4", make_clip("short", 2).frames, 20.0)
    summary = summarise_file(tmp_path / "short.mp4", tmp_path / "out", by="uniform", device=CPU)
    assert summary.kept.sum() == count_kept(torch.tensor([2]), 0.15)
