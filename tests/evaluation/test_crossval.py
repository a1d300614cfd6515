import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from usrl.agents.recipe import AgentRecipe
from usrl.data.catalogue import load_split
from usrl.data.recipe import DataRecipe
from usrl.data.splits import read_parts
from usrl.errors import UserError
from usrl.evaluation import crossval
from usrl.evaluation.crossval import OutOfFold, cross_validate
from usrl.evaluation.methods import open_segmenter
from usrl.judging.recipe import JudgeRecipe
from usrl.metrics.overlap import dice
from usrl.networks.recipe import NetworkRecipe

CPU = torch.device("cpu")
DATA = {"size": 32, "count": 12}
NETWORK = NetworkRecipe(kind="network", data=DataRecipe(**DATA), channels=[4, 8], residual_units=0, epochs=1)


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """A network that was cross-validated in three folds, and its results."""
    out = tmp_path_factory.mktemp("crossval") / "out"
    return out, cross_validate(NETWORK, out, 3, CPU, name="tiny")


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_image_is_scored_once_by_the_run_that_has_not_seen_it(validated):
    out, _ = validated
    cases = read(out / "report" / "cases.csv")
    samples = {sample.name: sample for sample in load_split(NETWORK.data, "all")}
    assert sorted(case["case"] for case in cases) == sorted(samples)
    opened = {fold: open_segmenter(out / f"fold-{fold}-of-3", CPU) for fold in (1, 2, 3)}
    for case in cases:
        fold, sample = int(case["fold"]), samples[case["case"]]
        assert read_parts(out / f"fold-{fold}-of-3" / "split.tsv")[sample.name] == "test"
        mask = opened[fold].segment(sample.image, None).mask
        assert float(case["dice"]) == pytest.approx(dice(mask, sample.target))


def test_each_image_is_held_out_once_and_seen_by_all_other_runs(validated):
    out, _ = validated
    parts = [read_parts(out / f"fold-{fold}-of-3" / "split.tsv") for fold in (1, 2, 3)]
    for name in parts[0]:
        assert Counter(part[name] for part in parts)["test"] == 1


def test_the_one_row_has_its_interval_and_the_spread_of_the_folds(validated):
    out, results = validated
    (row,) = results["rows"]
    assert (row["method"], row["n"]) == ("tiny", 12)
    assert row["dice_low"] <= row["dice"] <= row["dice_high"]
    found = results["folds"]["tiny"]
    assert sum(each["n"] for each in found["rows"]) == 12
    weighted = sum(each["n"] * each["dice"] for each in found["rows"]) / 12
    assert weighted == pytest.approx(row["dice"])
    assert json.loads((out / "report" / "results.json").read_text()) == results


def test_a_finished_cross_validation_is_read_and_not_repeated(validated, monkeypatch):
    out, results = validated
    monkeypatch.setattr(crossval, "train_folder", None)
    monkeypatch.setattr(crossval, "compare", None)
    assert cross_validate(NETWORK, out, 3, CPU, name="tiny", resume=True) == results


def test_a_call_that_was_stopped_goes_on_with_the_fold_that_it_was_in(tmp_path, validated, monkeypatch):
    train, trained = crossval.train_folder, []

    def stop(recipe, folder, *rest, **more):
        trained.append(folder.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(recipe, folder, *rest, **more)

    monkeypatch.setattr(crossval, "train_folder", stop)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(NETWORK, tmp_path / "out", 3, CPU, name="tiny")
    results = cross_validate(NETWORK, tmp_path / "out", 3, CPU, name="tiny", resume=True)
    assert trained == ["fold-1-of-3", "fold-2-of-3", "fold-2-of-3", "fold-3-of-3"]
    assert results["rows"][0]["dice"] == validated[1]["rows"][0]["dice"]


def test_another_recipe_or_a_folder_with_something_in_it_is_refused(validated):
    out, _ = validated
    with pytest.raises(UserError, match="already holds something"):
        cross_validate(NETWORK, out, 3, CPU, name="tiny")
    other = NETWORK.model_copy(update={"epochs": 2})
    with pytest.raises(UserError, match="epochs was 1 and is 2 now"):
        cross_validate(other, out, 3, CPU, name="tiny", resume=True)


@pytest.mark.slow
def test_an_agent_is_cross_validated_too(tmp_path):
    tree = {
        "data": DATA,
        "num_envs": 2,
        "total_steps": 20,
        "evaluate_every": 20,
        "hyperparameters": {"n_steps": 10, "batch_size": 20, "n_epochs": 1},
    }
    results = cross_validate(AgentRecipe(**tree), tmp_path / "out", 2, CPU, name="agent")
    (row,) = results["rows"]
    assert (row["track"], row["n"]) == ("prompted", 12)
    assert row["initial_dice"] > 0.5


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (JudgeRecipe(kind="judge", proposals="p"), "agents and networks are cross-validated, got 'judge'"),
        (NETWORK.model_copy(update={"data": DataRecipe(name="lung")}), "'lung' consists of clips"),
        (NETWORK.model_copy(update={"data": DataRecipe(folds=3, fold=1)}), "the recipe is one fold already"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused_before_there_is_a_folder(recipe, told, tmp_path):
    with pytest.raises(UserError, match=told):
        cross_validate(recipe, tmp_path / "out", 3, CPU, name="x")
    assert not (tmp_path / "out").exists()


def test_several_trainings_segment_no_image_without_a_name(validated):
    out, _ = validated
    method = OutOfFold("tiny", {"a": open_segmenter(out / "fold-1-of-3", CPU)})
    with pytest.raises(UserError, match="several trainings; name one"):
        method.segment(load_split(NETWORK.data, "all")[0].image, None)
