"""Small banks for the tests of environments."""

from typing import Any

import pytest
import torch
from summary_builders import make_clip

from usrl.data.bank import Bank
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.volumes import VOLUMES, Volumes
from usrl.data.clips.clips import CLIPS, Clips
from usrl.data.phantom.dataset import load_phantom
from usrl.registry import REGISTRY


@pytest.fixture(scope="session")
def bank() -> Bank:
    """Six phantoms at 64 px with a smaller proposal each."""
    samples = load_phantom(6, seed=3, shape=(96, 96))
    return Bank.from_samples(samples, 64, proposals=[sample.target for sample in samples])


@pytest.fixture(scope="session")
def index(bank: Bank) -> torch.Tensor:
    """Every row of the bank, twice."""
    return torch.arange(len(bank)).repeat(2)


@pytest.fixture(scope="session")
def volumes() -> Volumes:
    """Four bodies."""
    return Volumes.from_bodies([make_body(3, index) for index in range(4)])


@pytest.fixture(scope="session")
def clips() -> Clips:
    """Six short clips."""
    return Clips.from_clips([make_clip(f"clip-{n}", n) for n in (12, 9, 20, 15, 17, 7)], 64)


@pytest.fixture
def cases(env_id: str, bank: Bank, volumes: Volumes, clips: Clips) -> Any:
    """The cases that the environment of a test is about."""
    return {VOLUMES: volumes, CLIPS: clips}.get(REGISTRY[env_id].cases, bank)
