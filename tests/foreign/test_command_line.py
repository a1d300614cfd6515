"""The foreign environment through the command line: trained, evaluated, compared and listed."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from find_number import load_numbers
from PIL import Image, ImageSequence
from typer.testing import CliRunner

from usrl.cli import app
from usrl.data.catalogue import DATASETS, register_dataset

RECIPE = """
env: {id: test/FindNumber-v0, kwargs: {drift: 0.1}, max_episode_steps: 8}
data: {name: numbers}
algorithm: ppo
policy: MultiInputPolicy
hyperparameters: {n_steps: 16, batch_size: 64, gamma: 0.9, learning_rate: 3.0e-3}
num_envs: 8
total_steps: 2048
evaluate_every: 1024
checkpoint_every: 1024
"""


@pytest.fixture(autouse=True, scope="module")
def data_set():
    register_dataset("numbers", load_numbers, kind="numbers")
    yield
    del DATASETS["numbers"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "recipe.yaml").write_text(RECIPE)
    call("train", folder / "recipe.yaml", "--out", folder / "run")
    return folder / "run"


def call(*words: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == status, result.output + str(result.exception)
    return result.output + result.stderr


def test_training_writes_a_run_with_scores_and_the_split(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1024, 2048]
    assert {"val_score", "val_initial_score", "val_worsened", "val_return", "val_found"} <= set(rows[-1])
    assert rows[-1]["train_found"] >= 0
    assert "dice" not in "".join(rows[-1])
    parts = [line.split("\t") for line in (run / "split.tsv").read_text().splitlines()]
    assert [part for part, _ in parts] == ["train"] * 12 + ["val"] * 12 + ["test"] * 12
    call("train", run.parent / "recipe.yaml", "--out", run, "--resume")  # nothing is left to do


@pytest.mark.parametrize("algorithm", ["ppo-device"])
def test_our_own_algorithms_train_it_too(algorithm: str, run: Path, tmp_path: Path) -> None:
    recipe = run.parent / "recipe.yaml"
    call("train", recipe, "--set", f"algorithm={algorithm}", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_a_comparison_plays_the_same_episodes_with_every_player(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    printed = call("compare", run, "random", "teacher", "--data", "numbers", "--split", "test", "--out", out)
    for word in ("run", "random", "teacher", "score [95%]", "found", "steps"):
        assert word in printed
    results = json.loads((out / "results.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert list(rows) == ["run", "random", "teacher"]
    assert rows["teacher"]["score"] > rows["random"]["score"]
    assert rows["run"]["score_low"] <= rows["run"]["score"] <= rows["run"]["score_high"]
    # The teacher sees the number: no test is made against it.
    assert [(test["first"], test["second"]) for test in results["tests"]] == [("run", "random")]
    with (out / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert len(cases) == 36
    assert {case["group"] for case in cases} == {f"group-{number}" for number in range(12, 18)}
    assert {float(case["score"]) for case in cases if case["method"] == "teacher"} != {0.0}
    page = (out / "report.html").read_text()
    assert page.count("data:image/webp") == 9  # the best, the median and the worst episode of each player
    assert "<script" not in page
    assert call("evaluate", run, "--data", "numbers", "--split", "val")
    assert (run / "evaluation-numbers-val" / "report.html").is_file()


def test_players_of_an_environment_of_images_are_compared_where_its_id_asks_for_it(tmp_path: Path) -> None:
    options = ["--env", "usrl/ContourRefine-v0", "--data", "phantom", "--count", 20, "--split", "val"]
    printed = call("compare", "random", "teacher", *options, "--out", tmp_path / "report")
    assert "initial_dice" in printed
    rows = json.loads((tmp_path / "report" / "results.json").read_text())["rows"]
    assert rows[1]["dice"] > 0.9 > rows[0]["dice"]


def test_what_does_not_fit_together_is_refused_with_both_names(run: Path, tmp_path: Path) -> None:
    recipe, out = run.parent / "recipe.yaml", tmp_path / "out"
    printed = call("train", recipe, "--set", "data.name=phantom", "--out", out, status=2)
    assert "test/FindNumber-v0 is about numbers, and data.name: phantom gives images" in printed
    printed = call("compare", run, "contour-ppo", "--data", "numbers", "--out", out, status=2)
    assert "players play in one environment" in printed
    printed = call("compare", "random", "--data", "numbers", "--out", out, status=2)
    assert "name a run of an agent, or --env ID" in printed
    printed = call("compare", run, "rendom", "--data", "numbers", "--out", out, status=2)
    assert "'rendom' is neither a run nor a player; did you mean 'random'?" in printed
    printed = call("segment", run, "image.png", "--out", out / "x", status=2)
    assert "make no masks" in printed


def test_it_is_listed_with_its_arguments() -> None:
    assert "test/FindNumber-v0" in call("envs")
    assert "| `drift` | `0.2` | chance of a step to the right |" in call("envs", "test/FindNumber-v0")


def test_runs_between_commas_add_their_mean_which_replaces_them_in_the_tests(
    run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    call("train", run.parent / "recipe.yaml", "--set", "seed=1", "--out", copy)
    out = tmp_path / "report"
    call("compare", f"{run},{copy}", "random", "--data", "numbers", "--split", "test", "--out", out)
    results = json.loads((out / "results.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    name = "run, mean of 2 runs"
    assert list(rows) == ["run", "copy", "random", name]
    assert rows[name]["found"] == pytest.approx((rows["run"]["found"] + rows["copy"]["found"]) / 2)
    assert [(test["first"], test["second"]) for test in results["tests"]] == [("random", name)]


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_a_film_shows_every_step_of_the_episode_of_a_case(run: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"film.{suffix}"
    words = ["film", "teacher", "--env", "test/FindNumber-v0", "--data", "numbers", "--case", "number-26"]
    printed = call(*words, "--out", out)
    steps = int(printed.split("wrote ")[1].split()[0])
    frames = read_frames(out)
    assert len({frame.tobytes() for frame in frames}) >= min(steps, 2)
    assert frames[0].shape[:2] == (8, 168)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert "is there already" in call(*words, "--out", out, status=2)


def read_frames(path: Path) -> list[np.ndarray]:
    if path.suffix != ".mp4":
        with Image.open(path) as film:
            return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    film, frames = cv2.VideoCapture(str(path)), []
    while (read := film.read())[0]:
        frames.append(read[1])
    return frames


def test_an_agent_whose_environment_makes_masks_is_filmed_too(tmp_path: Path) -> None:
    data = ["--data", "phantom", "--count", "20", "--seed", "9"]
    call("film", "contour-ppo", *data, "--split", "val", "--out", tmp_path / "film.gif")
    assert len(read_frames(tmp_path / "film.gif")) >= 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "film.avi"], "a film is one of .mp4, .gif, .webp"),
        (["--out", "film.gif", "--case", "number-2"], "no case 'number-2' in this part; did you mean"),
    ],
)
def test_a_film_that_cannot_be_made_is_refused(
    words: list[str], message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in call("film", run, "--data", "numbers", *words, status=2)
    assert not list(tmp_path.iterdir())
