"""A tiny plan for the tests of ablations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from usrl.runs.recipes import dump_yaml

BASE: dict[str, Any] = {
    "data": {"count": 24, "size": 64},
    "num_envs": 8,
    "total_steps": 80,
    "evaluate_every": 80,
    "checkpoint_every": 80,
    "policy_kwargs": {"width": 16, "layers": 2},
    "hyperparameters": {"n_steps": 10, "batch_size": 40, "n_epochs": 1},
}


@pytest.fixture
def write_plan(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe, and a plan over it from groups and other keys."""

    def write(groups: dict[str, Any], **others: Any) -> Path:
        (tmp_path / "recipe.yaml").write_text(dump_yaml(BASE))
        plan = {"groups": groups, "seeds": [0, 1]} | others
        (tmp_path / "ablation.yaml").write_text(dump_yaml(plan))
        return tmp_path

    return write
