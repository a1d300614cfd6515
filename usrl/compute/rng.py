"""Random numbers as a pure function of a key: the same on every device and in every batch.

A generator that advances would tie an environment's episodes to its neighbours in the batch and to the
device. Here each environment has a seed, and each of its episodes has a key. The draws of an episode are the
SplitMix64 sequence of that key.

Source:
    Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators, OOPSLA,
    doi:10.1145/2660193.2660195.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.compiled import compiled, is_compiled_for

# The constants of SplitMix64 as signed numbers: torch has no arithmetic on uint64.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def episode_keys(seeds: Tensor, episodes: Tensor) -> Tensor:
    """Return the key of each environment's episode, int64 (B,), from its seed and its earlier episodes."""
    if is_compiled_for(seeds):
        return torch.from_numpy(_episode_keys(seeds.numpy(), episodes.numpy()))
    return _mix(_mix(seeds + _GAMMA) + episodes * _GAMMA)


def step_keys(keys: Tensor, elapsed: Tensor) -> Tensor:
    """Return the random keys of one step, int64 (B,), from the episodes' keys and elapsed steps."""
    return mix(keys + elapsed)


def mix(bits: Tensor) -> Tensor:
    """Return the SplitMix64 finaliser of int64 numbers, (B,): a bijection that scatters every bit."""
    return torch.from_numpy(_mix_each(bits.numpy())) if is_compiled_for(bits) else _mix(bits)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Return the first ``count`` draws of each key, float32 in [0, 1), (B, count)."""
    if is_compiled_for(keys):
        return torch.from_numpy(_uniform(keys.numpy(), count))
    counter = torch.arange(1, count + 1, device=keys.device) * _GAMMA
    bits = _mix(keys[:, None] + counter)  # (B, count)
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mix(bits: Tensor) -> Tensor:
    # The masks fill with zeros: the shift of a signed number repeats the sign.
    bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * _FIRST
    bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return bits ^ ((bits >> 31) & 0x1FFFFFFFF)


_mix_one: Any = compiled(_mix)


@compiled
def _mix_each(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    mixed = np.empty_like(bits)
    for i in range(len(bits)):
        mixed[i] = _mix_one(bits[i])
    return mixed


@compiled
def _episode_keys(seeds: NDArray[np.int64], episodes: NDArray[np.int64]) -> NDArray[np.int64]:
    keys = np.empty_like(seeds)
    for i in range(len(seeds)):
        keys[i] = _mix_one(_mix_one(seeds[i] + _GAMMA) + episodes[i] * _GAMMA)
    return keys


@compiled
def _uniform(keys: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    draws = np.empty((len(keys), count), np.float32)
    for i in range(len(keys)):
        for place in range(count):
            bits = _mix_one(keys[i] + (place + 1) * _GAMMA)
            draws[i, place] = np.float32((bits >> 40) & 0xFFFFFF) * np.float32(2.0**-24)
    return draws
