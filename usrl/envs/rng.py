"""Random numbers as a pure function of a key: the same on every device and in every batch.

A generator that advances would tie an environment's episodes to its neighbours in the batch and to the
device. Here each environment has a seed, each of its episodes a key, and the draws of an episode are
the SplitMix64 sequence of that key.

Source:
    Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators, OOPSLA,
    doi:10.1145/2660193.2660195.
"""

import torch
from torch import Tensor

# The constants of SplitMix64 as signed numbers: torch has no arithmetic on uint64.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def mix(bits: Tensor) -> Tensor:
    """Return the SplitMix64 finaliser of int64 numbers: a bijection that scatters every bit."""
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)


def episode_keys(seeds: Tensor, episodes: Tensor) -> Tensor:
    """Return the key of each environment's episode.

    Args:
        seeds: Seed of each environment, int64, (B,).
        episodes: Number of episodes that each has begun before, int64, (B,).

    Returns:
        int64, (B,).
    """
    return mix(mix(seeds + _GAMMA) + episodes * _GAMMA)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Return the first ``count`` draws of each key, float32 in [0, 1), (B, count)."""
    counter = torch.arange(1, count + 1, device=keys.device) * _GAMMA
    bits = mix(keys[:, None] + counter)  # (B, count)
    return _shift(bits, 40).to(torch.float32) * 2.0**-24


def _shift(bits: Tensor, places: int) -> Tensor:
    """Shift right, filling with zeros: torch's own shift of int64 repeats the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
