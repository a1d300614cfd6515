import pytest
import torch

from usrl.compute.devices import select_device
from usrl.errors import UserError


def test_device_names_are_checked() -> None:
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="must be auto"):
        select_device("gpu!")
    with pytest.raises(UserError, match=r"found \d+ CUDA devices"):
        select_device("cuda:99")


@pytest.mark.parametrize("name", ["meta", "mps", "xpu", "cpu:3", "cuda:00", "cuda:128", "CPU", ""])
def test_devices_that_usrl_does_not_compute_on_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"must be auto, cpu, cuda or cuda:N, got '{name}'"):
        select_device(name)


def test_the_message_names_where_the_device_was_given() -> None:
    with pytest.raises(UserError, match=r"^device must be auto, cpu, cuda or cuda:N, got 'gpu!'"):
        select_device("gpu!", "device")
    with pytest.raises(UserError, match=r"^--device cuda:99: .* use --device auto or cpu"):
        select_device("cuda:99")
