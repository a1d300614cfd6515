"""Runs that the first edition wrote: they open, go on and are scored. `first_edition/` holds two killed ones.

Their logs and weights say ``val_dice``; earlier still was ``epoch`` for the step of networks and judges.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from usrl.cli import app
from usrl.evaluation.methods import open_segmenter
from usrl.runs.checkpoints import read_best
from usrl.runs.run import Run, open_run
from usrl.runs.tensors import load_tensors, save_tensors

KEPT = Path(__file__).parent / "first_edition"
BEST = {"agent": 0.8354167938232422, "network": 0.011995534785158836}


@pytest.fixture(params=["agent", "network"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    shutil.copytree(KEPT / request.param, tmp_path / request.param)
    return open_run(tmp_path / request.param)


def test_its_log_and_weights_are_read_by_the_names_of_today(run: Run) -> None:
    assert "val_dice" in run.log_path.read_text()
    assert max(row["val_score"] for row in run.read_log()) == BEST[run.name]
    assert read_best(run).val_score == BEST[run.name]


def test_its_weights_segment(run: Run) -> None:
    image = np.zeros((40, 48), np.uint8)
    mask = open_segmenter(str(run.path), torch.device("cpu")).segment(image, ((10.0, 10.0, 30.0, 30.0),)).mask
    assert mask.shape == (40, 48)


def test_it_goes_on_to_its_end_and_is_evaluated(run: Run) -> None:
    before = run.read_log()
    end = {"agent": 96, "network": 3}[run.name]
    result = CliRunner().invoke(
        app, ["train", str(run.path), "--out", str(run.path), "--resume", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    rows = run.read_log()
    assert rows[: len(before)] == before
    assert rows[-1]["step"] == end
    assert "val_dice" not in run.log_path.read_text().splitlines()[-1] or run.name == "agent"
    assert read_best(run).val_score == max(row["val_score"] for row in rows) >= BEST[run.name]
    options = ["--data", "phantom", "--count", "12", "--device", "cpu"]
    result = CliRunner().invoke(app, ["evaluate", str(run.path), *options])
    assert result.exit_code == 0, result.output


def test_epochs_of_an_earlier_run_are_steps(run: Run) -> None:
    rows = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    run.log_path.write_text("".join(json.dumps({"epoch": row.pop("step"), **row}) + "\n" for row in rows))
    save_tensors(run.weights_path, load_tensors(run.weights_path)[0], {"epoch": 7, "val_dice": 0.5})
    assert [row["step"] for row in run.read_log()] == ([0, 32] if run.name == "agent" else [1, 2])
    assert (read_best(run).step, read_best(run).val_score) == (7, 0.5)
