"""Searches: what they find and write, what fails, and that they go on where they stopped."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from usrl.data.catalogue import load_split
from usrl.errors import UserError
from usrl.evaluation.methods import open_segmenter
from usrl.runs.recipe import Recipe
from usrl.runs.recipes import load_recipe, parse_recipe
from usrl.runs.run import Run, open_run
from usrl.tuning import trials
from usrl.tuning.trials import tune

CPU = torch.device("cpu")
NETWORK = {
    "kind": "network",
    "data": {"size": 32, "count": 20},
    "channels": [4, 8],
    "residual_units": 0,
    "dropout": 0.0,
    "epochs": 4,
    "batch_size": 4,
}


def _network(search: dict[str, Any], **others: Any) -> Recipe:
    return parse_recipe({**NETWORK, **others, "search": search}, "tiny")


def _table(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[Recipe]]:
    """Stand in for training: validation Dice follows from the learning rate; one call may be interrupted."""

    def prepare(interrupted_call: int | None) -> list[Recipe]:
        trained: list[Recipe] = []

        def train(run: Run, device: torch.device, *, resume: bool) -> None:
            if len(trained) == interrupted_call:
                raise KeyboardInterrupt
            trained.append(run.recipe)
            rate = float(run.recipe.learning_rate)  # type: ignore[union-attr]
            for step, dice in enumerate((0.1, 1 / (1 + abs(np.log10(rate) + 3)), 0.2)):
                run.append_log({"step": step, "seconds": 2.5 * step, "val_score": dice})

        monkeypatch.setattr(trials, "train_run", train)
        return trained

    return prepare


def test_the_rate_that_learns_is_found_and_every_file_tells_so(tmp_path: Path) -> None:
    recipe = _network({"learning_rate": {"choices": [1e-9, 2e-2]}}, epochs=12, ema_decay=0.5)
    best, values = tune(recipe, tmp_path / "out", 2, CPU)
    assert values == {"learning_rate": 2e-2}
    rows = {float(row["learning_rate"]): row for row in _table(tmp_path / "out")}
    assert float(rows[2e-2]["val_score"]) == best.val_score > float(rows[1e-9]["val_score"])
    run = open_run(tmp_path / "out" / "trials" / f"{best.number:03d}")
    assert max(row["val_score"] for row in run.read_log()) == best.val_score
    assert load_recipe(tmp_path / "out" / "best.yaml") == run.recipe
    assert "search" not in (run.path / "recipe.yaml").read_text()
    sample = load_split("phantom", "val", count=20)[0]
    assert open_segmenter(str(run.path), CPU).segment(sample.image, None).mask.shape == sample.image.shape


def test_an_agents_schedule_is_searched_through_its_prefix(tmp_path: Path) -> None:
    tree = {
        "data": {"count": 20, "size": 64},
        "num_envs": 4,
        "total_steps": 40,
        "policy_kwargs": {"width": 8, "layers": 1},
        "hyperparameters": {"n_steps": 10, "batch_size": 40, "n_epochs": 1},
        "search": {
            "hyperparameters.learning_rate": {"low": 1e-4, "high": 1e-3, "log": True, "prefix": "lin_"}
        },
    }
    _, values = tune(parse_recipe(tree, "tiny"), tmp_path / "out", 1, CPU)
    run = open_run(tmp_path / "out" / "trials" / "000")
    rate = run.recipe.hyperparameters["learning_rate"]  # type: ignore[union-attr]
    assert (
        rate
        == values["hyperparameters.learning_rate"]
        == _table(tmp_path / "out")[0]["hyperparameters.learning_rate"]
    )
    assert 1e-4 <= float(str(rate).removeprefix("lin_")) <= 1e-3


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    tmp_path: Path, pretend: Callable[[int | None], list[Recipe]]
) -> None:
    recipe = _network({"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}})
    pretend(None)
    expected = tune(recipe, tmp_path / "whole", 14, CPU)
    rates = [float(row["learning_rate"]) for row in _table(tmp_path / "whole")]
    closest = min(abs(np.log10(rate) + 3) for rate in rates)
    assert (expected[0].val_score, expected[0].seconds) == (pytest.approx(1 / (1 + closest)), 5.0)
    pretend(11)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, tmp_path / "parts", 14, CPU)
    assert len(_table(tmp_path / "parts")) == 11
    assert (tmp_path / "parts" / "best.yaml").is_file()
    pretend(None)
    assert tune(recipe, tmp_path / "parts", 14, CPU, resume=True) == expected
    assert _table(tmp_path / "parts") == _table(tmp_path / "whole")


def test_a_search_that_was_killed_before_its_last_table_is_tabled_when_resumed(
    tmp_path: Path, pretend: Callable[[int | None], list[Recipe]]
) -> None:
    recipe = _network({"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}})
    pretend(None)
    best = tune(recipe, tmp_path / "out", 2, CPU)
    expected = _table(tmp_path / "out")
    (tmp_path / "out" / "best.yaml").unlink()
    (tmp_path / "out" / "trials.csv").unlink()
    assert tune(recipe, tmp_path / "out", 2, CPU, resume=True) == best
    assert _table(tmp_path / "out") == expected
    assert (tmp_path / "out" / "best.yaml").is_file()


def test_an_interrupted_trial_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _network({"learning_rate": {"low": 1e-3, "high": 1e-2}})
    expected = tune(recipe, tmp_path / "whole", 1, CPU)
    append, steps = Run.append_log, []

    def interrupt(run: Run, row: dict[str, float]) -> None:
        append(run, row)
        steps.append(row["step"])
        if steps == [1, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "append_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, tmp_path / "parts", 1, CPU)
    best, values = tune(recipe, tmp_path / "parts", 1, CPU, resume=True)
    assert steps == [1, 2, 2, 3, 4]  # the checkpoint of an epoch follows its row
    log = Run(tmp_path / "parts" / "trials" / "000", recipe).read_log()
    assert [row["step"] for row in log] == [1, 2, 3, 4]
    assert (best.val_score, values) == (expected[0].val_score, expected[1])


def test_a_begun_trial_keeps_its_values_whatever_would_be_proposed_now(
    tmp_path: Path, pretend: Callable[[int | None], list[Recipe]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _network({"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}})
    pretend(0)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, tmp_path / "out", 1, CPU)
    begun = json.loads((tmp_path / "out" / "trials" / "000" / "trial.json").read_text())["drawn"]
    pretend(None)
    monkeypatch.setattr(trials, "propose", lambda *_: {"learning_rate": 0.05})
    assert tune(recipe, tmp_path / "out", 1, CPU, resume=True)[1] == begun


def test_trials_that_diverge_or_are_refused_are_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    recipe = _network({"learning_rate": {"choices": [1e30, 1e-2]}, "network": {"choices": ["unet", "unett"]}})
    _, values = tune(recipe, tmp_path / "out", 9, CPU)
    assert values == {"learning_rate": 1e-2, "network": "unet"}
    reasons = {(row["learning_rate"], row["network"]): row["failure"] for row in _table(tmp_path / "out")}
    assert len(reasons) == 4  # there are no more combinations
    assert "training diverged in epoch 1" in reasons["1e+30", "unet"]
    assert "did you mean 'unet'" in reasons["0.01", "unett"]
    assert reasons["0.01", "unet"] == ""


def test_a_search_of_failures_alone_says_why(tmp_path: Path) -> None:
    recipe = _network({"network": {"choices": ["unett", "unettt"]}})
    with pytest.raises(UserError, match=r"all 2 trials failed, the first because: .*unknown name"):
        tune(recipe, tmp_path / "out", 2, CPU)
    assert [row["val_score"] for row in _table(tmp_path / "out")] == ["", ""]
    assert not (tmp_path / "out" / "best.yaml").exists()


def test_what_is_wrong_with_the_call_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no `search`"):
        tune(_network({}), tmp_path / "out", 2, CPU)
    search = {"learning_rate": {"choices": [1e-3]}}
    with pytest.raises(UserError, match="unknown data set 'bussi'"):
        tune(_network(search, data={"name": "bussi"}), tmp_path / "out", 2, CPU)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_search_and_a_spoilt_record_are_refused(
    tmp_path: Path, pretend: Callable[[int | None], list[Recipe]]
) -> None:
    pretend(None)
    recipe = _network({"learning_rate": {"low": 1e-3, "high": 1e-2}})
    tune(recipe, tmp_path / "out", 2, CPU)
    with pytest.raises(UserError, match="already holds something"):
        tune(recipe, tmp_path / "out", 3, CPU)
    wider = _network({"learning_rate": {"low": 1e-4, "high": 1e-2}})
    with pytest.raises(UserError, match="another recipe"):
        tune(wider, tmp_path / "out", 3, CPU, resume=True)
    (tmp_path / "out" / "trials" / "001" / "trial.json").write_text("{")
    with pytest.raises(UserError, match=r"001/trial\.json: not JSON .*remove .*001 to repeat the trial"):
        tune(recipe, tmp_path / "out", 3, CPU, resume=True)
    shutil.rmtree(tmp_path / "out" / "trials" / "001")
    tune(recipe, tmp_path / "out", 3, CPU, resume=True)
    assert len(_table(tmp_path / "out")) == 3


def test_test_images_have_no_say(tmp_path: Path) -> None:
    from usrl.data.phantom.dataset import write_phantom

    write_phantom(tmp_path / "p", 20, 0)
    data = {"name": "folder", "root": str(tmp_path / "p"), "size": 32}
    recipe = _network({"learning_rate": {"low": 1e-3, "high": 1e-2}}, data=data, epochs=2)
    before = tune(recipe, tmp_path / "before", 1, CPU)[0].val_score
    for sample in load_split("folder", "test", root=str(tmp_path / "p")):
        Image.fromarray(255 - sample.image).save(tmp_path / "p" / "images" / f"{sample.name}.png")
    assert tune(recipe, tmp_path / "after", 1, CPU)[0].val_score == before
