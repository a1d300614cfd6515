"""Threshold selection as a task."""

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import usrl  # noqa: F401 - registers the environments
from usrl.data.bank import Bank
from usrl.envs.task import follow_teacher
from usrl.envs.threshold.task import ThresholdTask
from usrl.errors import UserError
from usrl.metrics.overlap import dice
from usrl.registry import build_task

ENV_ID = "usrl/ThresholdSelect-v0"
VARIANTS: list[dict[str, Any]] = [
    {},
    {"grid": 1, "clean": "largest+holes"},
    {"grid": 4, "action": "raster"},
    {"clean": "largest+holes"},
    {"roi": "image", "polarity": "bright", "filter": "srad"},
    {"observation": "features"},
    {"observation": "features", "action": "raster"},
]


def make(bank: Bank, **settings: Any) -> ThresholdTask:
    task = build_task(ENV_ID, bank, settings)
    assert isinstance(task, ThresholdTask)
    return task


def actions(task: ThresholdTask, count: int, seed: int) -> torch.Tensor:
    space = gym.vector.utils.batch_space(task.action_space, count)
    space.seed(seed)
    return torch.from_numpy(space.sample())


@pytest.mark.parametrize("settings", VARIANTS)
@pytest.mark.parametrize("reward", ["dice", "iou"])
def test_rewards_sum_to_final_minus_initial_score(
    bank: Bank, index: torch.Tensor, settings: dict[str, Any], reward: str
) -> None:
    task = make(bank, reward=reward, **settings)
    start = state = task.reset(index, index * 31)
    total = torch.zeros(len(index))
    for step in range(10):
        state, paid = task.step(state, actions(task, len(index), step))
        total += paid
    score = {"dice": lambda d: d, "iou": lambda d: d / (2 - d)}[reward]
    assert torch.allclose(total, score(state.dice) - score(start.dice), atol=1e-5)
    assert (state.dice != start.dice).any()


@pytest.mark.parametrize("settings", VARIANTS[:5])
def test_dice_is_that_of_the_shown_mask(bank: Bank, index: torch.Tensor, settings: dict[str, Any]) -> None:
    task = make(bank, margin=0.5, **settings)  # the region holds the whole target
    state = task.reset(index, index * 31)
    for step in range(4):
        masks, targets = task.mask(state).numpy(), task.regions.tables.targets[state.case].numpy()
        found = [dice(mask, target) for mask, target in zip(masks, targets, strict=True)]
        assert state.dice.numpy() == pytest.approx(found, abs=1e-6)
        state, _ = task.step(state, actions(task, len(index), step))


def test_a_target_that_the_region_cuts_is_still_counted_whole(bank: Bank) -> None:
    narrow = make(bank, margin=0.0, jitter=0.45, support="rectangle")
    state = narrow.reset(torch.arange(6), torch.arange(6))
    inside = narrow.regions.tables.targets.flatten(1).sum(dim=1)
    assert (narrow.regions.tables.target_area > inside + 1).any()
    assert (state.dice < 1).all()


def test_the_sign_reward_pays_one_for_better_and_takes_one_for_worse(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, reward="sign", grid=1)
    state = task.reset(index, index * 31)
    after, reward = task.step(state, torch.tensor([[2, 1]]).expand(len(index), -1))
    assert torch.equal(reward, (after.dice - state.dice).sign())
    assert set(reward.tolist()) <= {-1.0, 0.0, 1.0}


def test_an_action_changes_each_tile_by_its_own_choice(bank: Bank) -> None:
    task = make(bank)
    state = task.reset(torch.tensor([0]), torch.tensor([0]))
    action = torch.tensor([[2, 2, 0, 1, 1, 2, 1, 1]])  # threshold and opening of four tiles
    after, _ = task.step(state, action)
    assert (after.level - state.level).tolist() == [[1, -1, 0, 0]]
    assert (after.size - state.size).tolist() == [[1, 0, 1, 0]]


def test_raster_actions_visit_the_tiles_in_turn(bank: Bank) -> None:
    task = make(bank, action="raster", grid=2)
    assert task.action_space == gym.spaces.Discrete(9)
    state = task.reset(torch.tensor([0]), torch.tensor([0]))
    changes = []
    for step in range(5):
        marked = task.observe(state)[0, 3].view(2, 32, 2, 32).float().mean(dim=(1, 3)).flatten()
        assert marked.tolist() == [255.0 * (tile == step % 4) for tile in range(4)]
        after, _ = task.step(state, torch.tensor([3 * 2 + 2]))
        changes.append((after.level - state.level)[0].tolist())
        state = after
    assert changes == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_moves_beyond_the_ends_do_nothing(bank: Bank) -> None:
    task = make(bank, thresholds=3, sizes=2)
    state = task.reset(torch.tensor([0]), torch.tensor([0]))
    for _ in range(5):
        state, _ = task.step(state, torch.full((1, 8), 2))
    assert (state.level == 2).all()
    assert (state.size == 1).all()
    for _ in range(5):
        state, _ = task.step(state, torch.zeros(1, 8, dtype=torch.int64))
    assert (state.level == 0).all()
    assert (state.size == 0).all()


def test_observations_hold_region_mask_and_thresholds(bank: Bank) -> None:
    task = make(bank)
    state, _ = task.step(task.reset(torch.tensor([2]), torch.tensor([1])), torch.tensor([[2, 1] + [1] * 6]))
    seen = task.observe(state)[0]
    assert torch.equal(seen[0], task.regions.tables.images[state.case[0]])
    assert torch.equal(seen[1], task.mask(state)[0].to(torch.uint8) * 255)
    first, others = seen[2, :32, :32].unique(), seen[2, 32:].unique()
    assert first.tolist() == [int(task.regions.tables.levels[state.case[0], state.level[0, 0]])]
    assert others.tolist() == [int(task.regions.tables.levels[state.case[0], state.level[0, 1]])]


def test_a_bright_object_is_a_dark_one_of_the_inverse_image(bank: Bank) -> None:
    inverse = replace(bank, images=255 - bank.images)
    dark, bright = make(bank, filter="none"), make(inverse, polarity="bright", filter="none")
    row = torch.arange(6)
    one, other = dark.reset(row, row), bright.reset(row, row)
    assert torch.equal(one.dice, other.dice)
    assert torch.equal(dark.mask(one), bright.mask(other))
    assert (dark.observe(one)[:, 2].int() + bright.observe(other)[:, 2].int() == 255).all()


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_oracle_beats_random_and_the_start(
    bank: Bank, index: torch.Tensor, settings: dict[str, Any]
) -> None:
    task = make(bank, **settings)
    task.horizon = 60
    start = state = task.reset(index, index * 31)
    for step in range(10):
        state, _ = task.step(state, actions(task, len(index), step))
    reached = follow_teacher(task, start).dice
    assert float(reached.mean()) > float(state.dice.mean()) + 0.02
    assert (reached >= start.dice - 1e-6).all()


def test_more_tiles_raise_the_ceiling(bank: Bank) -> None:
    row = torch.arange(6)
    ceilings = []
    for grid in (1, 2, 4):
        task = make(bank, grid=grid, boxes=1)
        state = task.reset(row, row)
        best = task.regions.best[state.case]
        ceilings.append(float(task.regions.dice(state.case, best[..., 1], best[..., 0]).mean()))
    assert ceilings[0] < ceilings[1] < ceilings[2]


def test_cleaned_tiles_are_the_oracles_too(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, clean="largest+holes", thresholds=6, sizes=2, boxes=1)
    row = torch.arange(6)
    state = task.reset(row, row)
    best = task.regions.best
    assert (task.regions.dice(state.case, best[..., 1], best[..., 0]) >= state.dice).all()


def test_boxes_without_jitter_and_margin_are_the_targets_bounding_boxes(bank: Bank) -> None:
    task = make(bank, jitter=0.0, margin=0.0, boxes=1)
    for region, target in zip(task.regions.cut, bank.targets.numpy(), strict=True):
        rows, columns = np.nonzero(target)
        wanted = columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5
        assert region.box == pytest.approx(wanted)


def test_regions_lie_around_network_proposals_where_asked(bank: Bank) -> None:
    shifted = replace(bank, proposals=bank.targets.roll(7, dims=2))
    task = make(shifted, roi="network", jitter=0.0, margin=0.0, boxes=1)
    for region, proposal in zip(task.regions.cut, shifted.proposals.numpy(), strict=True):  # type: ignore[union-attr]
        columns = np.flatnonzero(proposal.any(axis=0))
        assert region.box[0] == pytest.approx(columns[0] - 0.5)
        assert region.box[2] == pytest.approx(columns[-1] + 0.5)
    with pytest.raises(
        UserError,
        match=r"needs a bank with proposals, got one without; .* env\.proposals .* Bank\.from_samples",
    ):
        make(replace(bank, proposals=None), roi="network")


def test_a_constant_image_gives_the_whole_support_and_no_reward(bank: Bank) -> None:
    flat = replace(bank, images=torch.full_like(bank.images, 90))
    task = make(flat)
    state = task.reset(torch.arange(6), torch.arange(6))
    after, reward = task.step(state, actions(task, 6, 0))
    assert (reward == 0).all()
    for mask, case in zip(task.mask(after).numpy(), after.case.tolist(), strict=True):
        assert (mask == task.regions.cut[case].support).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": 3}, "3 tiles do not divide a side of 64 px"),
        ({"grid": 9}, "grid: .*less than or equal to 8"),
        ({"thresholds": 1}, "thresholds: .*greater than or equal to 2"),
        ({"thresholds": 257}, "thresholds: .*less than or equal to 256"),
        ({"grid": 8, "sizes": 6}, "number 6 is 11 px wide and a tile only 8 px; choose sizes up to 4"),
        ({"filter_px": 4}, "filter_px must be odd, got 4"),
        ({"polarity": "black"}, "polarity: .*'dark' or 'bright'"),
        ({"theshold": 3}, "unknown key 'theshold'"),
    ],
)
def test_wrong_settings_are_named(bank: Bank, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(bank, **settings)


@pytest.mark.parametrize(
    ("settings", "action"),
    [({}, [[3] + [1] * 7]), *(({"action": "raster"}, [choice]) for choice in (9, -1, 1.5))],
)
def test_choices_that_there_are_not_are_refused(bank: Bank, settings: dict[str, Any], action: Any) -> None:
    vector = gym.make_vec(ENV_ID, num_envs=1, cases=bank, **settings)
    vector.reset(seed=0)
    with pytest.raises(UserError, match=r"actions must be of .*Discrete"):
        vector.step(np.array(action))


@pytest.mark.parametrize("settings", VARIANTS)
def test_every_variant_passes_sb3s_checker_without_warnings(bank: Bank, settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sb3_env(gym.make(ENV_ID, cases=bank, **settings))


def test_actions_of_another_shape_are_refused(bank: Bank) -> None:
    vector = gym.make_vec(ENV_ID, num_envs=2, cases=bank)
    vector.reset(seed=0)
    with pytest.raises(UserError, match=r"shape .2, 8., got .2, 7."):
        vector.step(np.ones((2, 7), np.int64))


def test_rendering_draws_target_start_and_mask(bank: Bank) -> None:
    task = make(bank)
    state = task.reset(torch.arange(2), torch.arange(2))
    before = task.render(state, 1)
    assert before.dtype == np.uint8
    moved, _ = task.step(state, torch.full((2, 8), 2))
    after = task.render(moved, 1)
    for color in ((0, 158, 115), (230, 159, 0), (86, 180, 233)):
        # How nearly a smoothed line has its colour depends on the version of OpenCV.
        assert (np.abs(after.astype(int) - color).max(axis=2) < 32).any()
    assert (after != before).any()
