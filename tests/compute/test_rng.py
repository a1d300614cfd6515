"""Keyed random numbers."""

import torch

from usrl.compute.rng import episode_keys, mix, uniform

GAMMA = 0x9E3779B97F4A7C15


def splitmix64(seed: int, count: int) -> list[int]:
    """Return the published sequence in Python's unbounded integers."""
    values = []
    for place in range(1, count + 1):
        z = (seed + place * GAMMA) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        values.append(z ^ (z >> 31))
    return values


def test_draws_are_the_splitmix64_sequence_of_their_key() -> None:
    assert splitmix64(1234567, 1) == [6457827717110365317]  # the reference implementation's first number
    expected = [(value >> 40) / 2**24 for value in splitmix64(1234567, 5)]
    assert uniform(torch.tensor([1234567]), 5)[0].tolist() == expected


def test_draws_do_not_depend_on_the_batch_around_them() -> None:
    keys = torch.tensor([5, -9, 123456789012345])
    assert torch.equal(uniform(keys, 8)[1], uniform(keys[1:2], 8)[0])


def test_draws_are_uniform() -> None:
    draws = uniform(torch.arange(100), 1000)
    assert 0 <= float(draws.min())
    assert float(draws.max()) < 1
    assert abs(float(draws.mean()) - 0.5) < 0.005
    assert abs(float(draws.std()) - 12**-0.5) < 0.005


def test_neighbouring_seeds_and_episodes_have_different_keys() -> None:
    seeds, episodes = torch.arange(10_000) // 100, torch.arange(10_000) % 100
    keys = episode_keys(seeds, episodes)
    assert len(keys.unique()) == 10_000


def test_mix_is_a_bijection_on_a_sample() -> None:
    assert len(mix(torch.arange(-5000, 5000)).unique()) == 10_000
