"""What probe navigation pays, when it ends, and what its options change."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from usrl.agents.players import TeacherPlayer, begin_evaluation, evaluate_player, play
from usrl.compute.rng import mix
from usrl.data.bodies.poses import DEGREES, angles_deg, distances_mm
from usrl.data.bodies.volumes import Volumes
from usrl.envs.probe.task import ProbeState, ProbeTask, count_target_tensors
from usrl.errors import UserError
from usrl.registry import build_task

STOP = 10


def make(volumes: Volumes, **settings: Any) -> ProbeTask:
    task: Any = build_task("usrl/ProbeNavigate-v0", volumes, settings)
    return task


def begin(task: ProbeTask, count: int = 32) -> ProbeState:
    index = torch.arange(count)
    return task.reset(index % len(task.cases), mix(index))


def place(task: ProbeTask, **offsets: float) -> ProbeState:
    """Return a state at the standard plane of the first body, moved by mm or degrees."""
    state = begin(task, 1)
    names = ("x", "y", "yaw", "tilt", "roll")
    moved = torch.tensor([offsets.get(n, 0.0) * (1 if n in "xy" else DEGREES) for n in names])
    pose = task.cases.standard[:1] + moved
    return task._look(state.replace(pose=pose, trail=pose[:, None].repeat(1, 4, 1)))


def test_starts_are_as_far_away_as_the_settings_say(volumes: Volumes) -> None:
    task = make(volumes)
    figures = task.figures(begin(task, 2000))
    assert figures["start_mm"].max() <= 40 + 1e-3
    assert figures["start_mm"].mean() == pytest.approx(20, abs=1)
    assert figures["start_deg"].max() <= 40 + 0.1
    assert figures["start_deg"].mean() == pytest.approx(20, abs=1)
    still = make(volumes, start_mm=0.0, start_deg=0.0)
    assert still.figures(begin(still))["distance_mm"].max() < 1e-3


def test_the_standard_plane_has_a_view_quality_of_one(volumes: Volumes) -> None:
    task = make(volumes)
    assert place(task).quality.item() == pytest.approx(1, abs=0.02)
    assert place(task, y=40.0).quality.item() == 0


@pytest.mark.parametrize("offsets", [{"x": 8.0}, {"y": 4.0}, {"yaw": 25.0}, {"tilt": 15.0}, {"roll": 20.0}])
def test_the_view_quality_falls_along_every_degree_of_freedom(
    volumes: Volumes, offsets: dict[str, float]
) -> None:
    task = make(volumes)
    away = {name: -value for name, value in offsets.items()}
    for moved in (offsets, away):
        assert place(task, **moved).quality.item() < place(task).quality.item() - 0.1


def test_success_is_within_5_mm_and_10_degrees(volumes: Volumes) -> None:
    task = make(volumes)
    for offsets, wanted in (
        ({"x": 4.9}, True),
        ({"x": 5.1}, False),
        ({"yaw": 9.9}, True),
        ({"yaw": 10.1}, False),
        ({"x": 4.9, "yaw": 9.9}, True),
        ({"x": 3.9, "y": 3.9}, False),
    ):
        assert bool(task.is_success(place(task, **offsets))) is wanted


@pytest.mark.parametrize(
    ("action", "degree", "unit"), [(0, 0, 5), (2, 1, 5), (4, 2, 5), (6, 3, 5), (8, 4, 5)]
)
def test_each_action_moves_one_degree_of_freedom_there_and_back(
    volumes: Volumes, action: int, degree: int, unit: float
) -> None:
    task = make(volumes)
    state = place(task)
    moved, _ = task.step(state, torch.tensor([action]))
    left = task.moves_left(moved)[0] - task.moves_left(state)[0]
    assert left[degree].item() == pytest.approx(-1, abs=1e-4)
    assert left.abs().sum().item() == pytest.approx(1, abs=1e-4)
    far = distances_mm(moved.pose, state.pose) + angles_deg(moved.pose, state.pose)
    assert far.item() == pytest.approx(unit, abs=0.2)
    back, _ = task.step(moved, torch.tensor([action + 1]))
    torch.testing.assert_close(back.pose, state.pose, atol=1e-4, rtol=0)
    assert back.path_mm.item() == pytest.approx(2 * unit if degree < 2 else 0, abs=1e-3)


def test_moves_follow_the_axes_of_a_turned_probe(volumes: Volumes) -> None:
    task = make(volumes)
    state = begin(task, 1)
    state = state.replace(pose=torch.tensor([[0.0, 0, math.pi / 2, 0, 0]]))
    moved, _ = task.step(state, torch.tensor([0]))
    torch.testing.assert_close(moved.pose[0, :2], torch.tensor([0.0, 5.0]), atol=1e-4, rtol=0)


def test_a_stop_ends_an_episode_and_pays_by_where_it_is(volumes: Volumes) -> None:
    task = make(volumes, right_stop=2.0, wrong_stop=-1.0)
    for offsets, pay in (({}, 2.0), ({"x": 20.0}, -1.0)):
        state, reward = task.step(place(task, **offsets), torch.tensor([STOP]))
        assert reward.item() == pytest.approx(pay, abs=1e-5)
        assert bool(task.terminated(state))
        assert task.figures(state)["stopped"].item() == 1


def test_continuous_actions_move_all_degrees_at_once_and_stop_above_a_half(volumes: Volumes) -> None:
    task = make(volumes, action="continuous")
    state = place(task, x=-10.0, tilt=-10.0)
    moved, _ = task.step(state, torch.tensor([[0.5, 0, 0, 1.0, 0, 0.49]]))
    left = task.moves_left(moved)[0]
    assert left.tolist() == pytest.approx([1.5, 0, 0, 1, 0], abs=0.2)  # the lateral axis is not x
    assert not task.terminated(moved)
    stopped, _ = task.step(state, torch.tensor([[0.5, 0, 0, 1.0, 0, 0.51]]))
    assert bool(task.terminated(stopped))
    assert torch.equal(stopped.pose, state.pose)


@pytest.mark.parametrize("action", ["steps", "continuous"])
def test_the_teacher_succeeds_from_every_start_and_stops(volumes: Volumes, action: str) -> None:
    task = make(volumes, action=action)
    played = play(task, TeacherPlayer(task), begin(task, 128))
    figures = task.figures(played.states[-1])
    assert figures["success"].min() == figures["stopped"].min() == 1
    assert played.lengths.max() <= (30 if action == "steps" else 13)


@pytest.mark.parametrize("reward", ["quality", "distance", "area"])
def test_rewards_of_changes_add_up_to_the_change_of_an_episode(volumes: Volumes, reward: str) -> None:
    task = make(volumes, reward=reward, right_stop=0.0)
    start = begin(task, 64)
    played = play(task, TeacherPlayer(task), start)
    end = played.states[-1]
    if reward == "quality":
        wanted = end.quality - start.quality
    elif reward == "distance":
        wanted = (
            torch.stack(task._errors(start)).sum(dim=0) - torch.stack(task._errors(end)).sum(dim=0)
        ) / 40
    else:
        wanted = 0.7 * (end.area - start.area) + 0.3 * (end.centring - start.centring)
        wanted = wanted - 0.01 * played.lengths
    torch.testing.assert_close(played.returns, wanted, atol=1e-4, rtol=0)


def test_the_sign_reward_pays_what_hase_paid(volumes: Volumes) -> None:
    task = make(volumes, reward="sign")
    nearer, farther = (task.step(place(task, x=20.0), torch.tensor([a]))[1].item() for a in (1, 0))
    assert (nearer, farther) == pytest.approx((0.05, -0.1))
    state = place(task)
    state = task._look(state.replace(pose=torch.tensor([[72.0, 0, 0, 0, 0]])))
    at_border, reward = task.step(state, torch.tensor([0]))
    assert torch.equal(at_border.pose, state.pose)
    assert reward.item() == pytest.approx(-0.1)
    assert task.step(place(task), torch.tensor([STOP]))[1].item() == pytest.approx(1)


def test_tilt_and_roll_end_at_45_degrees(volumes: Volumes) -> None:
    task = make(volumes)
    state = place(task)
    for _ in range(15):
        state, _ = task.step(state, torch.tensor([6]))
    assert state.pose[0, 3].item() == pytest.approx(math.radians(45), abs=1e-5)


def test_the_path_holds_every_place_of_the_probe(volumes: Volumes) -> None:
    task = make(volumes)
    state = place(task)
    places = [state.pose[0, :2]]
    for action in (0, 2, 0):
        state, _ = task.step(state, torch.tensor([action]))
        places.append(state.pose[0, :2])
    torch.testing.assert_close(state.path[0, 1:4], torch.stack(places[1:]))
    assert (state.path[0, 4:] == places[-1]).all()


def test_an_observation_holds_the_last_four_slices(volumes: Volumes) -> None:
    task = make(volumes)
    state = begin(task, 2)
    first = task.observe(state)[:, 3]
    assert all(torch.equal(task.observe(state)[:, k], first) for k in range(4))
    for step in range(1, 6):
        before = task.observe(state)
        state, _ = task.step(state, torch.tensor([2, 3]))
        assert torch.equal(task.observe(state)[:, :3], before[:, 1:])
        assert torch.equal(task.observe(state)[:, 3], task.slices(state))
        assert state.elapsed.tolist() == [step, step]


def test_labels_are_the_classes_in_the_slice(volumes: Volumes) -> None:
    task = make(volumes, observation="labels")
    seen = task.observe(place(task))[0, 3]
    assert set(seen.unique().tolist()) <= {25 * label for label in range(11)}
    assert ((seen == 250).sum() == task.standard_masks[0].sum()).item()


def test_a_scene_shows_where_the_probe_is_and_what_it_sees(volumes: Volumes) -> None:
    task = make(volumes, observation="scene", contact=True)
    state = place(task)
    seen = task.observe(state)
    assert seen.shape == (1, 3, 96, 96)
    moved, _ = task.step(state, torch.tensor([0]))
    pressed, _ = task.step(state, torch.tensor([10]))
    assert (task.observe(moved)[:, :, :56] != seen[:, :, :56]).any()
    bar = (slice(None), slice(None), slice(None), slice(0, 4))
    assert (task.observe(pressed)[bar] != seen[bar]).any()
    assert (task.observe(moved)[bar] == seen[bar]).all()
    assert (seen[0, :, 56:, 56:].float().std(dim=(1, 2)) > 20).all()  # the slice


def test_breath_moves_the_standard_plane_by_the_key_and_not_by_the_batch(volumes: Volumes) -> None:
    task = make(volumes, breathing=6.0)
    state = begin(task, 16)
    offsets = []
    for _ in range(20):
        offsets.append(task._standard(state)[:, 1] - volumes.standard[state.index][:, 1])
        state, _ = task.step(state, torch.full((16,), 2))
    moved = torch.stack(offsets)
    assert 5.5 < moved.abs().max() <= 6
    assert (moved.std(dim=0) > 2).all()
    assert (moved[0] != moved[0, 0]).any()
    alone = task.reset(state.index[3:4], state.key[3:4])
    assert torch.equal(task._standard(alone), task._standard(begin(task, 16))[3:4])


def test_the_teacher_follows_a_breathing_body_and_starts_are_as_far_as_promised(volumes: Volumes) -> None:
    task = make(volumes, breathing=5.0)
    start = begin(task, 128)
    assert task.figures(start)["start_mm"].max() <= 40 + 1e-3
    figures = task.figures(play(task, TeacherPlayer(task), start).states[-1])
    assert figures["success"].mean() > 0.98
    stopped = figures["stopped"] == 1
    assert figures["success"][stopped].min() == 1


def test_a_stop_keeps_the_view_that_it_was_decided_on(volumes: Volumes) -> None:
    task = make(volumes, breathing=20.0)
    state = begin(task, 8)
    stopped, _ = task.step(state, torch.full((8,), STOP))
    assert torch.equal(task.slices(stopped), task.slices(state))
    before, after = task.figures(state), task.figures(stopped)
    assert torch.equal(before["distance_mm"], after["distance_mm"])


def test_the_teacher_turns_the_shorter_way_round(volumes: Volumes) -> None:
    task = make(volumes)
    assert task.oracle_action(place(task, yaw=360.0)).item() == STOP
    assert task.oracle_action(place(task, yaw=350.0)).item() == 4
    far = make(volumes, action="continuous", step_mm=20.0, step_deg=30.0)
    played = play(far, TeacherPlayer(far), begin(far, 64))
    assert far.figures(played.states[-1])["success"].min() == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"view_mm": 1e-25}, "view_mm: Input should be greater than or equal to 10"),
        ({"right_stop": 1e300}, "right_stop: Input should be less than or equal to"),
        ({"wrong_stop": float("-inf")}, "wrong_stop"),
    ],
)
def test_numbers_out_of_bounds_are_refused(volumes: Volumes, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(volumes, **settings)


def test_a_step_limit_that_fills_the_memory_is_refused(volumes: Volumes) -> None:
    with pytest.raises(UserError, match="the step limit must be at most 10000"):
        build_task("usrl/ProbeNavigate-v0", volumes, {}, horizon=2**31 - 1)


def test_a_breathing_body_shows_other_slices_to_a_probe_at_rest(volumes: Volumes) -> None:
    task = make(volumes, breathing=6.0)
    state = place(task)
    turned, _ = task.step(state, torch.tensor([4]))
    back, _ = task.step(turned, torch.tensor([5]))
    torch.testing.assert_close(back.pose, state.pose)
    assert (task.slices(back) != task.slices(state)).float().mean() > 0.5


def test_light_contact_hides_the_ends_and_firm_contact_presses_and_costs(volumes: Volumes) -> None:
    task = make(volumes, contact=True)
    assert task.action_space.n == 13
    state = place(task).replace(force=torch.tensor([2.0]))
    dark = (task.slices(state)[0] == 0).all(dim=0)
    assert dark[:15].all()
    assert dark[-15:].all()
    assert not dark[20:44].any()
    firm = state.replace(force=torch.tensor([9.0]))
    assert not (task.slices(firm)[0] == 0).all(dim=0).any()

    def depth(state: ProbeState) -> float:
        return float((task._scan(state)[1][0] == 10).nonzero()[:, 0].float().mean())

    assert depth(firm) == pytest.approx(depth(state.replace(force=torch.tensor([5.0]))) / 1.15, rel=0.05)
    task = make(volumes, contact=True, reward="distance")
    paid = [
        task.step(state.replace(force=torch.tensor([force])), torch.tensor([12]))[1].item()
        for force in (5.0, 9.0)
    ]
    assert paid[1] == pytest.approx(paid[0] - 0.06)


def test_shrinking_steps_halve_when_a_probe_goes_to_and_fro(volumes: Volumes) -> None:
    task = make(volumes, shrink=True)
    state = place(task)
    scales = []
    for action in (0, 1, 0, 1, 0, 1):
        state, _ = task.step(state, torch.tensor([action]))
        scales.append(state.scale.item())
    assert scales[:2] == [1, 0.5]
    assert min(scales) == 0.25
    straight = place(task)
    for _ in range(4):
        straight, _ = task.step(straight, torch.tensor([0]))
    assert straight.scale.item() == 1
    with pytest.raises(UserError, match="shrink: continuous moves choose their length"):
        make(volumes, shrink=True, action="continuous")


def test_counts_by_loops_and_by_formulas_are_equal(volumes: Volumes) -> None:
    task = make(volumes)
    state = begin(task, 32)
    state = state.replace(pose=task.cases.standard[state.index] + 0.1 * torch.randn(32, 5))
    quality = task._look(state).quality
    _, labels = task._scan(state)
    area, full, hit, _ = count_target_tensors(labels, task.standard_masks, state.index).unbind(dim=1)
    assert (2 * hit / (area + full)).max() > 0.5
    assert quality.max() > 0.5
    from usrl.envs.probe import task as module

    loops = module._count_target(labels, task.standard_masks, state.index)
    assert torch.equal(loops, count_target_tensors(labels, task.standard_masks, state.index))


def test_a_view_that_does_not_reach_a_target_is_refused(volumes: Volumes) -> None:
    with pytest.raises(
        UserError, match="view_mm: the targets of 4 bodies, such as 'body-0000', are out of view"
    ):
        make(volumes, view_mm=12.0)
    with pytest.raises(UserError, match="view_mm: Input should be less than or equal to 60"):
        make(volumes, view_mm=61.0)


def test_a_picture_shows_body_slice_and_standard_plane(volumes: Volumes) -> None:
    task = make(volumes)
    state = begin(task, 3)
    picture = task.render(state, 1)
    assert picture.shape == (396, 1020, 3)
    moved, _ = task.step(state, torch.tensor([0, 0, 0]))
    after = task.render(moved, 1)
    assert (after[28:368, :680] != picture[28:368, :680]).any()
    assert np.array_equal(after[28:368, 680:], picture[28:368, 680:])


def test_evaluation_reports_errors_of_the_end(volumes: Volumes) -> None:
    task = make(volumes)
    figures = evaluate_player(task, TeacherPlayer(task))
    assert figures["success"] == 1
    assert figures["distance_mm"] < 3
    assert figures["score"] > figures["initial_score"]
    assert len(begin_evaluation(task, [2]).index) == 1
