"""The report of players of probe navigation."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from usrl.agents.players import RandomPlayer, TeacherPlayer
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.volumes import Volumes
from usrl.evaluation.episodes import compare_players
from usrl.registry import build_task


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    volumes = Volumes.from_bodies([make_body(2, index) for index in range(6)])
    task: Any = build_task("usrl/ProbeNavigate-v0", volumes, {"action": "continuous"})
    out = tmp_path_factory.mktemp("report") / "out"
    players = [RandomPlayer(task), TeacherPlayer(task)]
    compare_players(task, players, out, "usrl/ProbeNavigate-v0", dataset="bodies", split="test")
    return out


def test_results_hold_the_names_that_programs_read(report: Path) -> None:
    rows = {row["method"]: row for row in json.loads((report / "results.json").read_text())["rows"]}
    assert list(rows) == ["random", "teacher"]
    for row in rows.values():
        for name in ("success", "distance_mm", "angle_deg", "steps", "path_mm"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert rows["teacher"]["success"] == 1
    assert rows["teacher"]["distance_mm"] < 5 < rows["random"]["distance_mm"]


def test_a_row_of_cases_tells_how_an_episode_began_and_ended(report: Path) -> None:
    with (report / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert len(cases) == 12
    starts = [
        [case["start_mm"] for case in cases if case["method"] == name] for name in ("random", "teacher")
    ]
    assert starts[0] == starts[1]  # the same episodes
    assert {case["stopped"] for case in cases if case["method"] == "teacher"} == {"1.0"}


def test_the_page_has_plots_of_success_errors_and_paths_and_films(report: Path) -> None:
    page = (report / "report.html").read_text()
    for title in ("Success by start", "Errors at the end", "Paths on the skin", "Best, median and worst"):
        assert title in page
    assert page.count("data:image/png") >= 4
    assert page.count("data:image/webp") == 6
