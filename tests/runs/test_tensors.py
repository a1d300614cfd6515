from pathlib import Path

import pytest
import torch
from torch import nn

from usrl.errors import UserError
from usrl.runs.tensors import load_tensors, load_weights, save_tensors, unique_state


def test_saved_tensors_and_facts_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3).T, "b": torch.tensor(1.5)}
    save_tensors(tmp_path / "t", tensors, {"step": 3, "best": 0.5})
    found, facts = load_tensors(tmp_path / "t")
    assert facts == {"step": 3, "best": 0.5}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_truncated_weights_are_a_user_error(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="truncated or not a safetensors file"):
        load_tensors(path)


def test_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_tensors(tmp_path / "weights.safetensors")


def test_missing_weights_are_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        load_tensors(tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(3, 4), r"'(bias|weight)' is \(2"),
        (nn.Linear(3, 2, bias=False), "'bias' is"),
        (nn.Sequential(nn.Linear(3, 2)), "absent"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path: Path, other: nn.Module, message: str) -> None:
    save_tensors(tmp_path / "w", nn.Linear(3, 2).state_dict())
    with pytest.raises(UserError, match=f"another architecture: .*{message}"):
        load_weights(tmp_path / "w", other)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    save_tensors(tmp_path / "w", {name: t.to(dtype) for name, t in nn.Linear(3, 2).state_dict().items()})
    with pytest.raises(UserError, match=f"wanted torch.float32 of 'weight', got {dtype}"):
        load_weights(tmp_path / "w", nn.Linear(3, 2))


def test_numbers_that_torch_cannot_convert_are_refused(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}'
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(UserError, match=r"w: truncated or not a safetensors file .*train the run again"):
        load_tensors(tmp_path / "w")


def test_a_tensor_of_several_names_is_kept_once_and_found_under_all(tmp_path: Path) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 2)
            self.second = self.first

    module, other = Shared(), Shared()
    assert list(unique_state(module)) == ["first.weight", "first.bias"]
    save_tensors(tmp_path / "once", unique_state(module))
    save_tensors(tmp_path / "twice", module.state_dict())
    save_tensors(tmp_path / "odd", module.state_dict() | {"second.weight": torch.zeros(5)})
    for name in ("once", "twice", "odd"):
        nn.init.zeros_(other.first.weight)
        load_weights(tmp_path / name, other)
        assert torch.equal(other.second.weight, module.first.weight)
