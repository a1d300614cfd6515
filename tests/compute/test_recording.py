"""Functions that a GPU replays; without one they are called as they are."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from usrl.compute.recording import Recorded

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class Doubling:
    """Doubles, and counts how often Python did it."""

    def __init__(self, *, waits: bool = False) -> None:
        self.calls, self.waits = 0, waits

    def __call__(self, numbers: Tensor) -> list[Any]:
        self.calls += 1
        if self.waits:
            float(numbers[0])
        return [numbers * 2, None]


def test_on_a_cpu_every_call_is_a_call() -> None:
    doubling = Doubling()
    recorded = Recorded(doubling)
    for start in range(4):
        doubled, nothing = recorded(torch.arange(3) + start)
        assert torch.equal(doubled, 2 * (torch.arange(3) + start))
        assert nothing is None
    assert doubling.calls == 4


@ON_GPU
def test_a_gpu_replays_from_the_third_call_of_each_shape() -> None:
    doubling = Doubling()
    recorded = Recorded(doubling)
    for count in (3, 5):
        for start in range(6):
            numbers = torch.arange(count, device="cuda") + start
            assert torch.equal(recorded(numbers)[0], 2 * numbers)
    assert doubling.calls == 2 * 3
    assert torch.equal(copy.deepcopy(recorded)(numbers)[0], 2 * numbers)


@ON_GPU
def test_what_waits_for_a_gpu_is_called_as_it_is() -> None:
    doubling = Doubling(waits=True)
    recorded = Recorded(doubling)
    for start in range(5):
        numbers = torch.arange(3, device="cuda") + start
        assert torch.equal(recorded(numbers)[0], 2 * numbers)
    assert doubling.calls == 5 + 1  # the second call began twice
