import json
import subprocess
from pathlib import Path

import pytest
import torch

from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.recipe import Recipe
from usrl.runs.run import Run, create_run, open_run
from usrl.runs.tensors import (
    save_tensors,
)


@pytest.fixture
def recipe() -> Recipe:
    return NetworkRecipe(kind="network", epochs=2)


def test_log_is_cut_after_a_step_and_survives_a_torn_last_line(tmp_path: Path, recipe: Recipe) -> None:
    run = create_run(tmp_path / "run", recipe)
    for step in (1, 2, 3):
        run.append_log({"step": step, "val_score": step / 10})
    with run.log_path.open("a") as file:
        file.write('{"step": 4, "val_')
    run.truncate_log(2)
    assert [row["step"] for row in run.read_log()] == [1, 2]
    run.append_log({"step": 3, "val_score": 0.3})
    assert len(run.read_log()) == 3


def test_broken_line_inside_the_log_is_named(tmp_path: Path, recipe: Recipe) -> None:
    run = create_run(tmp_path / "run", recipe)
    run.log_path.write_text('{"step": 1, "val_score": 0.5}\noops\n{"step": 2, "val_score": 0.5}\n')
    with pytest.raises(UserError, match=r"line 2: not JSON .*remove the line"):
        run.read_log()


def test_run_without_log_reads_as_empty(tmp_path: Path, recipe: Recipe) -> None:
    assert create_run(tmp_path / "run", recipe).read_log() == []


def test_new_run_records_recipe_and_versions(tmp_path: Path, recipe: Recipe) -> None:
    run = create_run(tmp_path / "deep" / "run", recipe)
    assert {p.name for p in run.path.iterdir()} == {"recipe.yaml", "versions.json"}
    versions = json.loads((run.path / "versions.json").read_text())
    assert versions["torch"].startswith(torch.__version__.split("+")[0])
    root = Path(__file__).parents[2]
    if (root / ".git").exists():  # sources that are a checkout have a commit
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        assert versions["commit"] == subprocess.check_output(command, text=True).strip()
    assert create_run(run.path, recipe, resume=True) == run


def test_new_run_refuses_a_folder_that_holds_something(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(UserError, match="already holds something"):
        create_run(tmp_path, recipe)
    with pytest.raises(UserError, match="already holds something"):
        create_run(tmp_path, recipe, resume=True)


def test_a_run_is_called_as_its_folder_and_a_number_with_the_parent(tmp_path: Path, recipe: Recipe) -> None:
    assert create_run(tmp_path / "agent", recipe).name == "agent"
    assert create_run(tmp_path / "base" / "0", recipe).name == "base/0"


def test_what_differs_from_a_runs_recipe_is_named_with_both_values(tmp_path: Path) -> None:
    before = AgentRecipe(env=EnvRecipe(kwargs={"vertices": 32}), policy_kwargs={"layers": 2})
    create_run(tmp_path / "run", before)
    few = before.model_copy(update={"env": EnvRecipe(kwargs={"samples": 48}), "seed": 3})
    with pytest.raises(UserError) as raised:
        create_run(tmp_path / "run", few, resume=True)
    assert (
        "another recipe: seed was 0 and is 3 now, env.kwargs.vertices was 32 and is absent now, "
        "env.kwargs.samples was absent and is 48 now; resume" in str(raised.value)
    )
    with pytest.raises(UserError, match=r"kind was 'agent' and is 'network' now, .*, and \d\d more; resume"):
        create_run(tmp_path / "run", NetworkRecipe(kind="network"), resume=True)


@pytest.mark.parametrize(
    ("step", "has_weights", "finished"), [(2, True, True), (1, True, False), (2, False, False)]
)
def test_a_run_is_finished_at_its_recipes_end_with_weights(
    tmp_path: Path, recipe: Recipe, step: int, has_weights: bool, finished: bool
) -> None:
    run = create_run(tmp_path / "run", recipe)
    assert not run.is_finished()
    run.append_log({"step": step, "val_score": 0.5})
    if has_weights:
        save_tensors(run.weights_path, {})
    assert run.is_finished() == finished


def test_a_folder_that_ships_a_recipe_alone_is_said_to_be_one_to_train() -> None:
    folder = Path(__file__).parents[2] / "agents" / "unet"
    with pytest.raises(
        UserError, match=f"a recipe to train and no weights; .*`usrl train {folder} --out RUN`"
    ):
        open_run(folder)


def test_resuming_with_another_recipe_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    create_run(tmp_path / "run", recipe)
    with pytest.raises(UserError, match="another recipe"):
        create_run(tmp_path / "run", NetworkRecipe(kind="network", epochs=3), resume=True)


def test_unwritable_folder_is_a_user_error(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write here"):
        create_run(tmp_path / "file" / "run", recipe)


def test_opening_wants_a_folder_and_weights(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(UserError, match="no such run"):
        open_run(tmp_path / "absent")
    with pytest.raises(
        UserError, match=r"no recipe\.yaml is here, so this is not a run; name a folder that `usrl"
    ):
        open_run(tmp_path)
    run = create_run(tmp_path / "run", recipe)
    with pytest.raises(UserError, match=r"weights\.safetensors is missing"):
        open_run(run.path)
    save_tensors(run.weights_path, {})
    assert open_run(run.path) == Run(run.path, recipe)


def test_a_folder_with_a_recipe_of_ones_own_is_not_overwritten(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "recipe.yaml").write_text("kind: agent\n")
    with pytest.raises(UserError, match="already holds something"):
        create_run(tmp_path, recipe)
    assert (tmp_path / "recipe.yaml").read_text() == "kind: agent\n"
