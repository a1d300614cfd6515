"""What trainings of networks share: the course of the learning rate, and randomness by epoch."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WARM_UP = 0.1


def rate_factor(progress: float) -> float:
    """Return the factor of the learning rate: a linear rise, then half a cosine down to zero.

    Args:
        progress: Share of the training that is done, in [0, 1].
    """
    if progress < _WARM_UP:
        return 0.01 + 0.99 * progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch: a resumed training draws what an uninterrupted one does."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, which initialise layers and drop units, and restore them after."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(epoch_seed(seed, epoch))
        yield
