import re
from pathlib import Path

import pytest

from usrl.data.catalogue import load_split, load_train_and_val
from usrl.data.phantom.dataset import write_phantom
from usrl.data.recipe import DataRecipe
from usrl.progress import TrainingBar


def _train() -> None:
    with TrainingBar("unet", "epochs", 4, 1, ("images", 10)) as bar:
        bar.show(1.5)
        bar.show(2)
        bar.evaluated(0.8, 0.9)
        bar.show(2.5)


def test_a_training_leaves_a_plain_line_per_evaluation_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    _train()
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "unet: 2 of 4 epochs, val score 0.800, best 0.900\n")


def test_a_training_moves_a_bar_within_epochs_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    _train()
    seen = capsys.readouterr()
    assert seen.out == ""
    last = re.sub("\x1b\\[[0-9;]*m", "", seen.err.split("\r")[-1])
    assert "2/4 epochs" in last
    assert "val score 0.800, best 0.900" in last
    assert "images/s" in last


def test_simulating_images_shows_a_bar_and_leaves_standard_output_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_train_and_val(DataRecipe(count=12), tmp_path / "split.tsv")
    write_phantom(tmp_path / "images", 2, show_progress=True)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "Simulating images" in seen.err
    assert "12/12" in seen.err
    assert "2/2" in seen.err
    load_split("folder", "all", root=tmp_path / "images")
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "Reading images" in seen.err
