"""Contour correction as a task."""

from typing import Any

import pytest
import torch

from usrl.agents.players import RandomPlayer, TeacherPlayer, play
from usrl.compute.rng import mix
from usrl.data.bank import Bank
from usrl.envs.correct.task import CorrectState, CorrectTask
from usrl.errors import UserError
from usrl.geometry.area import read_distances, signed_distances
from usrl.geometry.guides import find_guides
from usrl.registry import build_task

CORRECT, REFINE = "usrl/ContourCorrect-v0", "usrl/ContourRefine-v0"


def make(bank: Bank, horizon: int | None = None, **settings: Any) -> CorrectTask:
    task = build_task(CORRECT, bank, settings, horizon)
    assert isinstance(task, CorrectTask)
    return task


def rest(task: CorrectTask, state: CorrectState, steps: int) -> list[CorrectState]:
    """Return the states of an agent that does nothing."""
    states = [state]
    for _ in range(steps):
        still = torch.zeros(len(state.index), *(task.action_space.shape or ()))
        states.append(task.step(states[-1], still)[0])
    return states


def test_the_opening_is_contour_refinement(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank)
    refine: Any = build_task(REFINE, bank, {"scale": "proposal", "observation": "profile+start"})
    own, other = task.reset(index, mix(index)), refine.reset(index, mix(index))
    generator = torch.Generator().manual_seed(0)
    for _ in range(task.settings.opening - 1):
        assert torch.equal(own.vertices, other.vertices)
        assert torch.equal(task.observe(own)[:, :4], refine.observe(other))
        action = torch.rand(len(index), 64, generator=generator) * 2 - 1
        (own, paid), (other, reward) = task.step(own, action), refine.step(other, action)
        assert torch.equal(paid, reward)
    assert (own.corrections == 0).all()


def test_a_point_comes_after_the_opening_and_then_every_few_moves(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, opening=2, moves=3, rounds=3, hold=0.0, satisfied=1.0)
    states = rest(task, task.reset(index, mix(index)), 2 + 3 * 3)
    assert [int(state.corrections[0]) for state in states] == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert [bool(state.is_done[0]) for state in states] == [False] * 11 + [True]


def test_points_lie_on_the_true_border_next_to_the_largest_error(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, opening=1, hold=0.0)
    state = rest(task, task.reset(index, mix(index)), 1)[-1]
    assert (state.corrections == 1).all()
    distances = signed_distances(bank.targets)
    assert float(read_distances(distances, index, state.points[:, :1]).abs().max()) < 0.7
    # The vertex that is most wrong is not far.
    away = read_distances(distances, index, state.vertices).abs()
    worst = state.vertices.gather(1, away.argmax(dim=1)[:, None, None].expand(-1, 1, 2))
    assert float((worst - state.points[:, :1]).norm(dim=2).median()) < 12


@pytest.mark.parametrize(("hold", "left"), [(1.0, 0.0), (0.5, 0.125), (0.0, 1.0)])
def test_points_hold_the_contour_as_firmly_as_they_should(
    bank: Bank, index: torch.Tensor, hold: float, left: float
) -> None:
    task = make(bank, opening=1, moves=3, hold=hold, hold_width=0.08, step_px=20.0)
    states = rest(task, task.reset(index, mix(index)), 1)
    still = torch.zeros(len(index), 64)
    for _ in range(3):
        states.append(task.move(states[-1], still))

    def reach(state: CorrectState) -> torch.Tensor:
        guides = find_guides(state.vertices, state.points, state.corrections)
        return guides.offset[guides.gap == 0].abs()

    first, last = reach(states[1]), reach(states[-1])
    is_far = first > 2
    assert is_far.any()
    assert (last / first)[is_far].tolist() == pytest.approx([left] * int(is_far.sum()), abs=0.1)


def test_a_held_contour_moves_where_the_points_are_not(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, opening=1, hold_width=0.02)
    start = rest(task, task.reset(index, mix(index)), 1)[-1]
    moved = task.move(start, torch.full((len(index), 64), 0.25))
    guides = find_guides(start.vertices, start.points, start.corrections)
    shift = (moved.vertices - start.vertices).norm(dim=2) / start.unit
    assert shift[guides.gap > 10].tolist() == pytest.approx([1.0] * int((guides.gap > 10).sum()), abs=0.01)


def test_a_pull_alone_improves_the_contour(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, hold_width=0.08, opening=1)
    states = rest(task, task.reset(index, mix(index)), 31)
    figures = task.figures(states[-1])
    assert float((figures["dice_3"] - figures["dice_0"]).mean()) > 0.05
    assert (
        float(figures["dice_10"].mean()) > float(figures["dice_3"].mean()) > float(figures["dice_1"].mean())
    )


def test_a_vertex_at_a_point_is_credited_with_what_the_point_lets_it_do(
    bank: Bank, index: torch.Tensor
) -> None:
    task, free = make(bank, opening=1, hold_width=0.02), make(bank, opening=1, hold=0.0)
    state = rest(task, task.reset(index, mix(index)), 1)[-1]
    gap = find_guides(state.vertices, state.points, state.corrections).gap
    at_point, far = gap == 0, gap > 10
    inwards, outwards = (sign * torch.ones(len(index), 64) for sign in (-1, 1))
    one, other = task.credit(state, inwards), task.credit(state, outwards)
    assert torch.equal(one[at_point], other[at_point])  # whatever it does, the point decides
    assert torch.equal(one[far], free.credit(state, inwards)[far])
    assert not torch.equal(one[far], other[far])


def test_what_a_correction_costs_is_credited_to_no_vertex(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, cost=0.1)
    with pytest.raises(UserError, match=r"no vertex's own, got cost=0.1; set cost=0, or use credit: shared"):
        task.credit(task.reset(index, mix(index)), torch.zeros(len(index), 64))


def test_figures_hold_the_dice_after_each_number_of_corrections(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, opening=2, moves=1, satisfied=1.0, hold_width=0.06)
    states = rest(task, task.reset(index, mix(index)), 12)
    figures = task.figures(states[-1])
    going = ~states[-2].is_done  # a user who sees no error has stopped
    assert going.sum() > 8
    for count in (0, 1, 2, 3, 5):
        assert torch.equal(figures[f"dice_{count}"][going], states[count + 2].dice[going])
    after = torch.stack([state.dice for state in states[2:]])
    area = torch.trapezoid(after, dim=0) / 10
    assert torch.allclose(figures["dice_auc"][going], area[going], atol=1e-6)
    assert torch.equal(figures["dice_10"], figures["score"])
    assert (figures["corrections"][going] == 10).all()


def test_rewards_are_the_change_of_dice_less_the_cost_of_points(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, opening=1, moves=2, rounds=4, cost=0.01, satisfied=1.0)
    start = state = task.reset(index, mix(index))
    total = torch.zeros(len(index))
    for _ in range(1 + 2 * 4):
        state, paid = task.step(state, torch.full((len(index), 64), 0.01))
        total += paid
    assert torch.allclose(total, state.dice - start.dice - 0.04, atol=1e-5)


def test_a_satisfied_user_ends_the_episode_and_the_teacher_satisfies(bank: Bank, index: torch.Tensor) -> None:
    task = make(bank, satisfied=0.9)
    taught = play(task, TeacherPlayer(task), task.reset(index, mix(index)))
    chance = play(task, RandomPlayer(task), task.reset(index, mix(index)))
    assert float(taught.states[-1].dice.mean()) > 0.95
    assert float(taught.lengths.float().mean()) < 12
    assert float(chance.lengths.float().mean()) > 20
    assert float(taught.states[-1].dice.mean()) > float(chance.states[-1].dice.mean()) + 0.05


def test_episodes_from_masks_begin_with_a_point_and_no_opening(bank: Bank, index: torch.Tensor) -> None:
    mixed = make(bank, masks=0.5)
    state = mixed.reset(index.repeat(40), mix(torch.arange(40 * len(index))))
    from_mask = state.corrections == 1
    assert float(from_mask.float().mean()) == pytest.approx(0.5, abs=0.1)
    assert (state.left[from_mask] == 3).all()
    assert (state.left[~from_mask] == 6).all()
    assert float(state.dice[from_mask].mean()) > float(state.dice[~from_mask].mean()) + 0.05
    network = make(bank, proposal="network")
    assert (network.reset(index, mix(index)).corrections == 1).all()


def test_the_users_channels_show_distance_sureness_and_rounds(bank: Bank) -> None:
    task = make(bank, opening=1, rounds=4, hold=0.0, sure_width=0.1)
    first, second = rest(task, task.reset(torch.tensor([0]), torch.tensor([5])), 1)
    before, after = (task.observe(state)[0, 4:] for state in (first, second))
    assert (before[0] == 127).all()
    assert (before[1] == 0).all()
    assert (before[2] == 255).all()
    assert (after[2] == 191).all()  # three of four rounds are left
    sure = after[1, :, 0].float()
    foot = int(sure.argmax())
    assert sure[foot] == 255
    assert sure[(foot + 32) % 64] == 0
    # Along the foot's normal the channel crosses its middle where the point is.
    point, vertex = second.points[0, 0], second.vertices[0, foot]
    offset = float((point - vertex).norm() / second.unit[0, 0])
    crossing = int((after[0, foot].float() - 127.5).abs().argmin())
    assert abs(crossing - 19.5) == pytest.approx(min(offset, 19.5), abs=1.6)


def test_image_observations_show_the_points(bank: Bank) -> None:
    task = make(bank, observation="image", opening=1)
    states = rest(task, task.reset(torch.tensor([0]), torch.tensor([5])), 1)
    empty, marked = (task.observe(state)[0, 3] for state in states)
    assert not empty.any()
    rows, columns = marked.nonzero(as_tuple=True)
    middle = torch.stack([columns.float().mean(), rows.float().mean()])
    assert float((middle - states[1].points[0, 0]).norm()) < 1
    assert 9 <= len(rows) <= 14  # a disc of radius 2


@pytest.mark.parametrize(
    "settings",
    [{"user": "person", "masks": 0.5}, {"user": "careless", "observation": "image"}, {"proposal": "network"}],
)
def test_on_a_cpu_an_episode_is_the_same_to_the_bit_alone_and_in_a_batch(
    bank: Bank, settings: dict[str, Any]
) -> None:
    task = make(bank, opening=2, moves=2, rounds=3, **settings)
    index = torch.arange(13) % len(bank)
    together = task.reset(index, mix(index))
    alone = [task.reset(row, mix(row)) for row in index.split(1)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        action = torch.rand(len(index), 64, generator=generator) * 2 - 1
        action[::2] = task.oracle_action(together)[::2]
        together = task.step(together, action)[0]
        alone = [task.step(single, each)[0] for single, each in zip(alone, action.split(1), strict=True)]
        for row, single in enumerate(alone):
            for name, value in vars(single).items():
                assert torch.equal(value[0], vars(together)[name][row]), name
            assert torch.equal(task.observe(single)[0], task.observe(together)[row])


def test_there_is_room_for_more_points_than_rounds(bank: Bank) -> None:
    task = make(bank, rounds=2)
    state = task.begin(torch.tensor([0, 1]), task.reset(torch.tensor([0, 1]), torch.tensor([0, 1])).vertices)
    for number in range(5):
        state = task.place(state, torch.tensor([1]), torch.tensor([[float(number), 3.0]]))
    assert state.corrections.tolist() == [0, 5]
    assert state.points[1, :5, 0].tolist() == [0, 1, 2, 3, 4]
    assert task.observe(state).shape == (2, 7, 64, 40)


def test_a_point_spaces_the_contour_evenly_and_keeps_its_shape(bank: Bank) -> None:
    task = make(bank)
    turn = torch.linspace(0, 2 * torch.pi, 65)[:-1]
    crowded = turn + 0.9 * torch.sin(turn)  # a circle whose vertices crowd on one side
    circle = torch.stack([32 + 20 * torch.cos(crowded), 32 + 20 * torch.sin(crowded)], dim=1)[None]
    state = task.begin(torch.tensor([0]), circle, torch.tensor([0]))
    placed = task.place(state, torch.tensor([0]), torch.tensor([[52.0, 32.0]]))

    def edges(vertices: torch.Tensor) -> torch.Tensor:
        return (vertices - vertices.roll(1, dims=1)).norm(dim=2)

    assert edges(state.vertices).max() > 5 * edges(state.vertices).min()
    assert edges(placed.vertices).max() < 1.6 * edges(placed.vertices).min()
    both = task.mask(state) & task.mask(placed)
    assert both.sum() > 0.98 * task.mask(state).sum()


def test_a_contour_between_pixels_stays_as_it_is(bank: Bank) -> None:
    task = make(bank)
    turn = torch.linspace(0, 2 * torch.pi, 65)[:-1]
    speck = torch.stack([32.5 + 0.2 * torch.cos(turn), 32.5 + 0.2 * torch.sin(turn)], dim=1)[None]
    state = task.begin(torch.tensor([0]), speck, torch.tensor([0]))
    placed = task.place(state, torch.tensor([0]), torch.tensor([[40.0, 32.0]]))
    assert (placed.vertices == speck).all()


def test_a_picture_shows_the_points(bank: Bank) -> None:
    task = make(bank, opening=1, hold=0.0)
    after = rest(task, task.reset(torch.tensor([0]), torch.tensor([5])), 1)[-1]
    without = after.replace(corrections=torch.tensor([0]))
    changed = (task.render(without, 0)[28:-28] != task.render(after, 0)[28:-28]).any(axis=2)
    assert 20 < int(changed.sum()) < 400
