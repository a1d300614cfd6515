"""Small banks for the tests of environments."""

import pytest
import torch

from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom


@pytest.fixture(scope="session")
def bank() -> Bank:
    """Six phantoms at 64 px with a smaller proposal each."""
    samples = load_phantom(6, seed=3, shape=(96, 96))
    return Bank.from_samples(samples, 64, proposals=[sample.target for sample in samples])


@pytest.fixture(scope="session")
def index(bank: Bank) -> torch.Tensor:
    """Every row of the bank, twice."""
    return torch.arange(len(bank)).repeat(2)
