import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_builders import write_dicom
from PIL import Image
from typer.testing import CliRunner

from usrl.classical import CLASSICAL
from usrl.cli import app
from usrl.cli.reports import _read_curves
from usrl.cli.training import _describe, _name_of, _next_command
from usrl.data.catalogue import DATASETS, load_split, load_train_and_val
from usrl.data.recipe import DataRecipe
from usrl.judging.network import JudgeNetwork
from usrl.judging.recipe import JudgeRecipe
from usrl.networks import training
from usrl.networks.models import build_network
from usrl.networks.recipe import NetworkRecipe
from usrl.registry import REGISTRY
from usrl.runs.leaks import keep_source
from usrl.runs.recipes import load_recipe
from usrl.runs.run import Run, create_run
from usrl.runs.tensors import save_tensors

RECIPE = NetworkRecipe(kind="network", data=DataRecipe(size=32, count=20), channels=[4, 8], epochs=1)
TINY = """
kind: network
data: {size: 32, count: 20}
channels: [4, 8]
residual_units: 0
epochs: 1
"""


def _usrl(*arguments: object, status: int = 0) -> str:
    """Run the command line; return what it printed, of an error the error alone."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return " ".join((result.stderr if status else result.output).split())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose network has never been trained."""
    run = create_run(tmp_path / "run", RECIPE)
    save_tensors(run.weights_path, build_network(RECIPE).state_dict())
    load_train_and_val(RECIPE.data, run.split_path)
    return run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60), np.uint8)).save(path)
    return path


def test_the_version_is_that_of_the_installed_package() -> None:
    assert _usrl("--version") == f"usrl {importlib.metadata.version('usrl')}"


def test_envs_of_an_id_shows_its_arguments_with_their_choices() -> None:
    printed = _usrl("envs", "usrl/ContourRefine-v0")
    assert "| `step_px` | `4.0` | longest move of a vertex in a step | working pixels |" in printed
    assert (
        '| `reward` | `"dice"` | the score whose change is paid: `dice`, `iou`, `dice+boundary` |' in printed
    )
    assert "unknown environment 'usrl/Contour'" in _usrl("envs", "usrl/Contour", status=2)


def test_a_module_that_registers_environments_is_imported_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told.py").write_text("print('imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert _usrl("--import", "told", "envs").startswith("imported usrl/ContourRefine-v0")
    assert "--import tolt: No module named 'tolt'" in _usrl("--import", "tolt", "envs", status=2)


def test_help_and_listing_need_no_torch() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from usrl.cli import app;"
        "assert not any(CliRunner().invoke(app, [c]).exit_code for c in ('envs', '--help'));"
        "assert not {'torch', 'monai', 'cv2', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("command", ["segment", "evaluate", "compare"])
def test_help_names_every_classical_method_and_data_set(command: str) -> None:
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "1000"}).output
    names = set(re.findall(r"[\w-]+", text))
    assert set(CLASSICAL) <= names
    assert command == "segment" or set(DATASETS) <= names


def test_envs_lists_every_registered_environment() -> None:
    text = _usrl("envs")
    assert all(env_id in text and row.summary in text for env_id, row in REGISTRY.items())


def test_phantom_is_written_and_checked_as_a_folder(tmp_path: Path) -> None:
    assert f"wrote 6 images with masks to {tmp_path / 'p'}" in _usrl(
        "data", "phantom", "--count", 6, "--out", tmp_path / "p"
    )
    assert "no faults" in _usrl("data", "check", "folder", "--root", tmp_path / "p")
    next((tmp_path / "p" / "masks").iterdir()).unlink()
    result = CliRunner().invoke(app, ["data", "check", "folder", "--root", str(tmp_path / "p")])
    assert result.exit_code == 1
    assert "FAULT" in result.output


def test_bodies_are_written_and_checked_as_volumes(tmp_path: Path) -> None:
    told = _usrl("data", "bodies", "--count", 2, "--seed", 5, "--out", tmp_path / "b")
    assert f"wrote 2 bodies to {tmp_path / 'b'}; use them with --data volumes --root" in told
    told = _usrl("data", "check", "volumes", "--root", tmp_path / "b")
    assert "volumes, folder 2" in told
    assert "no faults" in told
    (tmp_path / "b" / "labels" / "body-0001.nii.gz").write_bytes(b"none")
    result = CliRunner().invoke(app, ["data", "check", "volumes", "--root", str(tmp_path / "b")])
    assert result.exit_code == 1
    assert "FAULT" in result.output


def test_train_evaluate_compare_and_segment_go_through(
    tmp_path: Path, recipe: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = _usrl("train", recipe, "--device", "cpu")
    assert re.search(r"best val score 0\.\d{4} at epoch 1 of 1, in \d+ s", text)
    next_command = "usrl evaluate runs/tiny --data phantom --count 20"
    assert text.endswith(f"wrote runs/tiny/weights.safetensors; score it with `{next_command}`")
    assert "wrote runs/tiny/evaluation-phantom-test" in _usrl(*next_command.split()[1:], "--device", "cpu")
    assert "already holds something" in _usrl("train", recipe, status=2)
    text = _usrl("train", recipe, "--device", "cpu", "--resume")
    assert "runs/tiny is trained to its end already, nothing is left to do; best val score" in text
    data = ("--data", "phantom", "--count", 20, "--device", "cpu")
    assert "wrote runs/tiny/evaluation-phantom-val/report.html" in _usrl(
        "evaluate", "runs/tiny", *data, "--split", "val"
    )
    assert "wrote both/report.html" in _usrl("compare", "runs/tiny", "otsu", *data, "--out", "both")
    results = json.loads(Path("both/results.json").read_text())
    assert (results["dataset"], results["split"]) == ("phantom", "test")
    assert [row["method"] for row in results["rows"]] == ["tiny", "otsu"]
    assert "already holds something" in _usrl("compare", "otsu", *data, "--out", "both", status=2)
    absent = ("--data", "folder", "--root", "absent")
    told = _usrl("compare", "otsu", *absent, "--out", "both", status=2)
    assert "already holds something" in told, "said before images are looked for"
    assert "wrote otsu.csv" in _usrl("compare", "otsu", *data, "--out", "shared", "--cases", "otsu.csv")
    assert Path("otsu.csv").read_text().startswith("case,group,source,method,track,missed,dice,")
    text = _usrl("compare", "otsu", *data, "--out", "more", "--cases", "otsu.csv", status=2)
    assert "otsu.csv is there already" in text
    assert not Path("more").exists()
    assert "a run is named twice" in _usrl("compare", "otsu,otsu", *data, "--out", "twice", status=2)
    text = _usrl("compare", "runs/tiny,otsu", *data, "--out", "mean", status=2)
    assert "runs/tiny and otsu are two methods; put a space between different methods" in text
    shutil.copytree("runs/tiny", "runs/other")
    other = Path("runs/other/recipe.yaml")
    other.write_text(re.sub(r"(?m)^seed: 0", "seed: 1", other.read_text()))
    _usrl("compare", "runs/tiny,runs/other", "proposal", *data, "--out", "mean")
    rows = json.loads(Path("mean/results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["tiny", "other", "proposal", "tiny, mean of 2 runs"]
    text = _usrl("segment", "runs/tiny", image, "--out", "masks", "--spacing-mm", "0.2,0.1")
    assert re.search(r"image\.png: (nothing found|area \d+ px, perimeter [\d.]+ px, area [\d.]+ mm2)", text)
    assert text.endswith("wrote mask, overlay and JSON of 1 image to masks")
    assert len(list(Path("masks").iterdir())) == 3
    assert "is there already" in _usrl("segment", "runs/tiny", image, "--out", "masks", status=2)


def test_crossval_trains_each_fold_and_its_runs_are_scored_on_their_own_fold_only(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = _usrl("crossval", recipe, "--folds", 2, "--device", "cpu")
    assert re.search(r"Dice by fold: 0\.\d{3}, 0\.\d{3}; mean 0\.\d{3}, standard deviation 0\.\d{3}", text)
    assert text.endswith(
        "wrote runs/tiny-crossval/report/report.html, with cases.csv and results.json next to it"
    )
    assert "already holds something" in _usrl("crossval", recipe, "--folds", 2, status=2)
    assert "Dice by fold" in _usrl("crossval", recipe, "--folds", 2, "--resume")
    run, data = "runs/tiny-crossval/fold-2-of-2", ("--data", "phantom", "--count", 20)
    told = _usrl("evaluate", run, *data, status=2)
    assert "was trained on" in told
    assert "--folds 2 --fold 2, as in its recipe" in told
    _usrl("evaluate", run, *data, "--folds", 2, "--fold", 2)
    assert "was trained on" in _usrl(
        "evaluate", run, *data, "--folds", 2, "--fold", 1, "--out", "x", status=2
    )
    assert "folds and fold go together" in _usrl(
        "compare", "otsu", *data, "--folds", 2, "--out", "x", status=2
    )


def test_compare_takes_results_from_elsewhere_and_an_external_set(tmp_path: Path, run: Run) -> None:
    data = ("--data", "phantom", "--count", 20)
    _usrl("compare", "otsu", *data, "--out", tmp_path / "first")
    (tmp_path / "masks").mkdir()
    for sample in load_split("phantom", "test", count=20):
        Image.fromarray(255 * sample.target.astype(np.uint8)).save(tmp_path / "masks" / f"{sample.name}.png")
    _usrl("data", "phantom", "--out", tmp_path / "other", "--count", 6, "--seed", 1)
    added = ("--with", tmp_path / "first/cases.csv", "--masks", f"mine={tmp_path / 'masks'}")
    added += ("--prompted-masks", f"boxed={tmp_path / 'masks'}", "--external", f"folder={tmp_path / 'other'}")
    text = _usrl("compare", run.path, *data, *added, "--out", tmp_path / "second")
    results = json.loads((tmp_path / "second/results.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert list(rows) == ["run", "mine", "boxed", "otsu"]
    assert (rows["mine"]["dice"], rows["boxed"]["track"], rows["otsu"]["foreign"]) == (1.0, "prompted", True)
    assert "drop" in rows["run"]
    assert "drop" not in rows["mine"]
    assert results["external"] == {"dataset": "folder other", "images": 6, "groups": 6}
    assert "drop [95%]" in text


def test_an_external_set_is_one_that_no_run_has_learned_from(tmp_path: Path, run: Run) -> None:
    data = ("--data", "phantom", "--count", 20, "--out", tmp_path / "out")
    assert "is the data set of --data" in _usrl("compare", "otsu", *data, "--external", "phantom", status=2)
    _usrl("data", "phantom", "--out", tmp_path / "folder", "--count", 20)
    other = ("--data", "folder", "--root", tmp_path / "folder", "--out", tmp_path / "out")
    told = _usrl("compare", run.path, *other, "--external", "phantom", status=2)
    assert "run was trained on this data set" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", [("--user", "centre"), ("--env", "usrl/ProbeNavigate-v0")])
def test_results_from_elsewhere_are_refused_where_masks_of_images_are_not_scored(
    tmp_path: Path, way: tuple[str, str]
) -> None:
    method, data = ("pull", "phantom") if way[0] == "--user" else ("random", "bodies")
    words = ("compare", method, *way, "--data", data, "--with", tmp_path / "x.csv", "--out", tmp_path / "out")
    assert "are for masks of images, not" in _usrl(*words, status=2)


def test_compare_lets_a_user_correct_methods(tmp_path: Path) -> None:
    data = ("--data", "phantom", "--count", 20, "--split", "val", "--device", "cpu")
    text = _usrl("compare", "pull", "otsu-box+pull", *data, "--user", "centre", "--out", tmp_path / "out")
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["pull", "otsu-box+pull"]
    assert all(row["dice_after"]["3"] > row["dice_after"]["0"] for row in results["rows"])
    assert "corrected by centre" in text
    out = ("--out", tmp_path / "no")
    text = _usrl("compare", "pull", *data, "--user", "center", *out, status=2)
    assert "unknown user 'center'; did you mean 'centre'" in text
    text = _usrl("compare", "otsu-box", *data, "--user", "centre", *out, status=2)
    assert "'otsu-box' is neither a method that takes corrections nor a run" in text


def test_several_starts_are_asked_for_in_every_command_that_segments(tmp_path: Path, image: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "agents" / "contour-ppo", tmp_path / "agent")
    options = ("--data", "phantom", "--count", 12, "--seed", 3, "--device", "cpu", "--starts", 2)
    assert "agent/evaluation-phantom-test-x2/report.html" in _usrl("evaluate", tmp_path / "agent", *options)
    _usrl("compare", tmp_path / "agent", "otsu-box", *options, "--out", tmp_path / "both")
    agent, otsu = json.loads((tmp_path / "both" / "results.json").read_text())["rows"]
    assert (agent["method"], otsu["method"]) == ("agent x2", "otsu-box")
    assert agent["aurc"] >= agent["aurc_best"]
    assert "aurc" not in otsu
    out = ("--starts", 2, "--box", "10,10,40,40", "--out", tmp_path / "masks")
    _usrl("segment", tmp_path / "agent", image, *out)
    assert 0 < json.loads((tmp_path / "masks" / "image.json").read_text())["uncertainty"] < 1
    assert "--starts" in _usrl("segment", "otsu", image, "--starts", 0, "--out", tmp_path / "m", status=2)


def _move_to_train(split: Path, name: str) -> None:
    split.write_text(re.sub(f"\\w+\t{name}\n", f"train\t{name}\n", split.read_text()))


def test_test_images_that_a_run_was_trained_on_are_refused(tmp_path: Path, run: Run) -> None:
    data = ("--data", "phantom", "--count", 20, "--out", tmp_path / "out")
    name = load_split("phantom", "test", count=20)[0].name
    _move_to_train(run.split_path, name)
    message = _usrl("compare", "otsu", run.path, *data, status=2)
    assert f"was trained on 1 of these 4 test images, such as {name!r}" in message
    _usrl("compare", "otsu", run.path, *data, "--split", "val")
    with pytest.warns(UserWarning, match="has learned from 17 of these 20 images"):
        _usrl("evaluate", run.path, *data[:4], "--split", "all")


def test_a_run_of_the_same_images_without_its_split_is_scored_on_all_or_other_images_only(
    tmp_path: Path, run: Run
) -> None:
    run.split_path.unlink()
    data = ("--data", "phantom", "--count", 20, "--device", "cpu")
    for split in ("test", "val", "train"):
        message = _usrl("evaluate", run.path, *data, "--split", split, status=2)
        assert f"{run.path} was trained on the same data set 'phantom' and has no split.tsv" in message
    with pytest.warns(UserWarning, match=r"has no split\.tsv that tells on which images"):
        _usrl("evaluate", run.path, *data, "--split", "all")
    _usrl("evaluate", run.path, *data, "--seed", 1)


@pytest.mark.parametrize("split", ["", "train\tsomebody-else\n"])
def test_a_run_with_an_empty_or_foreign_split_is_not_trusted(run: Run, split: str) -> None:
    run.split_path.write_text(split)
    data = ("--data", "phantom", "--count", 20, "--device", "cpu")
    for part, count in (("test", 4), ("val", 2), ("train", 14)):
        message = _usrl("evaluate", run.path, *data, "--split", part, status=2)
        assert f"split.tsv does not name {count} of the images, such as 'phantom-" in message
    with pytest.warns(UserWarning, match="does not name 20 of the images"):
        _usrl("evaluate", run.path, *data, "--split", "all")


def test_test_images_that_a_judges_refiner_was_trained_on_are_refused(tmp_path: Path, run: Run) -> None:
    shipped = Path(__file__).parents[1] / "agents" / "contour-ppo"
    images = DataRecipe(size=32, count=20, variety=load_recipe(shipped).data.variety)
    recipe = JudgeRecipe(kind="judge", data=images, proposals="", refiner=str(shipped))
    judge = create_run(tmp_path / "judge", recipe)
    save_tensors(judge.weights_path, JudgeNetwork(recipe.channels, recipe.dropout).state_dict())
    shutil.copytree(shipped, judge.path / "refiner")
    load_train_and_val(recipe.data, judge.split_path)
    name = load_split("phantom", "test", count=20)[0].name
    _move_to_train(judge.path / "refiner" / "split.tsv", name)
    data = ("--data", "phantom", "--count", 20, "--variety", images.variety)
    message = _usrl("compare", f"{run.path}+{judge.path}", *data, "--out", tmp_path / "out", status=2)
    assert re.search(r"refiner was trained on \d of these 4 test images, such as 'phantom-", message)


def test_test_images_of_what_a_run_started_from_are_refused(tmp_path: Path, run: Run) -> None:
    name = load_split("phantom", "test", count=20)[0].name
    _move_to_train(run.split_path, name)
    agent = shutil.copytree(Path(__file__).parents[1] / "agents" / "contour-ppo", tmp_path / "agent")
    with (agent / "recipe.yaml").open("a") as recipe:
        recipe.write(f"init_from: {run.path}\n")
    keep_source(run, Run(agent, load_recipe(agent)))
    data = ("--data", "phantom", "--count", 20, "--out", tmp_path / "out")
    message = _usrl("compare", agent, *data, status=2)
    assert f"{agent / 'source'} was trained on 1 of these 4 test images, such as {name!r}" in message
    with pytest.warns(UserWarning, match="source has learned from 17 of these 20 images"):
        _usrl("compare", agent, *data, "--split", "all")


def test_training_images_without_labels_are_refused_unless_asked_for_so(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"data": DataRecipe(size=32, count=20, labels=0.3)})
    few = create_run(tmp_path / "few", recipe)
    save_tensors(few.weights_path, build_network(recipe).state_dict())
    load_train_and_val(recipe.data, few.split_path)
    data = ("--data", "phantom", "--count", 20, "--out", tmp_path / "out", "--split", "train")
    message = _usrl("evaluate", few.path, *data, status=2)
    assert "was not trained on 10 of these 14 train images" in message
    assert "give --split-seed 0 --count 20 --labels 0.3, as in its recipe" in message
    _usrl("evaluate", few.path, *data, "--labels", 0.3)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["n"] for row in rows] == [4]
    wrong = ("--data", "phantom", "--labels", 0, "--out", tmp_path / "none")
    assert "labels: Input should be greater than 0" in _usrl("compare", "otsu", *wrong, status=2)


def test_images_of_another_folder_with_the_same_names_are_not_refused(tmp_path: Path) -> None:
    for seed, place in enumerate(("a", "b")):
        _usrl("data", "phantom", "--count", 20, "--seed", seed, "--out", tmp_path / place)
    root = str(tmp_path / "a")
    recipe = RECIPE.model_copy(
        update={"data": RECIPE.data.model_copy(update={"name": "folder", "root": root})}
    )
    run = create_run(tmp_path / "run", recipe)
    save_tensors(run.weights_path, build_network(recipe).state_dict())
    run.split_path.write_text("".join(f"train\tphantom-{i:04d}\n" for i in range(20)))
    data = ("compare", "otsu", run.path, "--data", "folder", "--root")
    message = _usrl(*data, tmp_path / "a", "--out", tmp_path / "one", status=2)
    assert "was trained on" in message
    assert "give --split-seed 0, as in its recipe" in message
    _usrl(*data, tmp_path / "b", "--out", tmp_path / "two")


def test_a_folder_with_the_name_of_a_method_is_no_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "otsu").mkdir()
    monkeypatch.chdir(tmp_path)
    _usrl("compare", "otsu", run.path, "--data", "phantom", "--count", 20, "--out", tmp_path / "out")


def test_learning_curves_of_runs_of_one_name_are_told_apart(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / run.path.name
    shutil.copytree(run.path, other)
    for number, path in enumerate((run.path, other)):
        (path / "log.jsonl").write_text(json.dumps({"step": number, "val_score": 0.5}) + "\n")
    curves = _read_curves([run.path, other, run.path])
    assert {name: row["step"] for name, (row,) in curves.items()} == {"run": 0, "run (2)": 1}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("epochs=many", "epochs: Input should be a valid integer, got 'many'"),
        ("data.name=bussi", "unknown data set 'bussi': did you mean 'busi'"),
        ("network=unett", "unknown name 'unett'; did you mean 'unet'"),
        ("kind=networks", "kind must be one of agent, network, judge, features, got 'networks'"),
        ("data.name=folder", "name it with --root DIR"),
        ("epochs", "--set needs key=value, got 'epochs'"),
    ],
)
def test_train_explains_a_wrong_key(
    tmp_path: Path, recipe: Path, override: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USRL_DATA", raising=False)
    assert message in _usrl("train", recipe, "--set", override, "--out", tmp_path / "r", status=2)


def test_train_explains_a_missing_recipe_and_a_folder_it_cannot_write(tmp_path: Path, recipe: Path) -> None:
    assert "no such recipe" in _usrl("train", tmp_path / "none.yaml", status=2)
    assert "cannot write here" in _usrl("train", recipe, "--out", recipe / "run", status=2)
    (tmp_path / "photo.png").touch()
    assert "already holds something" in _usrl("train", recipe, "--out", tmp_path, status=2)


AGENT = """
data: {size: 64, count: 20}
num_envs: 4
total_steps: 40
hyperparameters: {n_steps: 10, batch_size: 40}
"""


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        (TINY, "channels=[4, 8, 16, 32, 64, 128]", "data.size: 6 levels want a multiple of 32"),
        (TINY, "init_from=nowhere", "init_from: nowhere: no such run"),
        (AGENT, "hyperparameters.n_step=5", "ppo has no 'n_step'; did you mean 'n_steps'"),
        (AGENT, "env.kwargs.vertexes=5", "unknown key 'vertexes'; did you mean 'vertices'"),
        (AGENT, "env.kwargs.observation=image", "use CnnPolicy for images"),
        (AGENT, "init_from=nowhere", "init_from: nowhere: no such run"),
        (AGENT, "init_from=agents/unet", "init_from: agents/unet holds a recipe to train"),
        (AGENT, "init_from=agents/unet-prompted", "init_from: agents/unet-prompted: wanted a recipe of kind"),
        (
            AGENT + "env: {kwargs: {proposal: network}}",
            "env.proposals=none",
            "env.proposals: none: no such folder",
        ),
        ("{kind: judge, proposals: .}", "refiner=nowhere", "refiner: nowhere: no such run"),
        ("{kind: judge, proposals: .}", "proposals=none", "proposals: none: no such folder; write proposals"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_before_images_are_made_and_the_folder(
    tmp_path: Path, recipe: str, override: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    monkeypatch.setattr("usrl.data.catalogue.load_phantom", lambda *_, **__: pytest.fail("images were made"))
    path = tmp_path / "wrong.yaml"
    path.write_text(recipe)
    out = ("--out", tmp_path / "out")
    assert message in _usrl("train", path, "--set", override, *out, status=2)
    search = ("--set", "search.learning_rate={low: 0.1, high: 0.2}")
    if "kind" in recipe:
        assert message in _usrl("tune", path, "--set", override, *search, *out, "--trials", 1, status=2)
    assert not (tmp_path / "out").exists()


def test_a_run_is_trained_and_resumed_by_its_own_folder_whatever_its_name(
    tmp_path: Path, recipe: Path
) -> None:
    folder = tmp_path / "runs" / "tiny.v2"
    _usrl("train", recipe, "--out", folder, "--device", "cpu")
    assert _name_of(folder) == _name_of(folder / "recipe.yaml") == "tiny.v2"
    assert _name_of(recipe) == "tiny"


def test_the_next_command_asks_for_the_images_that_a_run_was_split_from(tmp_path: Path) -> None:
    changed = {"name": "folder", "root": "my images", "split_seed": 2, "count": 9, "variety": 0.5}
    run = Run(tmp_path / "run", RECIPE.model_copy(update={"data": DataRecipe(**changed)}))
    wanted = f"usrl evaluate {run.path} --data folder --root '{Path.cwd() / 'my images'}' --split-seed 2"
    assert _next_command(run) == wanted
    simulated = {"name": "phantom", "root": None, "seed": 4}
    run = Run(run.path, RECIPE.model_copy(update={"data": DataRecipe(**(changed | simulated))}))
    assert _next_command(run).endswith("--data phantom --split-seed 2 --count 9 --seed 4 --variety 0.5")
    vessel = DataRecipe(name="usgra", structure="vessel")
    run = Run(run.path, RECIPE.model_copy(update={"data": vessel}))
    assert _next_command(run).endswith("--data usgra --structure vessel")
    judge = Run(run.path, JudgeRecipe(kind="judge", proposals=""))
    wanted = f"usrl compare NETWORK NETWORK+{run.path} --data phantom --out REPORT"
    assert _next_command(judge) == wanted


def test_a_finished_run_without_its_weights_is_not_resumed_in_silence(tmp_path: Path, recipe: Path) -> None:
    train = ("train", recipe, "--out", tmp_path / "out", "--device", "cpu")
    _usrl(*train)
    weights = tmp_path / "out" / "weights.safetensors"
    weights.unlink()
    message = _usrl(*train, "--resume", status=2)
    assert f"{weights} is missing, and the checkpoint there holds later weights" in message
    (tmp_path / "out" / "checkpoint.safetensors").unlink()
    assert f"wrote {weights}" in _usrl(*train, "--resume")


def test_users_are_warned_once_and_without_the_place_in_the_code(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(AGENT.replace("batch_size: 40", "batch_size: 30"))
    command = [sys.executable, "-m", "usrl", "train", path, "--out", tmp_path / "out", "--device", "cpu"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stderr.count("truncated mini-batch of size 10") == 1
    assert "usrl: You have specified a mini-batch size of 30" in found.stderr
    assert "UserWarning" not in found.stderr


def test_the_package_runs_as_the_command(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "usrl", "train", tmp_path / "none"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert "usrl: " in found.stderr
    assert "no such recipe" in found.stderr


def test_resuming_with_another_recipe_is_refused(run: Run, recipe: Path) -> None:
    assert "another recipe" in _usrl("train", recipe, "--out", run.path, "--resume", status=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="wants a machine without CUDA")
def test_cuda_without_a_gpu_is_explained(recipe: Path, run: Run, image: Path, tmp_path: Path) -> None:
    message = "--device cuda: found 0 CUDA devices; use --device auto or cpu"
    out = ("--out", tmp_path / "out", "--device", "cuda")
    assert message in _usrl("train", recipe, *out, status=2)
    assert message in _usrl("segment", run.path, image, *out, status=2)
    assert message in _usrl("compare", run.path, "--data", "phantom", *out, status=2)
    assert message in _usrl("demo", *out, status=2)


def test_interrupted_training_ends_with_130(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_network", interrupt)
    assert "--resume" in _usrl("train", recipe, "--out", tmp_path / "r", status=130)


def _remove(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _widen(path: Path) -> None:
    wider = RECIPE.model_copy(update={"channels": [8, 16]})
    save_tensors(path, build_network(wider).state_dict())


def _pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove, "weights.safetensors is missing; train the run again or resume it"),
        (_truncate, "truncated or not a safetensors file"),
        (_pickle, "truncated or not a safetensors file"),
        (_widen, "weights of another architecture"),
    ],
)
def test_unusable_weights_are_explained(
    run: Run, image: Path, tmp_path: Path, spoil: object, message: str
) -> None:
    spoil(run.weights_path)  # type: ignore[operator]
    out = ("--out", tmp_path / "out")
    assert message in _usrl("segment", run.path, image, *out, status=2)
    assert message in _usrl("evaluate", run.path, "--data", "phantom", *out, status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--box", "0,0,500,20"), "leaves the image, which is 60 x 50"),
        (("--box", "10,10,10,20"), "has no area"),
        (("--box", "10,10,20"), "a box is x0,y0,x1,y1 in pixels, got '10,10,20'"),
        ((), "needs a box"),
        (("--spacing-mm", ""), "--spacing-mm wants ROW,COLUMN in mm, got ''"),
    ],
)
def test_segment_explains_a_wrong_box(
    image: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in _usrl("segment", "proposal", image, *arguments, "--out", tmp_path / "out", status=2)


def test_segment_prints_sizes_with_units_box_by_box(image: Path, tmp_path: Path) -> None:
    boxes = ("--box", "9.5,9.5,29.5,29.5", "--box", "40,10,40.4,10.4")
    text = _usrl("segment", "proposal", image, *boxes, "--out", tmp_path / "out")
    assert "image.png: area 316 px, perimeter 63.63 px" in text
    assert "9.5,9.5,29.5,29.5: area 316 px, perimeter 63.63 px" in text
    assert "40,10,40.4,10.4: nothing found" in text
    assert text.endswith(f"JSON of 1 image to {tmp_path / 'out'}")


def test_segment_takes_dicom_and_a_window_and_prints_millimetres(tmp_path: Path) -> None:
    frames = np.full((1, 60, 80), 2000, np.uint16)
    frames[0, 20:30, 30:50] = 300
    write_dicom(tmp_path / "scan.dcm", frames, PixelSpacing=[0.5, 0.2], PatientName="DOE^JANE")
    call = ("segment", "otsu", tmp_path / "scan.dcm", "--window")
    text = _usrl(*call, "0,4095", "--out", tmp_path / "a")
    result = json.loads((tmp_path / "a" / "scan.json").read_text())
    assert result["area_mm2"] == pytest.approx(result["area_px"] * 0.5 * 0.2)
    assert result["area_px"] > 0
    assert f"area {result['area_mm2']:.2f} mm2" in text
    assert "DOE" not in text
    assert "1 DICOM images name no region; text that is burned into them is in their overlays" in text
    assert "a window is LOW,HIGH" in _usrl(*call, "9", "--out", tmp_path / "b", status=2)


def test_annotations_are_imported_and_used(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.fromarray(np.full((40, 50), 90, np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    marks = [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[10, 5, 30, 5, 30, 25, 10, 25]]}]
    images = [{"id": k, "file_name": f"{name}.png", "width": 50, "height": 40} for k, name in enumerate("ab")]
    tree = {"images": images, "annotations": marks, "categories": [{"id": 1, "name": "nerve"}]}
    (tmp_path / "coco.json").write_text(json.dumps(tree))
    call = ("data", "import", "coco", tmp_path / "coco.json", "--images", tmp_path / "photos", "--out")
    assert "--empty keep" in _usrl(*call, tmp_path / "out", status=2)
    text = _usrl(*call, tmp_path / "out", "--empty", "keep")
    assert "wrote 2 images" in text
    assert "nerve in 1; nothing in 1" in text
    assert "no faults" in _usrl("data", "check", "folder", "--root", tmp_path / "out")


def test_segment_says_where_nothing_was_found(image: Path, tmp_path: Path) -> None:
    box = ("--box", "40.1,10.1,40.4,10.4")
    text = _usrl("segment", "proposal", image, *box, "--out", tmp_path / "out")
    assert "image.png: nothing found" in text
    assert text.endswith("; nothing was found in 1 of them")


def test_segment_takes_the_boxes_of_several_images_from_a_file(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    shutil.copy(image, other)
    table, out = tmp_path / "boxes.csv", ("--out", tmp_path / "out")
    table.write_text("image,x0,y0,x1,y1\nother.png,1,2,30,40\nimage.png,5,6,20,30\nother.png,40,6,50,30\n")
    _usrl("segment", "proposal", image, other, "--boxes", table, *out)
    boxes = {p.stem: json.loads(p.read_text())["boxes"] for p in (tmp_path / "out").glob("*.json")}
    assert boxes == {"image": [[5, 6, 20, 30]], "other": [[1, 2, 30, 40], [40, 6, 50, 30]]}
    assert "--box is of one image, got 2 images" in _usrl(
        "segment", "proposal", image, other, "--box", "1,2,3,4", *out, status=2
    )
    assert "--box and --boxes are both given" in _usrl(
        "segment", "proposal", image, "--box", "1,2,3,4", "--boxes", table, *out, status=2
    )


def test_segment_tells_what_its_options_lack_before_torch_is_imported(image: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from usrl.cli import app;"
        "wrong = (['--box', '1,2,3'], ['--spacing-mm', '0,1'], ['--boxes', 'none.csv']);"
        f"call = ['segment', 'proposal', {str(image)!r}, '--out', {str(tmp_path / 'out')!r}];"
        "assert all(CliRunner().invoke(app, call + w).exit_code == 2 for w in wrong);"
        "assert not {'torch', 'monai', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_segment_explains_wrong_images_and_runs(run: Run, image: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "does not exist" in _usrl("segment", run.path, tmp_path / "none.png", *out, status=2)
    assert "not an image" in _usrl("segment", run.path, run.path / "recipe.yaml", *out, status=2)
    assert "neither a method nor a run" in _usrl("segment", "ots", image, *out, status=2)
    assert "'' is neither a method nor a run" in _usrl("segment", "", image, *out, status=2)
    boxed = ("--box", "10,10,40,40", "--box", "1,1,9,9")
    assert "otsu finds lesions by itself and takes no box, got 2; leave --box out" in _usrl(
        "segment", "otsu", image, *boxed, *out, status=2
    )
    assert "no such run" in _usrl("segment", tmp_path / "none", image, *out, status=2)
    other = tmp_path / "sub" / "image.png"
    assert "would be written to the same names" in _usrl("segment", run.path, image, other, *out, status=2)
    assert "--spacing-mm wants ROW,COLUMN" in _usrl(
        "segment", "otsu", image, "--spacing-mm", "0.1", *out, status=2
    )
    assert "two positive sizes" in _usrl("segment", "otsu", image, "--spacing-mm", "0,1", *out, status=2)
    written = ("--out", image / "out")
    assert "image.png" in _usrl("segment", run.path, image, *written, status=2)


def test_wrong_data_and_splits_are_explained(run: Run, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    compare = ("compare", "otsu", "--data")
    assert "unknown split 'tset': did you mean 'test'" in _usrl(
        *compare, "phantom", "--split", "tset", *out, status=2
    )
    assert "unknown data set 'bussi'" in _usrl(*compare, "bussi", *out, status=2)
    assert "no such folder" in _usrl(*compare, "busi", "--root", tmp_path / "none", *out, status=2)
    assert "unknown data set 'bussi'" in _usrl("data", "check", "bussi", status=2)
    assert "otsu is not a folder to write into" in _usrl("evaluate", "otsu", "--data", "phantom", status=2)
    several = _usrl("compare", "otsu", "proposal", "--data", "phantom", status=2)
    assert "several methods have no folder to write into; give the report's folder with --out" in several
    assert "neither a method nor a run" in _usrl("evaluate", "missing", "--data", "phantom", status=2)


def test_a_missing_data_set_leaves_no_run_behind(recipe: Path, tmp_path: Path) -> None:
    train = ("train", recipe, "--out", tmp_path / "new", "--set", "data.name=busi")
    assert "no such folder" in _usrl(*train, "--set", f"data.root={tmp_path / 'none'}", status=2)
    assert not (tmp_path / "new").exists()


def test_an_unknown_network_leaves_no_run_behind(recipe: Path, tmp_path: Path) -> None:
    train = ("train", recipe, "--out", tmp_path / "new", "--set", "network=unett")
    assert "unknown name 'unett'; did you mean 'unet'" in _usrl(*train, status=2)
    assert not (tmp_path / "new").exists()


def test_a_root_of_the_phantom_is_refused(recipe: Path, tmp_path: Path) -> None:
    message = f"data set 'phantom' is simulated and reads no folder, got the root {tmp_path}"
    out, root = ("--out", tmp_path / "out"), ("--root", tmp_path)
    assert message in _usrl("compare", "otsu", "--data", "phantom", *root, *out, status=2)
    assert message in _usrl("data", "check", "phantom", *root, status=2)
    assert message in _usrl("train", recipe, "--set", f"data.root={tmp_path}", *out, status=2)
    assert not (tmp_path / "out").exists()


def test_phantom_is_not_written_over_anything(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "already holds something" in _usrl("data", "phantom", "--out", tmp_path, status=2)
    written = ("data", "phantom", "--count", 1, "--out", tmp_path / "file" / "p")
    assert "p: cannot write here (Not a directory); choose another --out" in _usrl(*written, status=2)


def test_a_disk_that_fails_gets_a_line_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "mask.png")

    monkeypatch.setattr(Path, "write_bytes", fail)
    call = ("data", "phantom", "--count", 1, "--out", tmp_path / "p")
    message = "mask.png: No space left on device; check path, permissions and space"
    assert message in _usrl(*call, status=2)


def test_tune_searches_and_its_best_recipe_trains(tmp_path: Path, recipe: Path) -> None:
    out = tmp_path / "search"
    call = ("tune", recipe, "--trials", 2, "--out", out, "--device", "cpu")
    assert "the recipe has no `search`" in _usrl(*call, status=2)
    recipe.write_text(TINY + "search:\n  learning_rate: {low: 1.e-3, high: 1.e-2, log: true}\n")
    text = _usrl(*call)
    assert f"trial 2/2 in {out / 'trials' / '001'}: learning_rate=0.00" in text
    assert "best val score 0." in text
    assert text.endswith(
        f"wrote {out / 'best.yaml'}, with trials.csv and a run per trial in trials/ next to it"
    )
    assert "already holds something" in _usrl(*call, status=2)
    _usrl(*call, "--resume")
    _usrl("train", out / "best.yaml", "--out", tmp_path / "run", "--device", "cpu")


def test_training_checks_a_search_and_leaves_it_out_of_the_run(tmp_path: Path, recipe: Path) -> None:
    out = ("--out", tmp_path / "run", "--device", "cpu")
    override = ("--set", "search.epochs.low=1", "--set")
    assert "search.epochs: low must be less than high" in _usrl(
        "train", recipe, *override, "search.epochs.high=1", *out, status=2
    )
    _usrl("train", recipe, *override, "search.epochs.high=3", *out)
    assert "search" not in (tmp_path / "run" / "recipe.yaml").read_text()
    _usrl("train", recipe, *out, "--resume")


def test_proposals_want_a_network(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("kind: agent\n")
    message = _usrl("proposals", tmp_path / "agent.yaml", "--out", tmp_path / "out", status=2)
    assert "want a recipe of kind 'network', got 'agent'" in message


def test_proposals_are_written(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert f"--set env.proposals={out}" in _usrl("proposals", recipe, "--folds", 2, "--out", out)
    assert len(list(out.glob("*.png"))) == 16


def test_demo_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    assert "already holds something; choose another --out" in _usrl("demo", "--out", tmp_path, status=2)


def test_what_a_training_reached_is_what_its_weights_say(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", RECIPE)
    run.append_log({"step": 4, "seconds": 61.2, "val_score": 0.5})
    save_tensors(run.weights_path, {}, {})  # of earlier versions
    assert _describe(run) == "best val score 0.5000 at epoch 4 of 4, in 1 min 1 s"
    save_tensors(run.weights_path, {}, {"step": 3, "val_score": 0.75})  # whose row a kill has cut off
    assert _describe(run) == "best val score 0.7500 at epoch 3 of 4, in 1 min 1 s"


def test_a_network_of_clips_is_trained_scored_and_segments_a_clip(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(
        "kind: network\nnetwork: unet-convgru\ndata: {name: sweeps, size: 16, count: 8}\nchannels: [4, 8]\n"
        "residual_units: 0\nwindow: 4\nepochs: 1\n"
    )
    run, clips = tmp_path / "run", tmp_path / "clips"
    _usrl("train", tiny, "--out", run)
    printed = _usrl("evaluate", run, "--data", "sweeps", "--count", 8)
    assert "flicker [95%]" in printed
    assert (run / "evaluation-sweeps-test" / "report.html").is_file()
    printed = _usrl("data", "sweeps", "--count", 1, "--seed", 5, "--out", clips)
    assert "use them with --data clips" in printed
    video, out = clips / "clips" / "sweep-0000.mp4", tmp_path / "out"
    assert "wrote masks, overlay, areas and JSON of 1 clip to" in _usrl("segment", run, video, "--out", out)
    assert (out / "sweep-0000_overlay.mp4").is_file()
    told = _usrl("segment", run, video, "--box", "1,1,9,9", "--out", out, status=2)
    assert "clips are segmented without images, boxes" in told
    told = _usrl("segment", "contour-ppo", video, "--out", out, status=2)
    assert "clips are for automatic methods" in told
