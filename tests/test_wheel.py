"""The built wheel, installed into an empty environment and used in an empty folder."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SCRIPT = """
import pathlib
import gymnasium as gym
import usrl
from usrl.demo.pipeline import load_demo_recipe

assert pathlib.Path(usrl.__file__).is_relative_to({site!r}), usrl.__file__
assert (pathlib.Path(usrl.__file__).parent / "py.typed").is_file()
env = gym.make("usrl/ContourRefine-v0")
env.reset(seed=0)
env.step(env.action_space.sample())
print([load_demo_recipe(name).kind for name in ("unet", "agent")])
"""
TINY = {
    "data.count": 12,
    "data.variety": 0,
    "num_envs": 2,
    "total_steps": 40,
    "evaluate_every": 40,
    "hyperparameters.n_steps": 10,
    "hyperparameters.batch_size": 20,
    "hyperparameters.n_epochs": 1,
}


def _run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, and shows the packages that this one has."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    _run(*install, cwd=folder)
    site = next((folder / "lib").glob("python*/site-packages"))
    # A path in a .pth file shows this environment's packages but not its editable installs.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site


def test_a_wheel_holds_every_shipped_agent_as_it_is_in_the_checkout(wheel: Path) -> None:
    shipped = {
        path.relative_to(ROOT / "agents").as_posix(): path.read_bytes()
        for path in (ROOT / "agents").rglob("*")
        if path.is_file() and path.suffix != ".md"
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if name.startswith("usrl/shipped/")}
        assert found == {f"usrl/shipped/{name}" for name in shipped}
        assert all(archive.read(f"usrl/shipped/{name}") == content for name, content in shipped.items())


@pytest.mark.parametrize(
    ("folder", "known"),
    [
        ("usrl/page/static", {"index.html", "main.js"}),
        ("usrl/evaluation/report/templates", {"report.html", "report.js"}),
    ],
)
def test_a_wheel_holds_every_file_of_the_pages(wheel: Path, folder: str, known: set[str]) -> None:
    names = {path.name for path in (ROOT / folder).iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        assert {f"{folder}/{name}" for name in names} <= set(archive.namelist())
    assert known <= names


def test_an_editable_install_copies_no_agent() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert settings["dev-mode-dirs"] == ["."]
    assert "force-include" not in settings["targets"]["wheel"]  # which editable installs copy


def test_an_installed_wheel_segments_and_trains_by_name_in_an_empty_folder(
    site: Path, tmp_path: Path
) -> None:
    binaries = site.parents[2] / "bin"
    usrl, before = binaries / "usrl", {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    assert "usrl/ContourRefine-v0" in _run(usrl, "envs", cwd=tmp_path)
    listed = _run(usrl, "agents", cwd=tmp_path).splitlines()
    assert any(
        line.split()[:4] == ["contour-ppo", "agent", "usrl/ContourRefine-v0", "weights"] for line in listed
    )
    assert len(listed) == len(list((ROOT / "agents").glob("*/recipe.yaml")))
    assert "['network', 'agent']" in _run(
        binaries / "python", "-c", SCRIPT.format(site=str(site)), cwd=tmp_path
    )
    assert not list(tmp_path.iterdir())

    pixels = np.full((64, 64), 200, np.uint8)
    pixels[20:40, 24:44] = 40
    Image.fromarray(pixels).save(tmp_path / "image.png")
    box = ("--box", "22,18,46,42", "--out", "masks", "--device", "cpu")
    assert "area" in _run(usrl, "segment", "contour-ppo", "image.png", *box, cwd=tmp_path)
    options = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    _run(usrl, "train", "contour-ppo", *options, "--device", "cpu", cwd=tmp_path)
    assert (tmp_path / "runs" / "contour-ppo" / "weights.safetensors").is_file()
    assert {path for path in site.rglob("*") if "__pycache__" not in path.parts} == before


def test_constraints_pin_what_pyproject_names_and_nothing_else() -> None:
    """A pin of anything else keeps other packages out: python-dateutil 4 kept out rl-zoo3."""

    def normalise(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.findall(r"^[\w.-]+", requirement)[0]).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [normalise(line) for line in lines if not line.startswith("#")]
    assert sorted(pinned) == sorted({normalise(name) for name in named})
