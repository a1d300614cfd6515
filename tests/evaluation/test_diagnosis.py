"""Reading the grade of clips from the frames that a method keeps."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from summary_builders import make_task

from usrl.agents.summaries import KnownPlayer, RandomSummaryPlayer, UniformPlayer
from usrl.data.clips.clips import Clip, Clips
from usrl.errors import UserError
from usrl.evaluation.diagnosis import (
    WHOLE,
    diagnose,
    divide_patients,
    predict_frames,
    print_diagnosis,
    read_clips,
    read_grades,
)


def graded_clip(index: int, grade: int, patient: str) -> Clip:
    """Return a clip whose 5 known frames of 20 show a bright field, larger for higher grades."""
    rng = np.random.default_rng(index)
    frames = rng.integers(0, 90, (20, 64, 64)).astype(np.uint8)
    known = np.zeros(20, np.bool_)
    first = int(rng.integers(0, 15))
    known[first : first + 5] = True
    frames[known, 20:40, : 16 * grade] = 200
    labels = {"severity": grade}
    return Clip(frames, 20.0, None, f"clip-{index}", patient, "made", informative=known, labels=labels)


@pytest.fixture(scope="module")
def clips() -> Clips:
    """32 clips of 16 patients with grades from 0 to 3."""
    return Clips.from_clips([graded_clip(n, n // 2 % 4, f"patient-{n // 2}") for n in range(32)], 64)


@pytest.fixture(scope="module")
def results(clips: Clips, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    task = make_task(clips, share=0.25)
    out = tmp_path_factory.mktemp("diagnosis") / "out"
    players = [UniformPlayer(task), KnownPlayer(task), [RandomSummaryPlayer(task), RandomSummaryPlayer(task)]]
    return diagnose(task, players, out, dataset="made", folds=4), out


def test_the_grade_is_read_best_from_the_frames_that_show_it(results: Any) -> None:
    rows = {row["method"]: row for row in results[0]["rows"]}
    assert list(rows) == [WHOLE, "uniform", "known", "random, mean of 2 runs"]
    assert rows["known"]["auc"] > 0.95
    assert rows["known"]["kappa"] > rows["uniform"]["kappa"]
    assert rows["known"]["auc_minus_first"] == pytest.approx(rows["known"]["auc"] - rows["uniform"]["auc"])
    assert rows[WHOLE]["auc_minus_all"] == rows[WHOLE]["auc_minus_all_high"] == 0
    for row in rows.values():
        for figure in ("auc", "kappa", "auc_minus_all", "kappa_minus_first"):
            assert row[f"{figure}_low"] <= row[figure] <= row[f"{figure}_high"]


def test_the_files_hold_the_results_and_a_row_for_each_clip_and_method(results: Any) -> None:
    found, out = results
    assert json.loads((out / "results.json").read_text())["rows"] == found["rows"]
    with (out / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert len(cases) == 4 * 32
    assert {case["severity"] for case in cases} == {"0", "1", "2", "3"}
    print_diagnosis(found)


def test_patients_are_never_divided(clips: Clips) -> None:
    parts = divide_patients(clips.groups, 4, 0)
    assert np.bincount(parts).tolist() == [8, 8, 8, 8]
    assert (parts[::2] == parts[1::2]).all()
    assert (divide_patients(clips.groups, 4, 1) != parts).any()
    with pytest.raises(UserError, match="--folds must be from 2 to the number of patients, 16, got 17"):
        divide_patients(clips.groups, 17, 0)


def test_a_frame_is_read_by_a_classifier_that_has_not_seen_its_patient(clips: Clips) -> None:
    task = make_task(clips)
    grades, parts = read_grades(clips, "severity"), divide_patients(clips.groups, 4, 0)
    chances = predict_frames(task, grades, parts)
    assert chances.sum(dim=1).tolist() == pytest.approx([1] * 640, abs=1e-5)
    # Other grades of its own part change what is read of the other parts, and not of this one.
    wrong = np.where(parts == 0, 3 - grades, grades)
    changed = predict_frames(task, wrong, parts)
    own = torch.repeat_interleave(torch.from_numpy(parts == 0), clips.lengths)
    torch.testing.assert_close(changed[own], chances[own])
    assert (changed[~own] != chances[~own]).any()


def test_a_clip_is_read_by_the_mean_of_its_kept_frames() -> None:
    chances = torch.tensor([[0.9, 0.1, 0], [0.2, 0.2, 0.6], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
    lengths = torch.tensor([3, 2])
    clips = Clips(torch.zeros(5, 8, 8), lengths.cumsum(0) - lengths, lengths, ("a", "b"), ("a", "b"))
    kept = torch.tensor([[True, True, False], [False, False, False]])
    reading = read_clips(chances, kept, clips)
    # Of a clip without a kept frame, all frames are read.
    assert reading.expected.tolist() == pytest.approx([0.55 * 0 + 0.15 + 0.6, 0.5])
    assert reading.grade.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "grade"}, "--label: 32 clips have no 'grade'; they have severity"),
        ({"severe": 4}, "--severe: grades from 4 on are none or all of the clips"),
        ({"severe": 0}, "--severe: grades from 0 on are none or all of the clips"),
        ({"folds": 1}, "--folds must be from 2 to"),
    ],
)
def test_what_cannot_be_read_is_refused(clips: Clips, tmp_path: Path, change: Any, message: str) -> None:
    task = make_task(clips)
    with pytest.raises(UserError, match=message):
        diagnose(task, [UniformPlayer(task)], tmp_path / "out", dataset="made", **change)


def test_a_diagnosis_needs_a_player_and_different_grades(clips: Clips, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a diagnosis needs a player"):
        diagnose(make_task(clips), [], tmp_path / "out", dataset="made")
    same = replace(clips, labels=tuple({"severity": 1} for _ in range(32)))
    with pytest.raises(UserError, match=r"must have at least two grades from 0 on, got .1."):
        read_grades(same, "severity")
