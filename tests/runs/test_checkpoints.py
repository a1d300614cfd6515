import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.checkpoints import Record, load_checkpoint, save_checkpoint
from usrl.runs.run import Run, create_run
from usrl.runs.tensors import load_tensors, save_tensors


def _started() -> tuple[nn.Linear, Optimizer]:
    module = nn.Linear(3, 2)
    return module, AdamW(module.parameters(), lr=0.1)


def _train_step(module: nn.Linear, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.arange(6.0).view(2, 3)).square().sum().backward()
    optimizer.step()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", NetworkRecipe(kind="network"))


def test_a_restored_training_continues_exactly(tmp_path: Path) -> None:
    (first, optimizer), (second, other) = _started(), _started()
    for _ in range(3):
        _train_step(first, optimizer)
    save_checkpoint(tmp_path / "c", {"network/": first, "optimizer.": optimizer}, {"step": 3})
    assert load_checkpoint(tmp_path / "c", {"network/": second, "optimizer.": other}) == {"step": 3}
    _train_step(first, optimizer)
    _train_step(second, other)
    assert torch.equal(first.weight, second.weight)
    assert other.state_dict()["state"][0]["step"] == 4


def test_names_in_the_file_are_those_that_earlier_checkpoints_have(tmp_path: Path) -> None:
    module, optimizer = _started()
    _train_step(module, optimizer)
    save_checkpoint(tmp_path / "c", {"network/": module, "optimizer.": optimizer}, {})
    keys = ("exp_avg", "exp_avg_sq", "step")
    expected = {f"optimizer.{number}.{key}" for number in (0, 1) for key in keys}
    assert load_tensors(tmp_path / "c")[0].keys() == expected | {"network/weight", "network/bias"}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("0.exp_avg", (5, 3)),
        ("0.exp_avg", ()),
        ("0.step", (2, 3)),
        ("2.exp_avg", ()),
        ("x.exp_avg", ()),
        ("-1", ()),
        ("", ()),
    ],
)
def test_optimizer_state_of_another_network_is_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    save_tensors(tmp_path / "c", {f"optimizer.{name}": torch.zeros(shape)})
    with pytest.raises(UserError, match=f"optimizer's '{name}' fits no parameter"):
        load_checkpoint(tmp_path / "c", {"optimizer.": _started()[1]})


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float64, torch.int64])
def test_optimizer_state_of_another_type_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    save_tensors(tmp_path / "c", {"optimizer.0.exp_avg": torch.zeros(2, 3, dtype=dtype)})
    with pytest.raises(UserError, match=r"optimizer's '0\.exp_avg' fits no parameter"):
        load_checkpoint(tmp_path / "c", {"optimizer.": _started()[1]})


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {"network/": nn.Linear(4, 2)}, {})
    with pytest.raises(UserError, match="another architecture: 'weight' is"):
        load_checkpoint(tmp_path / "c", {"network/": nn.Linear(3, 2)})


def test_a_record_keeps_the_best_weights_and_goes_on_where_its_checkpoint_ends(run: Run) -> None:
    module = nn.Linear(3, 2)
    record = Record(run, module, {"network/": module})
    assert not record.begin(resume=True)
    assert not run.log_path.exists()  # a training that is refused now leaves the folder as it was
    for step, score in ((1, 0.5), (2, 0.25)):
        record.step = step
        nn.init.constant_(module.weight, step)
        record.log({"val_score": score})
        record.checkpoint()
    record.step = 3
    record.log({"val_score": 0.125})  # and is killed before the checkpoint

    weights, facts = load_tensors(run.weights_path)
    assert facts == {"step": 1, "val_score": 0.5}
    assert weights["weight"].eq(1).all()
    later = Record(run, other := nn.Linear(3, 2), {"network/": other})
    assert later.begin(resume=True)
    assert (later.step, later.best) == (2, 0.5)
    assert later.seconds > 0
    assert other.weight.eq(2).all()
    assert [row["step"] for row in run.read_log()] == [1, 2]


def test_weights_that_a_kill_parted_from_their_row_are_replaced_by_better_ones_only(run: Run) -> None:
    module = nn.Linear(3, 2)
    record = Record(run, module, {"network/": module})
    for step, score in ((1, 0.5), (2, 0.75)):
        record.step = step
        record.log({"val_score": score})
        if step == 1:
            record.checkpoint()
    later = Record(run, module, {"network/": module})
    later.begin(resume=True)
    later.step = 2
    later.log({"val_score": 0.625})  # an agent that goes on learns otherwise than it had
    assert load_tensors(run.weights_path)[1] == {"step": 2, "val_score": 0.75}
    assert later.best == 0.75


def test_a_training_that_is_not_resumed_starts_over(run: Run) -> None:
    module = nn.Linear(3, 2)
    record = Record(run, module, {"network/": module})
    record.step = 1
    record.log({"val_score": 0.5})
    record.checkpoint()
    again = Record(run, module, {"network/": module})
    assert not again.begin(resume=False)
    assert (again.step, again.best) == (0, -math.inf)
    assert run.read_log() == []


def test_seconds_and_epoch_of_an_earlier_checkpoint_are_counted_on(run: Run) -> None:
    save_tensors(run.checkpoint_path, {}, {"epoch": 7, "best": 0, "seconds": 100.0})
    record = Record(run, nn.Identity(), {})
    assert record.begin(resume=True)
    assert record.step == 7
    assert 100 <= record.seconds < 110


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "step: Field required"),
        ({"step": -1, "best": 0.0, "seconds": 1.0}, "step: .* greater than or equal to 0, got -1"),
        ({"step": 1, "best": "high", "seconds": 1.0}, "best: .* valid number, got 'high'"),
        ({"step": 1, "best": 0.0, "seconds": 1.0, "hook": "x"}, "unknown key 'hook'"),
    ],
)
def test_a_checkpoint_with_facts_that_no_training_wrote_is_refused(
    run: Run, facts: dict[str, Any], message: str
) -> None:
    save_tensors(run.checkpoint_path, {}, facts)
    with pytest.raises(UserError, match=f"checkpoint.safetensors: {message}"):
        Record(run, nn.Identity(), {}).begin(resume=True)
