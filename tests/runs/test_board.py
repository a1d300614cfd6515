"""What TensorBoard shows of a training that was killed and went on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from usrl.learners import train_folder
from usrl.runs.checkpoints import Record
from usrl.runs.recipes import parse_recipe

AGENT = {
    "data": {"count": 12, "size": 64},
    "num_envs": 2,
    "total_steps": 80,
    "evaluate_every": 20,
    "checkpoint_every": 40,
    "policy_kwargs": {"width": 8, "layers": 1},
    "hyperparameters": {"n_steps": 10, "batch_size": 20, "n_epochs": 1},
}
NETWORK = {
    "kind": "network",
    "data": {"size": 32, "count": 20},
    "channels": [4, 8],
    "residual_units": 0,
    "epochs": 4,
}


@pytest.mark.parametrize(
    ("tree", "kill", "steps"), [(AGENT, 60, [0, 20, 40, 60, 80]), (NETWORK, 3, [1, 2, 3, 4])]
)
def test_steps_that_a_resumed_training_repeats_are_shown_once(
    tmp_path: Path, tree: dict[str, Any], kill: int, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse_recipe(tree, "tiny")
    checkpoint: Callable[[Record], None] = Record.checkpoint
    log = Record.log

    def end_without_checkpoint(record: Record) -> None:
        if record.step < kill:
            checkpoint(record)

    def end_after(record: Record, figures: dict[str, float]) -> None:
        if record.step > kill:
            raise KeyboardInterrupt
        log(record, figures)

    monkeypatch.setattr(Record, "checkpoint", end_without_checkpoint)
    monkeypatch.setattr(Record, "log", end_after)
    with pytest.raises(KeyboardInterrupt):
        train_folder(recipe, tmp_path / "run", torch.device("cpu"))
    monkeypatch.undo()
    run = train_folder(recipe, tmp_path / "run", torch.device("cpu"), resume=True)
    assert [row["step"] for row in run.read_log()] == steps
    shown = EventAccumulator(str(run.path / "tb")).Reload()
    tag = next(tag for tag in shown.Tags()["scalars"] if tag.endswith("val_score"))
    assert [event.step for event in shown.Scalars(tag)] == steps
