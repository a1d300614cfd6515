"""The compiled loops of the CPU against the tensor formulas of every other device."""

from typing import Any

import pytest
import torch

from usrl.compute import rng
from usrl.data.bank import Bank
from usrl.envs.threshold import regions as threshold_regions
from usrl.envs.threshold import task as threshold
from usrl.geometry import area, moves, polygon, sampling
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"


def force_formulas(patch: pytest.MonkeyPatch) -> None:
    for module in (rng, threshold, threshold_regions, area, moves, polygon, sampling):
        patch.setattr(module, "is_compiled_for", lambda tensor: False)


def play_wildly(task: Any) -> list[Any]:
    """Return the states of episodes whose moves make contours bunch and cross."""
    index = torch.arange(48) % len(task.cases)
    states = [task.reset(index, rng.mix(index))]
    generator = torch.Generator().manual_seed(3)
    for _ in range(6):
        action = torch.rand(48, *task.action_space.shape, generator=generator) * 2 - 1
        states.append(task.step(states[-1], action)[0])
    return states


@pytest.mark.parametrize(
    "settings",
    [{}, {"proposal": "target"}, {"parametrization": "fourier"}, {"observation": "profile+start"}],
)
def test_loops_and_formulas_play_the_same_episodes(
    bank: Bank, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = build_task(ENV_ID, bank, settings)
    looped = play_wildly(task)
    profiles = task.observe(looped[-1])
    with monkeypatch.context() as patch:
        force_formulas(patch)
        computed = play_wildly(task)
        same = task.observe(looped[-1]) == profiles
    for one, other in zip(looped, computed, strict=True):
        assert torch.allclose(one.vertices, other.vertices, atol=2e-3)
        assert torch.allclose(one.dice, other.dice, atol=1e-3)  # a place may round to the next cell
    assert float(same.float().mean()) > 0.999


def test_loops_and_formulas_draw_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = torch.arange(-50, 50) * 987654321987654321
    mixed, draws = rng.mix(keys), rng.uniform(keys, 9)
    force_formulas(monkeypatch)
    assert torch.equal(rng.mix(keys), mixed)
    assert torch.equal(rng.uniform(keys, 9), draws)


def test_loops_and_formulas_agree_on_which_polygons_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    polygons = torch.rand(500, 12, 2, generator=generator) * torch.linspace(5, 80, 500)[:, None, None]
    polygons += polygon.ellipse_in_box(torch.tensor([[20.0, 20.0, 80.0, 80.0]]), 12)
    polygons[::5] = polygons[::5].flip(1)  # inside out
    looped = polygon.is_valid(polygons)
    force_formulas(monkeypatch)
    assert torch.equal(polygon.is_valid(polygons), looped)
    assert 100 < int(looped.sum()) < 400


@pytest.mark.parametrize("settings", [{}, {"polarity": "bright"}, {"grid": 1}, {"action": "raster"}])
def test_loops_and_formulas_score_and_draw_the_same_thresholds(
    bank: Bank, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = build_task("usrl/ThresholdSelect-v0", bank, settings)
    index = torch.arange(32) % len(bank)
    state = task.reset(index, rng.mix(index))
    for _ in range(5):
        state, _ = task.step(state, task.oracle_action(state))
    drawn, setting = task.observe(state), (state.case, state.level, state.size)
    assert torch.equal(task.regions.dice(*setting), state.dice)
    assert 0 < float((drawn[:, 1] == 255).float().mean()) < 1
    force_formulas(monkeypatch)
    assert torch.equal(task.observe(state), drawn)
    assert torch.equal(task.regions.dice(*setting), state.dice)
