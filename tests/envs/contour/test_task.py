"""Contour refinement as a task."""

from typing import Any

import numpy as np
import pytest
import torch

from usrl.compute.rng import mix
from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.data.sample import Sample
from usrl.envs.contour.task import ContourTask
from usrl.envs.task import follow_teacher
from usrl.errors import UserError
from usrl.geometry.area import rasterise
from usrl.geometry.polygon import ellipse_in_box, is_valid, signed_area
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"
PROPOSALS = ["box", "target", "network"]


def make(bank: Bank, **settings: Any) -> ContourTask:
    task = build_task(ENV_ID, bank, settings)
    assert isinstance(task, ContourTask)
    return task


def actions(task: ContourTask, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *(task.action_space.shape or ()), generator=generator) * 2 - 1


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("reward", ["dice", "iou", "dice+boundary"])
def test_rewards_sum_to_final_minus_initial_score(
    bank: Bank, index: torch.Tensor, proposal: str, reward: str
) -> None:
    task = make(bank, proposal=proposal, reward=reward)
    start = state = task.reset(index, index * 31)
    total = torch.zeros(len(index))
    for step in range(10):
        state, paid = task.step(state, actions(task, len(index), step))
        total += paid
    assert torch.allclose(total, state.score - start.score, atol=1e-5)
    if reward == "dice":
        assert torch.equal(state.score, state.dice)
    if reward == "iou":
        assert torch.allclose(state.score, state.dice / (2 - state.dice))


@pytest.mark.parametrize("parametrization", ["vertices", "fourier"])
def test_a_zero_action_leaves_contour_and_dice_exactly(
    bank: Bank, index: torch.Tensor, parametrization: str
) -> None:
    task = make(bank, parametrization=parametrization)
    state = task.reset(index, index * 31)
    for step in range(5):  # crumple it first
        state, _ = task.step(state, actions(task, len(index), step))
    after, reward = task.step(state, torch.zeros(len(index), *(task.action_space.shape or ())))
    assert torch.equal(after.vertices, state.vertices)
    assert torch.equal(after.dice, state.dice)
    assert (reward == 0).all()


def test_one_action_moves_one_vertex_outwards_by_the_step(bank: Bank) -> None:
    task = make(bank, step_px=0.5)
    state = task.reset(torch.tensor([0]), torch.tensor([1]))
    action = torch.zeros(1, 64)
    action[0, 7] = 1
    after, _ = task.step(state, action)
    moves = (after.vertices - state.vertices)[0].norm(dim=1)
    assert moves[7] == pytest.approx(0.5, abs=1e-5)
    assert float(moves.sum()) == pytest.approx(0.5, abs=1e-5)
    centre = state.vertices[0].mean(dim=0)
    assert (after.vertices[0, 7] - centre).norm() > (state.vertices[0, 7] - centre).norm()


DISC_PX = 30


@pytest.fixture
def discs() -> Bank:
    rows, columns = np.mgrid[:128, :128]
    disc = (rows - 64) ** 2 + (columns - 64) ** 2 <= DISC_PX**2
    sample = Sample(np.zeros((128, 128), np.uint8), disc, None, "disc", "disc", "made")
    return Bank.from_samples([sample], 128)


@pytest.mark.parametrize(
    ("radius", "move", "gain"),
    [
        (20, 0.5, 2 * 20.5**2 / (20.5**2 + 900) - 2 * 20**2 / (20**2 + 900)),  # grows within the disc
        (20, -0.5, 2 * 19.5**2 / (19.5**2 + 900) - 2 * 20**2 / (20**2 + 900)),
        (40, 0.5, 2 * 900 / (40.5**2 + 900) - 2 * 900 / (40**2 + 900)),
        (40, -0.5, 2 * 900 / (39.5**2 + 900) - 2 * 900 / (40**2 + 900)),  # shrinks around it
    ],
)
def test_a_vertex_is_credited_with_its_part_of_the_gain(
    discs: Bank, radius: float, move: float, gain: float
) -> None:
    task = make(discs, step_px=1.0)
    box = torch.tensor([[64.0 - radius, 64.0 - radius, 64.0 + radius, 64.0 + radius]])
    state = task.begin(torch.tensor([0]), ellipse_in_box(box, 64))
    action = torch.full((1, 64), move)
    assert float(task.step(state, action)[1]) == pytest.approx(gain, abs=0.003)
    assert task.credit(state, action)[0].tolist() == pytest.approx([gain / 64] * 64, rel=0.05)
    action[:, 1:] = 0
    assert task.credit(state, action)[0].tolist() == pytest.approx([gain / 64] + [0] * 63, rel=0.05)


def test_a_vertex_that_crosses_the_border_is_credited_with_both_sides(discs: Bank) -> None:
    task = make(discs, step_px=2.0)
    box = torch.tensor([[35.0, 35.0, 93.0, 93.0]])  # a pixel inside the disc, so that half of 2 px is outside
    state = task.begin(torch.tensor([0]), ellipse_in_box(box, 64))
    credit = task.credit(state, torch.ones(1, 64))
    gain = 2 * 900 / (31**2 + 900) - 2 * 29**2 / (29**2 + 900)
    assert float(credit.sum()) == pytest.approx(gain, abs=0.01)
    assert float(task.credit(state, torch.full((1, 64), 0.5)).sum()) > 5 * abs(gain)


def test_a_vertex_earns_nothing_beyond_the_image(discs: Bank) -> None:
    task = make(discs, step_px=4.0)
    box = torch.tensor([[0.0, 0.0, 127.0, 127.0]])
    state = task.begin(torch.tensor([0]), ellipse_in_box(box, 64))
    credit = task.credit(state, torch.ones(1, 64))[0].reshape(4, 16)
    assert credit[:, 0].tolist() == pytest.approx([0] * 4, abs=1e-6)  # where it touches the image's sides
    assert (credit[:, 8] < -1e-4).all()


@pytest.mark.parametrize("settings", [{"parametrization": "fourier"}, {"reward": "iou"}])
def test_only_moves_of_vertices_and_changes_of_dice_are_credited(
    bank: Bank, index: torch.Tensor, settings: dict[str, str]
) -> None:
    task = make(bank, **settings)
    state = task.reset(index, index)
    with pytest.raises(UserError, match=r"only moves of vertices are credited .* set 'vertices' and 'dice'"):
        task.credit(state, actions(task, len(index)))


@pytest.mark.parametrize("parametrization", ["vertices", "fourier"])
def test_contours_stay_valid_and_inside_under_violent_actions(
    bank: Bank, index: torch.Tensor, parametrization: str
) -> None:
    task = make(bank, step_px=12.0, parametrization=parametrization)
    state = task.reset(index, index * 31)
    for step in range(20):
        violent = actions(task, len(index), step).sign()
        state, _ = task.step(state, violent)
        assert is_valid(state.vertices).all()
        assert float(state.vertices.min()) >= 0
        assert float(state.vertices.max()) <= bank.size - 1


def test_contours_that_only_move_inwards_do_not_turn_inside_out(bank: Bank) -> None:
    task = make(bank)
    index = torch.arange(200) % len(bank)
    state = task.reset(index, mix(torch.arange(200)))
    for _ in range(10):
        state, _ = task.step(state, -torch.ones(200, 64))
        assert (signed_area(state.vertices) > 0).all()


def test_dice_agrees_with_the_rastered_masks() -> None:
    bank = Bank.from_samples(load_phantom(8, seed=5))
    index = torch.arange(len(bank))
    task = make(bank)
    state = task.reset(index, index * 31)
    for step in range(4):
        mask = task.mask(state)
        both = (mask & bank.targets).flatten(1).sum(dim=1)
        expected = 2 * both / (mask.flatten(1).sum(dim=1) + bank.targets.flatten(1).sum(dim=1))
        assert float((state.dice - expected).abs().mean()) < 0.005
        assert float((state.dice - expected).abs().max()) < 0.01
        state, _ = task.step(state, actions(task, len(index), step) * 0.1)


@pytest.mark.parametrize("parametrization", ["vertices", "fourier"])
@pytest.mark.parametrize("proposal", PROPOSALS)
def test_the_oracle_beats_random_and_nearly_reaches_the_target(
    bank: Bank, index: torch.Tensor, proposal: str, parametrization: str
) -> None:
    task = make(bank, proposal=proposal, parametrization=parametrization)
    start = state = task.reset(index, index * 31)
    for step in range(10):
        state, _ = task.step(state, actions(task, len(index), step))
    reached = follow_teacher(task, start).dice
    assert float(reached.mean()) > 0.93
    assert float(reached.mean()) > float(state.dice.mean()) + 0.1


def test_box_proposals_without_jitter_touch_the_targets_bounding_box(bank: Bank) -> None:
    task = make(bank, jitter=0.0)
    row = torch.arange(len(bank))
    vertices = task.reset(row, row).vertices
    for target, polygon in zip(bank.targets.numpy(), vertices.numpy(), strict=True):
        rows, columns = np.nonzero(target)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        wanted = columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5
        assert (*low, *high) == pytest.approx(np.clip(wanted, 0, bank.size - 1), abs=0.05)


def test_box_proposals_with_jitter_move_each_side_by_at_most_its_share(bank: Bank) -> None:
    exact, jittered = make(bank, jitter=0.0), make(bank, jitter=0.2)
    index = torch.zeros(500, dtype=torch.int64)
    sides = jittered.reset(index, torch.arange(500)).vertices
    box = exact.reset(index[:1], index[:1]).vertices[0]
    extent = float(box[:, 0].max() - box[:, 0].min())
    moves = (sides[:, :, 0].amin(dim=1) - box[:, 0].min()) / extent
    assert float(moves.abs().max()) <= 0.2 + 1e-3
    assert float(moves.max()) > 0.15
    assert float(moves.min()) < -0.15


def test_profiles_show_the_image_inside_first(bank: Bank) -> None:
    disc = torch.zeros(1, 64, 64, dtype=torch.bool)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc[0] = (rows - 32) ** 2 + (columns - 30) ** 2 <= 15**2
    bright = Bank(disc.to(torch.uint8) * 200, disc, None, ("disc",))
    task = make(bright, jitter=0.0)
    profile = task.observe(task.reset(torch.tensor([0]), torch.tensor([0])))
    assert profile.shape == (1, 3, 64, 40)
    assert (profile[0, 0, :, 10:18] == 200).all()  # up to two pixels inside
    assert (profile[0, 0, :, 22:30] == 0).all()
    assert (profile[0, 2, :, 19:21] > 100).all()  # the edge lies in the middle
    assert (profile[0, 2, :, 10:14] == 0).all()


def test_image_observations_hold_image_mask_and_time_left(bank: Bank) -> None:
    task = make(bank, observation="image")
    task.horizon = 4
    state = task.reset(torch.tensor([2]), torch.tensor([1]))
    left = []
    for _ in range(4):
        seen = task.observe(state)[0]
        left.append(int(seen[2].unique()))
        assert torch.equal(seen[0], bank.images[2])
        assert torch.equal(seen[1] > 0, rasterise(state.vertices, 64, 64)[0])
        state, _ = task.step(state, torch.zeros(1, 64))
    assert left == [255, 191, 127, 63]


def test_fourier_coefficient_zero_moves_all_vertices_alike(bank: Bank) -> None:
    task = make(bank, parametrization="fourier", coefficients=5, step_px=1.0, jitter=0.0)
    state = task.reset(torch.tensor([0]), torch.tensor([0]))
    action = torch.zeros(1, 5)
    action[0, 0] = 0.5
    moves = (task.step(state, action)[0].vertices - state.vertices)[0].norm(dim=1)
    assert torch.allclose(moves, torch.full((64,), 0.5), atol=1e-4)


def test_network_proposals_need_a_bank_that_has_them(bank: Bank) -> None:
    bare = Bank(bank.images, bank.targets, None, bank.names)
    with pytest.raises(
        UserError,
        match=r"needs a bank with proposals, got one without; .* env\.proposals .* Bank\.from_samples",
    ):
        make(bare, proposal="network")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vertexes": 64}, "unknown key 'vertexes'; did you mean 'vertices'"),
        ({"vertices": 64.5}, "vertices: .*integer.*64.5"),
        ({"vertices": 3}, "vertices: .*greater than or equal to 8"),
        ({"observation": "profil"}, "observation: .*'profile', .* or 'image'"),
        ({"jitter": 0.6}, "jitter: .*0.45"),
        ({"step_px": 0.0}, "step_px: .*greater than 0"),
        ({"coefficients": 9}, r"coefficients: 9 does nothing .*; set parametrization='fourier', or leave"),
        (
            {"parametrization": "fourier", "vertices": 8},
            "8 vertices have at most .* got 15; choose .* up to 8",
        ),
    ],
)
def test_wrong_settings_are_named(bank: Bank, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(bank, **settings)


@pytest.mark.parametrize("reward", ["iou", "dice+boundary"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"parametrization": "fourier"},
        {"proposal": "target", "vertices": 50},
        {"scale": "proposal", "observation": "profile+start"},
        {"proposal": "network", "observation": "image"},
    ],
)
def test_on_a_cpu_an_episode_is_the_same_to_the_bit_alone_and_in_a_batch(
    bank: Bank, settings: dict[str, Any], reward: str
) -> None:
    task = make(bank, reward=reward, **settings)
    index = torch.arange(48) % len(bank)
    together = task.reset(index, mix(index))
    alone = [task.reset(row, mix(row)) for row in index.split(1)]
    for step in range(6):
        both = zip(together.vertices, together.score, task.observe(together), alone, strict=True)
        for vertices, score, seen, single in both:
            assert torch.equal(single.vertices[0], vertices)
            assert torch.equal(single.score[0], score)
            assert torch.equal(task.observe(single)[0], seen)
        action = actions(task, len(index), step)
        action[::2] = task.oracle_action(together)[::2]
        for row, single in enumerate(alone):
            assert torch.equal(task.oracle_action(single)[0], task.oracle_action(together)[row])
        together = task.step(together, action)[0]
        alone = [task.step(single, each)[0] for single, each in zip(alone, action.split(1), strict=True)]


def test_an_unknown_environment_gets_a_suggestion(bank: Bank) -> None:
    with pytest.raises(UserError, match="did you mean 'usrl/ContourRefine-v0'"):
        build_task("usrl/ContourRefin-v0", bank, {})


def test_version_1_plays_version_0_with_other_defaults(bank: Bank, index: torch.Tensor) -> None:
    first, second = make(bank), build_task("usrl/ContourRefine-v1", bank, {})
    assert first.action_space.shape == (64,)
    assert second.action_space.shape == (5,)
    both = [
        build_task("usrl/ContourRefine-v1", bank, first.settings.model_dump(exclude={"coefficients"})),
        make(bank, **second.settings.model_dump()),
    ]
    for one, other in zip((first, second), both, strict=True):
        states = [task.reset(index, index * 31) for task in (one, other)]
        for step in range(3):
            moves = actions(one, len(index), step)
            states = [task.step(state, moves)[0] for task, state in zip((one, other), states, strict=True)]
        assert torch.equal(states[0].vertices, states[1].vertices)
        assert torch.equal(one.observe(states[0]), other.observe(states[1]))


def test_the_first_noise_of_an_algorithm_costs_version_1_little_dice(bank: Bank) -> None:
    index = torch.arange(60) % len(bank)
    generator = torch.Generator().manual_seed(0)
    change = {}
    for version in ("v0", "v1"):
        task: Any = build_task(f"usrl/ContourRefine-{version}", bank, {})
        start = state = task.reset(index, mix(torch.arange(60)))
        for _ in range(task.horizon):
            noise = torch.randn(60, *task.action_space.shape, generator=generator)
            state, _ = task.step(state, noise.clamp(-1, 1))
        change[version] = (state.dice - start.dice).mean().item()
        assert (follow_teacher(task, start).dice - start.dice).mean() > 0.1
    assert change["v0"] < change["v1"] - 0.03 < 0
    assert change["v1"] > -0.04


def test_under_the_proposals_scale_contours_of_all_sizes_move_alike(bank: Bank) -> None:
    task = make(bank, scale="proposal", step_px=4.0)
    middle = bank.size / 2
    for radius in (0.1 * bank.size, 0.3 * bank.size):
        box = torch.tensor([[middle - radius] * 2 + [middle + radius] * 2])
        state = task.begin(torch.tensor([0]), ellipse_in_box(box, 64))
        after, _ = task.step(state, torch.full((1, 64), 0.5))
        moves = (after.vertices - state.vertices)[0].norm(dim=1)
        assert moves.tolist() == pytest.approx([0.5 * 4 * radius / 20] * 64, rel=0.01)


def test_the_teacher_counts_in_the_proposals_scale(bank: Bank, index: torch.Tensor) -> None:
    pixels, scaled = make(bank), make(bank, scale="proposal")
    state = pixels.reset(index, index * 31)
    unit = torch.sqrt(signed_area(state.proposal) / torch.pi)[:, None] / 20
    expected = (pixels.oracle_action(state) * 4.0).clamp(-4, 4)
    small = expected.abs() < torch.minimum(4 * unit, torch.tensor(4.0)) - 1e-3
    taught = scaled.oracle_action(scaled.reset(index, index * 31)) * 4 * unit
    assert torch.allclose(taught[small], expected[small], atol=1e-4)
    assert float(follow_teacher(scaled, state).dice.mean()) > 0.95


def test_profiles_with_the_start_remember_it(bank: Bank, index: torch.Tensor) -> None:
    task, plain = make(bank, observation="profile+start"), make(bank)
    start = task.reset(index, index * 31)
    moved, _ = task.step(start, actions(task, len(index)).abs())
    first, second = task.observe(start), task.observe(moved)
    assert first.shape[1:] == task.observation_space.shape == (4, 64, 40)
    for state, seen in ((start, first), (moved, second)):
        assert torch.equal(seen[:, :3], plain.observe(state))
    assert (first[:, 3] == first[0, 3, 0]).all()
    assert (second[:, 3] > first[:, 3]).float().mean() > 0.8  # further outside than where they began


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (4, 1), (1, 64), (64, 64)])
def test_lesions_of_a_few_pixels_in_a_corner_give_valid_contours_that_a_zero_action_leaves(
    proposal: str, shape: tuple[int, int]
) -> None:
    corner = torch.zeros(4, 64, 64, dtype=torch.bool)
    corner[:, : shape[0], : shape[1]] = True
    targets = torch.stack([corner[0], corner[1].flip(0), corner[2].flip(1), corner[3].flip(0, 1)])
    bank = Bank(torch.zeros(4, 64, 64, dtype=torch.uint8), targets, targets, ("a", "b", "c", "d"))
    task = make(bank, proposal=proposal, jitter=0.0)
    state = task.reset(torch.arange(4), torch.arange(4))
    assert is_valid(state.vertices).all()
    after, _ = task.step(state, torch.zeros(4, 64))
    assert torch.equal(after.vertices, state.vertices)


def test_the_default_coefficients_may_be_given_with_any_parametrization(bank: Bank) -> None:
    assert make(bank, coefficients=15).action_space.shape == (64,)
