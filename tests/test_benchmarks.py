"""What the benchmarks measure is what the recipes say."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from usrl.agents.device_ppo import DevicePPO
from usrl.agents.recipe import AgentRecipe
from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.runs.recipes import load_recipe

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.mark.parametrize(("name", "algorithm"), [("ppo", PPO), ("ppo-device", DevicePPO)])
def test_ppo_is_measured_with_the_recipe_of_contour_ppo(module_of: Any, name: str, algorithm: type) -> None:
    recipe = load_recipe(FOLDER.parent / "agents" / "contour-ppo")
    assert isinstance(recipe, AgentRecipe)
    model = module_of("contour_ppo").build(name, "cpu", batch_size=640)
    assert type(model) is algorithm
    assert model.batch_size == 640
    assert model.n_envs == recipe.num_envs
    assert (model.n_steps, model.n_epochs) == tuple(
        recipe.hyperparameters[key] for key in ("n_steps", "n_epochs")
    )
    assert model.lr_schedule(0.5) == pytest.approx(2.5e-4)
    assert model.observation_space.shape == (4, 64, 40)
    layers = [layer for layer in model.policy.features_extractor.convolutions if hasattr(layer, "weight")]
    assert len(layers) == recipe.policy_kwargs["layers"]


def test_a_row_of_a_bank_takes_less_than_half_of_the_801_kib_of_the_first_edition(module_of: Any) -> None:
    bank = Bank.from_samples(load_phantom(8))
    sizes = module_of("memory").bank_bytes(bank)
    assert sizes["bank"] == pytest.approx(2 * 128**2 * len(bank), rel=0.01)
    assert sizes["ProfileAtlas"] == pytest.approx(4 * 256**2 * len(bank), rel=0.01)
    assert sum(sizes.values()) / len(bank) < 400 * 1024


def test_options_and_rows_of_a_benchmark(
    module_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reporting = module_of("reporting")
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["some.py", "--json", str(file)])
    arguments = reporting.parse(reporting.make_parser("What it measures.\n\nMore."))
    reporting.print_machine(arguments)
    assert "1 thread(s), torch" in capsys.readouterr().out
    rows = [{"name": "contour vector", "device": arguments.device, "num_envs": 64, "steps_per_second": 1}]
    reporting.write_rows(rows, arguments.json)
    assert json.loads(file.read_text()) == rows
    reporting.write_rows(rows, None)


def test_scoring_is_measured_against_monai_and_with_its_report(
    module_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["scoring.py", "--images", "3", "--methods", "2", "--rounds", "1", "--monai-cases", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--json", str(tmp_path / "rows.json")])
    module_of("scoring").main()
    assert "3 images of phantom" in capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["what"], row["cases"]) for row in rows] == [
        ("scoring, usrl", 6),
        ("scoring, MONAI", 6),
        ("whole report", 6),
    ]


def test_stock_algorithms_are_examined_before_and_after_their_training(
    module_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = module_of("stock_ppo")
    monkeypatch.setattr(stock, "EPISODES", 100)
    words = ["stock_ppo.py", "--steps", "0", "--set", "step_px=0.1", "scale=pixel"]
    monkeypatch.setattr(sys, "argv", words)
    options = stock.read_options()
    assert options.settings == {"step_px": 0.1, "scale": "pixel"}
    row = stock.train(options, 0, stock.make_examination(options.env, options.settings, images=2))
    assert row["untrained"] == pytest.approx(0, abs=0.01)
    assert row["likeliest"] == pytest.approx(0, abs=0.001)
    assert row["seed"] == 0


@pytest.mark.slow
def test_stock_ppo_learns_with_its_defaults(module_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = module_of("stock_ppo")
    monkeypatch.setattr(sys, "argv", ["stock_ppo.py"])
    options = stock.read_options()
    row = stock.train(options, 0, stock.make_examination(options.env, {}))
    assert row["untrained"] < 0
    assert row["likeliest"] > 0.03
