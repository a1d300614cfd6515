"""A tiny recipe for the tests of agents."""

from pathlib import Path
from typing import Any

import pytest

from usrl.agents.recipe import AgentRecipe
from usrl.runs.recipes import parse_recipe

TINY: dict[str, Any] = {
    "data": {"count": 24, "size": 64},
    "num_envs": 8,
    "total_steps": 320,
    "evaluate_every": 160,
    "checkpoint_every": 160,
    "policy_kwargs": {"width": 16, "layers": 2},
    "hyperparameters": {"n_steps": 10, "batch_size": 40, "n_epochs": 1},
}


@pytest.fixture
def recipe() -> AgentRecipe:
    """Four rollouts of eight environments on 64 px phantoms."""
    parsed = parse_recipe(dict(TINY), "tiny")
    assert isinstance(parsed, AgentRecipe)
    return parsed


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for a run that is not there yet."""
    return tmp_path / "run"
