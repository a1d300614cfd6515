import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

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


def _run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy: setuptools leaves folders in its source tree."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "usrl", source / "usrl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", cwd=source)
    return next((source / "dist").glob("*.whl"))


@pytest.mark.slow
def test_bare_wheel_has_environments_and_demonstration(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    binaries = tmp_path / "venv" / "bin"
    python = binaries / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    _run(*install, cwd=tmp_path)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    # A path in a .pth file shows this environment's packages but not its editable installs.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "usrl/ContourRefine-v0" in _run(binaries / "usrl", "envs", cwd=elsewhere)
    printed = _run(python, "-c", SCRIPT.format(site=str(site)), cwd=elsewhere)
    assert "['network', 'agent']" in printed
    assert not list(elsewhere.iterdir())
