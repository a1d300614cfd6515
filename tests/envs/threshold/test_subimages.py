"""The protocol of 2008: sub-images that decide alone, direct openings, its start, its reward and its end."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import usrl  # noqa: F401 - registers the environments
from usrl.data.bank import Bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.envs.task import follow_teacher
from usrl.envs.threshold.features import describe_shape
from usrl.envs.threshold.filters import filter_speckle
from usrl.envs.threshold.task import ThresholdTask
from usrl.errors import UserError
from usrl.registry import build_task, describe_arguments, drop_training_only

ENV_ID = "usrl/ThresholdSelect-v0"
PROTOCOL: dict[str, Any] = {
    "cut": "subimages",
    "support": "rectangle",
    "thresholds": 15,
    "start": "random",
    "action": "direct",
    "observation": "shape",
    "reward": "error",
}
VARIANTS: list[dict[str, Any]] = [
    PROTOCOL,
    PROTOCOL | {"roi": "image", "grid": 4, "solved_ends": True},
    {"action": "direct", "start": "random"},
    {"cut": "subimages", "support": "rectangle", "observation": "shape"},
    {"observation": "shape", "reward": "error"},
]


def make(bank: Bank, **settings: Any) -> ThresholdTask:
    task = build_task(ENV_ID, bank, settings)
    assert isinstance(task, ThresholdTask)
    return task


def every_case(task: ThresholdTask) -> Any:
    """Return the start of one episode for every sub-image."""
    case = torch.arange(len(task.regions.cases))
    return task.begin(case // task.regions.per_row, case, case)


def wrong_pixels(task: ThresholdTask, state: Any) -> torch.Tensor:
    """Return the wrong pixels of shown masks, counted one by one, int64, (B,)."""
    return (task.mask(state) ^ task.regions.tables.targets[state.case]).flatten(1).sum(dim=1)


def drawn_bank() -> Bank:
    """Return a bank of one image of whole numbers, which every library computes alike."""
    rows, columns = np.ogrid[:64, :64]
    target = (rows - 30) ** 2 + (columns - 34) ** 2 < 15**2
    image = np.where(target, 40, 120) + (rows * 7 + columns * 13) % 41 + columns // 4
    return Bank(
        torch.from_numpy(image.astype(np.uint8))[None], torch.from_numpy(target)[None], None, ("drawn",)
    )


@pytest.mark.parametrize(
    ("settings", "action", "level", "size", "sums", "dice"),
    [
        ({}, [[0, 2] * 4] * 2, 3, 3, [1295584, 1229121], [0.94975, 0.96258]),
        ({"action": "raster", "observation": "features"}, [2, 2], 6, 1, [8, 10], [0.96404, 0.97666]),
    ],
)
def test_without_the_protocol_an_episode_is_what_it_was(
    settings: dict[str, Any], action: Any, level: int, size: int, sums: list[int], dice: list[float]
) -> None:
    """The numbers were computed before the protocol's options were added."""
    task = make(drawn_bank(), **settings)
    state = task.reset(torch.zeros(2, dtype=torch.int64), torch.tensor([3, 4]))
    assert state.case.tolist() == [0, 1]
    assert (state.level == 7).all()
    assert state.dice.tolist() == pytest.approx([0.96371, 0.97930], abs=1e-5)
    for _ in range(4):
        state, _ = task.step(state, torch.tensor(action))
    assert (state.level == level).all()
    assert (state.size == size).all()
    assert task.observe(state).long().flatten(1).sum(dim=1).tolist() == sums
    assert state.dice.tolist() == pytest.approx(dice, abs=1e-5)
    assert set(task.figures(state)) == {"score", "dice", "initial_dice"}


def test_sub_images_overlap_by_half_and_cover_the_region(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    corners = [(rows.start, columns.start) for rows, columns in task.regions.windows]
    assert corners == [(top, left) for top in range(0, 49, 8) for left in (0, 16, 32)]
    assert {case.image.shape for case in task.regions.cases} == {(16, 32)}
    finer = make(bank, **PROTOCOL | {"grid": 4})
    assert len(finer.regions.windows) == 105
    rows, columns = finer.regions.windows[-1]
    assert (rows.start, rows.stop, columns.start, columns.stop) == (56, 64, 48, 64)


def test_a_sub_image_is_its_part_of_the_region(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    for number in (0, 10, 20, 37):
        region = task.regions.cut[number // 21]
        window = task.regions.windows[number % 21]
        assert (task.regions.tables.images[number].numpy() == region.image[window]).all()
        whole = region.cut_mask(bank.targets[0].numpy())[window]
        assert (task.regions.tables.targets[number].numpy() == whole).all()
        assert task.regions.tables.target_area[number] == whole.sum()


def test_thresholds_run_from_the_least_to_the_largest_gray_of_a_sub_image(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    smooth = filter_speckle(task.regions.cut[0].image, "median", 5)
    for number, window in enumerate(task.regions.windows):
        levels = task.regions.tables.levels[number]
        assert (int(levels[0]), int(levels[-1])) == (smooth[window].min(), min(smooth[window].max(), 254))
        gaps = levels.int().diff()
        assert int(gaps.max() - gaps.min()) <= 1


def test_an_action_moves_the_threshold_and_chooses_the_opening(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    assert task.action_space == gym.spaces.Discrete(6)
    state = every_case(task)
    for action in range(6):
        after, _ = task.step(state, torch.full_like(state.index, action))
        wanted = (state.level + (1 if action % 2 else -1)).clamp(0, 14)
        assert torch.equal(after.level, wanted)
        assert (after.size == action // 2).all()


def test_direct_actions_visit_tiles_in_turn(bank: Bank) -> None:
    task = make(bank, action="direct")
    state = task.reset(torch.tensor([0]), torch.tensor([0]))
    for tile, action in enumerate((5, 2, 1, 0)):
        after, _ = task.step(state, torch.tensor([action]))
        moved = (after.level - state.level)[0].tolist()
        assert moved == [(1 if action % 2 else -1) * (number == tile) for number in range(4)]
        assert int(after.size[0, tile]) == action // 2
        state = after
    assert state.size.tolist() == [[2, 1, 0, 0]]


def test_openings_are_none_two_and_five_pixels_wide(bank: Bank) -> None:
    dots = np.full((64, 64), 200, np.uint8)
    dots[10, 10] = 1  # a pixel, a block of two and one of five
    dots[10:12, 30:32] = 1
    dots[40:45, 40:45] = 1
    dots[56:] = 1  # so that the lowest threshold lies below the rest
    blank = Bank(torch.from_numpy(dots)[None], torch.ones(1, 64, 64, dtype=torch.bool), None, ("dots",))
    plain = {"roi": "image", "filter": "none", "grid": 1, "action": "direct"}
    task = make(blank, **plain)
    case = torch.zeros(3, dtype=torch.int64)
    masks = task.regions.masks(case, torch.zeros(3, 1, dtype=torch.int64), torch.arange(3)[:, None]).numpy()
    assert (masks[0] == (dots == 1)).all()
    wanted = dots == 1
    wanted[10, 10] = False
    assert (masks[1] == wanted).all()  # the block stays where it is
    wanted[10:12, 30:32] = False
    assert not (masks[2] & ~wanted).any()
    assert 17 <= masks[2][:50].sum() <= 25  # a disc in the block of five


def test_the_reward_is_ten_where_fewer_pixels_are_wrong(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    state = every_case(task)
    for action in range(6):
        after, reward = task.step(state, torch.full_like(state.index, action))
        fell = wrong_pixels(task, after) < wrong_pixels(task, state)
        assert torch.equal(reward, 10.0 * fell)
        assert 0 < fell.sum() < len(fell)
        state = after


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_error_is_the_share_of_wrong_pixels(bank: Bank, settings: dict[str, Any]) -> None:
    task = make(bank, **{"margin": 0.5} | settings)  # the region holds the whole target
    state = task.reset(torch.arange(6), torch.arange(6))
    wanted = wrong_pixels(task, state) / task.regions.tables.targets[0].numel()
    found = task.regions.error(state.case, state.level, state.size)
    assert torch.allclose(found, wanted, atol=1e-5)
    if settings.get("cut") == "subimages":
        assert torch.equal(task.figures(state)["agreement"], 1 - found)
        assert torch.equal(task.figures(state)["score"], 1 - found)


def test_random_starts_reach_every_setting_and_depend_on_the_key_alone(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    keys = torch.arange(3000)
    case = torch.zeros_like(keys)
    state = task.begin(case, case, keys)
    counts = torch.bincount(state.level[:, 0] * 3 + state.size[:, 0], minlength=45)
    assert (counts > 30).all()
    again = task.begin(case[:7], case[:7], keys[:7])
    assert torch.equal(again.level, state.level[:7])
    assert torch.equal(again.size, state.size[:7])


def test_training_may_end_a_solved_episode_and_nothing_else_does(bank: Bank) -> None:
    assert make(bank, **PROTOCOL).terminated(every_case(make(bank, **PROTOCOL))) is None
    task = make(bank, **PROTOCOL | {"solved_ends": True})
    state = every_case(task)
    ended = task.terminated(state)
    assert ended is not None
    assert torch.equal(ended, wrong_pixels(task, state) < 0.05 * 16 * 32)
    assert 0 < ended.sum() < len(ended)
    told = drop_training_only(ENV_ID, PROTOCOL | {"solved_ends": True})
    assert told == PROTOCOL
    assert "in training only" in describe_arguments(ENV_ID)


def test_an_adapter_tells_a_solved_episode_from_one_at_the_limit(bank: Bank) -> None:
    venv = TaskVecEnv(make(bank, **PROTOCOL | {"solved_ends": True}), 16, seed=0)
    venv.reset()
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(40):
        _, _, done, infos = venv.step(rng.integers(6, size=16))
        for env in np.flatnonzero(done):
            kinds.add(infos[env]["TimeLimit.truncated"])
            solved = infos[env]["agreement"] > 0.95
            assert solved != infos[env]["TimeLimit.truncated"]
    assert kinds == {False, True}


def test_a_pixel_is_taken_by_half_of_the_sub_images_that_hold_it(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    masks = torch.zeros(21, 16, 32, dtype=torch.bool)
    masks[0] = True  # alone in the corner, one of two at the edges, one of four inside
    voted = task.regions.vote(masks)[0]
    wanted = torch.zeros(64, 64, dtype=torch.bool)
    wanted[:8, :32] = True
    wanted[:16, :16] = True
    assert torch.equal(voted, wanted)
    masks[1] = True  # the next to the right
    voted = task.regions.vote(masks)[0]
    assert voted[:16, :32].all()
    assert not voted[16:].any()


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_masks_of_all_sub_images_give_back_a_mask_that_each_took_its_part_of(
    bank: Bank, settings: dict[str, Any]
) -> None:
    if settings.get("cut") != "subimages":
        return
    task = make(bank, **settings)
    rng = np.random.default_rng(0)
    whole = torch.from_numpy(rng.random((2, 64, 64)) < 0.5)
    parts = torch.stack([one[window] for one in whole for window in task.regions.windows])
    assert torch.equal(task.regions.vote(parts), whole)


def test_the_best_setting_of_a_sub_image_has_the_fewest_wrong_pixels(bank: Bank) -> None:
    task = make(bank, **PROTOCOL | {"boxes": 1})
    state = every_case(task)
    best = task.regions.best[state.case]
    fewest = wrong_pixels(task, state.replace(level=best[..., 1], size=best[..., 0]))
    for size in range(3):
        for level in range(15):
            now = torch.full_like(state.level, level), torch.full_like(state.size, size)
            assert (wrong_pixels(task, state.replace(level=now[0], size=now[1])) >= fewest).all()


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_teacher_of_every_variant_brings_down_the_error(bank: Bank, settings: dict[str, Any]) -> None:
    task = make(bank, **settings)
    task.horizon = 60
    row = torch.arange(6).repeat(8)
    start = task.reset(row, torch.arange(len(row)) * 31)
    reached = follow_teacher(task, start)
    before, after = (float(task.regions.error(s.case, s.level, s.size).mean()) for s in (start, reached))
    assert after < 0.7 * before


def test_a_shape_is_area_compactness_and_number_of_the_largest_object() -> None:
    empty = np.zeros((16, 32), bool)
    assert describe_shape(empty, 512, (0, 0), 64).tolist() == [0, 0, 0]
    full = ~empty
    # 4 pi 512 / (2 * (15 + 31) + pi)^2 = 0.711
    assert describe_shape(full, 512, (0, 0), 64).tolist() == [34, 24, 0]
    spots = empty.copy()
    spots[::2, ::2] = True  # 128 objects of one pixel, the most there are
    assert describe_shape(spots, 512, (0, 0), 64).tolist() == [0, 34, 34]
    half = empty.copy()
    half[:, :16] = half[0, 20] = half[0, 24] = True
    assert describe_shape(half, 512, (0, 0), 64)[0] == 17  # the largest object's area alone


def test_an_agent_sees_which_sub_image_it_is_in(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    assert task.observation_space == gym.spaces.Box(
        np.zeros(4, np.uint8), np.array([34, 34, 34, 20], np.uint8), dtype=np.uint8
    )
    state = every_case(task)
    assert torch.equal(task.observe(state)[:, 3].long(), state.case % 21)
    tiles = make(bank, observation="shape")
    seen = tiles.observe(tiles.reset(torch.arange(2), torch.arange(2)))
    assert seen.view(2, 4, 4)[..., 3].tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("settings", VARIANTS)
def test_every_variant_passes_sb3s_checker_without_warnings(bank: Bank, settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sb3_env(gym.make(ENV_ID, cases=bank, **settings))


@pytest.mark.parametrize("settings", VARIANTS)
def test_masked_actions_are_those_that_leave_the_range(bank: Bank, settings: dict[str, Any]) -> None:
    task = make(bank, **settings)
    if settings.get("action") != "direct":
        return
    state = task.reset(torch.arange(6).repeat(9), torch.arange(54))
    masks = task.action_masks(state)
    for action in range(6):
        after, _ = task.step(state, torch.full_like(state.index, action))
        assert torch.equal(masks[:, action], (after.level != state.level).any(dim=1))


def test_a_sub_image_is_drawn(bank: Bank) -> None:
    task = make(bank, **PROTOCOL)
    state = task.reset(torch.arange(2), torch.arange(2))
    moved, _ = task.step(state, torch.tensor([5, 5]))
    assert (task.render(moved, 1) != task.render(state, 1)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": "features"}, "sub-images are seen by their shape; set observation='shape'"),
        ({"support": "ellipse"}, "sub-images are whole rectangles; set support='rectangle'"),
        ({"clean": "holes"}, "sub-images vote and are not cleaned; leave clean out"),
        ({"sizes": 2}, "action='direct' chooses among openings of its own; leave sizes out"),
        ({"grid": 3}, "the side must be a multiple of 12, got 64"),
        ({"grid": 8, "side": 128}, "465 sub-images are more than 256; choose a smaller grid"),
        ({"grid": 6, "side": 48}, "opening is 5 px wide and a tile or sub-image only 4 px"),
    ],
)
def test_what_does_not_fit_the_protocol_is_named(bank: Bank, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(bank, **PROTOCOL | changes)
