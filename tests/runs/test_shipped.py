"""Agents that come with the package, found by name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from usrl.ablation.plan import load_plan, resolve_plan
from usrl.cli import app
from usrl.cli.reports import _report_folder, _run_folders
from usrl.errors import UserError
from usrl.runs.recipes import load_recipe
from usrl.runs.run import open_run
from usrl.runs.shipped import is_shipped, list_shipped, locate, shipped_root

ROOT = Path(__file__).parents[2] / "agents"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_recipe_under_agents_is_listed_with_a_short_summary() -> None:
    lines = CliRunner().invoke(app, ["agents"]).output.splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        path.parent.name for path in ROOT.glob("*/recipe.yaml")
    )
    assert all(line[-1] == "." and len(line) < 165 for line in lines)
    columns = {len(line) - len(line.split(maxsplit=1)[1]) for line in lines}
    assert len(columns) == 1, "kinds begin in one column"


@pytest.mark.parametrize("name", list_shipped())
def test_a_recipe_is_the_same_by_name_and_by_path(name: str) -> None:
    assert load_recipe(name) == load_recipe(ROOT / name / "recipe.yaml")


@pytest.mark.parametrize("key", ["init_from", "refiner"])
def test_shipped_recipes_name_only_shipped_runs_with_weights(key: str) -> None:
    named = {getattr(load_recipe(name), key, None) for name in list_shipped()} - {None}
    assert named
    assert all((ROOT / source / "weights.safetensors").is_file() for source in named)


def test_an_existing_path_wins_over_a_name(tmp_path: Path) -> None:
    assert locate("contour-ppo") == shipped_root() / "contour-ppo"
    (tmp_path / "contour-ppo").mkdir()
    (tmp_path / "contour-ppo" / "recipe.yaml").write_text("kind: network\n")
    assert locate("contour-ppo") == Path("contour-ppo")
    assert load_recipe("contour-ppo").kind == "network"
    assert not is_shipped("contour-ppo")


def test_a_misspelt_name_is_corrected_wherever_one_is_given() -> None:
    with pytest.raises(UserError, match=r"no such recipe; .*did you mean 'contour-ppo'"):
        load_recipe("contour-pop")
    with pytest.raises(UserError, match=r"no such run; .*did you mean 'contour-bc'"):
        open_run("agents/contour-bd")
    for command in (
        ["segment", "contour-pop", "x.png", "--out", "o"],
        ["compare", "contour-pop", "--data", "phantom", "--out", "o"],
    ):
        result = CliRunner().invoke(app, [*command, "--device", "cpu"])
        assert "did you mean 'contour-ppo'" in result.stderr


def test_a_plan_is_found_by_name_and_its_base_too(tmp_path: Path) -> None:
    variants = resolve_plan(load_plan("contour-ppo"), "contour-ppo", tmp_path / "out")
    assert variants[0].trainings[0].recipe.kind == "agent"
    (tmp_path / "plan.yaml").write_text("recipe: unet\ngroups: {jitter: {none: {augment.flip: false}}}\n")
    variants = resolve_plan(load_plan("plan.yaml"), "plan.yaml", tmp_path / "out")
    assert variants[0].trainings[0].recipe.kind == "network"


def test_a_chain_of_names_is_two_shipped_runs() -> None:
    assert _run_folders("unet-phantom+judge-phantom") == [ROOT / "unet-phantom", ROOT / "judge-phantom"]


def test_reports_of_shipped_agents_go_to_the_working_folder() -> None:
    assert _report_folder(["contour-ppo"], "evaluation") == Path("runs/contour-ppo-evaluation")
    assert _report_folder([str(ROOT / "contour-ppo")], "evaluation") == Path("runs/contour-ppo-evaluation")
    Path("mine").mkdir()
    assert _report_folder(["mine"], "evaluation") == Path("mine/evaluation")
