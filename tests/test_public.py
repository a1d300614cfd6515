"""What `import usrl` offers, and what it does not load."""

import subprocess
import sys

import pytest

import usrl


def _run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_importing_the_package_registers_environments_and_loads_nothing_heavy() -> None:
    heavy = {"torch", "stable_baselines3", "monai", "cv2", "matplotlib", "numba", "pydantic", "scipy", "yaml"}
    script = (
        "import sys, gymnasium, usrl;"
        "assert 'usrl/ContourRefine-v0' in gymnasium.registry;"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    assert _run(script) == "[]"


@pytest.mark.parametrize("name", usrl.__all__)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert name in dir(usrl)
    assert getattr(usrl, name).__name__ == name


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(usrl, "Bnak")


@pytest.mark.parametrize(
    "module", ["usrl.agents.training", "usrl.agents.segmenter", "usrl.networks.proposals"]
)
def test_agents_are_imported_without_monai(module: str) -> None:
    assert _run(f"import sys, {module}; print('monai' in sys.modules)") == "False"


def test_a_segmenter_opens_by_name_on_a_device_by_name() -> None:
    assert usrl.open_segmenter("otsu").name == "otsu"
    assert usrl.open_segmenter("contour-ppo", device="cpu").name == "contour-ppo"
