"""Scripted players of clip summaries."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from summary_builders import LENGTHS, begin, make_clips, make_task

from usrl.agents.players import begin_evaluation, play
from usrl.agents.summaries import (
    ClassifierPlayer,
    KnownPlayer,
    MedoidsPlayer,
    MotionPlayer,
    RandomSummaryPlayer,
    SharpPlayer,
    StillPlayer,
    UniformPlayer,
    find_medoids,
)
from usrl.data.clips.clips import Clip, Clips
from usrl.envs.summary.rules import count_kept

PLAYERS = [
    UniformPlayer,
    RandomSummaryPlayer,
    MedoidsPlayer,
    ClassifierPlayer,
    MotionPlayer,
    StillPlayer,
    SharpPlayer,
    KnownPlayer,
]


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("kind", ["frames", "sequential"])
def test_every_player_keeps_the_same_number_of_frames(clips: Clips, player: Any, kind: str) -> None:
    task = make_task(clips, action=kind, share=0.3)
    played = play(task, player(task), begin_evaluation(task))
    assert played.states[-1].kept.sum(dim=1).tolist() == count_kept(clips.lengths, 0.3).tolist()


@pytest.mark.parametrize("player", PLAYERS)
def test_a_player_keeps_the_same_frames_alone_in_a_batch_and_one_by_one(clips: Clips, player: Any) -> None:
    task, stepwise = make_task(clips), make_task(clips, action="sequential")
    together = play(task, player(task), begin_evaluation(task)).states[-1].kept
    alone = play(task, player(task), begin_evaluation(task, [2])).states[-1].kept
    assert alone[0].equal(together[2])
    steps = play(stepwise, player(stepwise), begin_evaluation(stepwise)).states[-1].kept
    assert steps.equal(together)


def plan(task: Any, player: Any, *rows: int) -> list[list[int]]:
    kept = player(task).plan(begin(task, *rows))
    return [row.nonzero().flatten().tolist() for row in kept]


def test_uniform_frames_are_in_the_middle_of_equal_parts(clips: Clips) -> None:
    # 3 of 12 frames: the middles of parts of 4; 2 of 9: of parts of 4.5; 5 of 20: of parts of 4.
    assert plan(make_task(clips, share=0.25), UniformPlayer) == [[2, 6, 10], [2, 6], [2, 6, 10, 14, 18]]


def test_random_summaries_differ_between_episodes_and_not_between_calls(clips: Clips) -> None:
    task = make_task(clips)
    one, again = (plan(task, RandomSummaryPlayer) for _ in range(2))
    assert one == again
    state = begin(task, 2, 2, 2, 2)
    kept = RandomSummaryPlayer(task).plan(state)
    assert len({tuple(row.tolist()) for row in kept}) > 1


def moving(places: list[int]) -> Clips:
    """Return a clip of a bright square at a row of places."""
    frames = np.zeros((len(places), 64, 64), np.uint8)
    for frame, place in zip(frames, places, strict=True):
        frame[20:40, place : place + 20] = 200
    return Clips.from_clips([Clip(frames, 20.0, None, "clip", "clip", "made")], 64)


def test_motion_is_where_the_picture_changes_and_still_where_it_does_not() -> None:
    task = make_task(moving([5] * 10 + [5, 9, 13, 17, 21, 25] + [25] * 10), share=5 / 26)
    assert set(plan(task, MotionPlayer)[0]) < set(range(10, 17))
    assert plan(task, StillPlayer) == [[0, 1, 2, 3, 4]]


def test_the_first_and_the_last_frame_have_one_neighbour_to_move_to() -> None:
    task = make_task(moving([5, 5, 15]))
    scores = MotionPlayer(task).score(begin(task))[0, :4]
    assert scores[0] == 0
    assert scores[2] == pytest.approx(2 * float(scores[1]))
    assert scores[3] == 0  # padding


def test_sharp_frames_are_those_with_more_detail(clips: Clips) -> None:
    # The noise of the clips grows.
    assert plan(make_task(clips), SharpPlayer) == [[10, 11], [8], [17, 18, 19]]


def test_the_ceiling_keeps_known_frames_first(clips: Clips) -> None:
    task = make_task(clips, share=0.25)
    figures = task.figures(play(task, KnownPlayer(task), begin_evaluation(task)).states[-1])
    chance = task.figures(play(task, RandomSummaryPlayer(task), begin_evaluation(task)).states[-1])
    assert figures["f1"].mean() > chance["f1"].mean()


def cost(distance: np.ndarray, chosen: Any) -> float:
    return float(distance[:, list(chosen)].min(axis=1).sum())


def test_medoids_are_as_good_as_the_best_of_all_choices() -> None:
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(10):
        points = rng.normal(size=(12, 2)) + 4 * rng.integers(0, 3, (12, 1))
        distance = np.square(points[:, None] - points).sum(axis=2)
        best = min(cost(distance, chosen) for chosen in combinations(range(12), 3))
        gaps.append(cost(distance, find_medoids(distance, 3)) / best)
    assert np.median(gaps) == pytest.approx(1)
    assert max(gaps) < 1.2


def test_every_medoid_is_another_item_even_of_equal_ones() -> None:
    assert find_medoids(np.zeros((6, 6)), 4).tolist() == [0, 1, 2, 3]
    assert find_medoids(np.ones((3, 3)) - np.eye(3), 3).tolist() == [0, 1, 2]


def test_medoids_of_a_clip_are_its_frames(clips: Clips) -> None:
    task = make_task(clips)
    for row, kept in enumerate(plan(task, MedoidsPlayer)):
        assert max(kept) < LENGTHS[row]
    features = task.features(torch.tensor([2]))[0, :20].numpy()
    distance = np.maximum(2 - 2 * features @ features.T, 0)
    uniform = plan(task, UniformPlayer, 2)[0]
    assert cost(distance, plan(task, MedoidsPlayer, 2)[0]) <= cost(distance, uniform)
