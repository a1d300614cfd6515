import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from usrl.cli import app
from usrl.data.catalogue import load_split
from usrl.data.recipe import DataRecipe
from usrl.data.sample import Sample
from usrl.errors import UserError
from usrl.learners import check_recipe
from usrl.networks.models import build_network
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.schedule import seeded
from usrl.networks.segmenter import NetworkSegmenter
from usrl.networks.training import train_network
from usrl.runs.recipes import dump_recipe
from usrl.runs.run import create_run, open_run
from usrl.runs.tensors import load_tensors


@pytest.fixture(autouse=True)
def _imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    importlib.import_module("own_nets")
    yield
    del sys.modules["own_nets"]


def _recipe(network: str, **changes: object) -> NetworkRecipe:
    data = DataRecipe(size=32, count=20)
    values = {"kind": "network", "network": network, "channels": [4, 8], "data": data, "epochs": 1}
    return NetworkRecipe.model_validate(values | changes)


def test_a_network_of_the_users_own_is_trained_and_opened(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", _recipe("own_nets:Build"))
    train_network(run, torch.device("cpu"))
    segmenter = NetworkSegmenter(open_run(run.path), torch.device("cpu"))
    assert segmenter.segment(_phantom().image).mask.shape == _phantom().image.shape


def _phantom() -> Sample:
    return load_split("phantom", "all", count=1)[0]


def test_a_recipe_shapes_a_network_of_the_users_own() -> None:
    network = build_network(_recipe("own_nets:Build", prompt="box"))
    assert [tuple(p.shape) for p in network.parameters() if p.ndim == 4] == [
        (4, 2, 3, 3),
        (8, 4, 3, 3),
        (1, 8, 1, 1),
    ]
    assert network.training


def test_every_output_of_a_network_learns(tmp_path: Path) -> None:
    recipe = _recipe("own_nets:Supervised", learning_rate=0.1, batch_size=2)
    with seeded(recipe.seed, 0, torch.device("cpu")):
        before = build_network(recipe).state_dict()["second.weight"]
    run = create_run(tmp_path / "run", recipe)
    train_network(run, torch.device("cpu"))
    after = load_tensors(run.checkpoint_path)[0]["network/second.weight"]
    assert (after - before).abs() > 0.01


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("own_nets:Halved", r"logits \(1, 1, 32, 32\), got \(1, 1, 16, 16\); change its last layer"),
        ("own_nets:Several", r"got a list; change"),
        ("own_nets:make_network", r"a class derived from torch.nn.Module, got a function"),
        ("own_nets:NUMBER", r"got a Tensor"),
        ("own_nets:Buildd", r"got nothing"),
        ("own_nets:Untaught", r"takes no recipe\); correct the class"),
        ("torch.nn:Identity", r"has no weights to learn"),
        ("no_such_package.nets:Build", r"not imported; name it, as in `usrl --import no_such_package.nets"),
        ("os:system", r"must be a class derived from torch.nn.Module, got a builtin_function"),
        (":Build", r"--import mypackage.nets train"),
    ],
)
def test_a_path_that_leads_to_no_network_is_explained(network: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_recipe(_recipe(network))


def test_a_recipe_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "own_nets")
    with pytest.raises(UserError, match="is of a module that is not imported"):
        build_network(_recipe("own_nets:Build"))
    assert "own_nets" not in sys.modules
    monkeypatch.setitem(sys.modules, "own_nets", None)  # for the fixture


def test_the_command_line_imports_the_module_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(_recipe("own_nets:Build")))
    words = ["--import", "own_nets", "train", str(path), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert open_run(tmp_path / "run").is_finished()
