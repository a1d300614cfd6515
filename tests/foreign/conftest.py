"""The foreign environment, registered through the public API and taken out again."""

from collections.abc import Iterator

import find_number
import gymnasium as gym
import pytest

import usrl
from usrl.registry import REGISTRY

ENV_ID = "test/FindNumber-v0"


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[str]:
    """Register the environment and its cases for the tests of a module."""
    usrl.register(
        ENV_ID,
        task=find_number.FindNumber,
        settings=find_number.FindSettings,
        max_episode_steps=8,
        summary="Walk to a number and stop",
        cases="numbers",
        default_cases=find_number.make_numbers,
    )
    yield ENV_ID
    del REGISTRY[ENV_ID], gym.registry[ENV_ID]
