"""The rules of clip summaries."""

from typing import Any

import numpy as np
import pytest
import torch
from summary_builders import LENGTHS, begin, make_clip, make_clips, make_task, play_out

from usrl.data.clips.clips import Clips
from usrl.envs.summary.rules import count_kept
from usrl.envs.summary.task import COLUMNS, EXTRAS
from usrl.envs.task import follow_teacher
from usrl.errors import UserError
from usrl.features.table import FeatureTable

KINDS = ("frames", "sequential")


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


def random_plans(task: Any, share: float = 0.4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(len(task.cases), task.places, generator=generator) < share


def test_one_step_of_frames_keeps_what_the_action_says_and_ends(clips: Clips) -> None:
    task = make_task(clips)
    state = begin(task)
    assert not task.terminated(state).any()
    action = torch.zeros(3, 24, dtype=torch.int8)
    action[:, [1, 4, 8, 22]] = 1
    moved, reward = task.step(state, action)
    assert task.terminated(moved).all()
    assert moved.kept.sum(dim=1).tolist() == [3, 3, 3]  # place 22 is padding in every clip
    assert reward.tolist() == pytest.approx(task.figures(moved)["score"].tolist())
    assert task.figures(moved)["share"].tolist() == pytest.approx([3 / length for length in LENGTHS])


def test_padding_is_zero_and_every_frame_has_features_of_length_one(clips: Clips) -> None:
    task = make_task(clips)
    seen = task.observe(begin(task))
    assert seen.shape == (3, 24, 96 + COLUMNS)
    assert task.observation_space.shape == (24, 99)
    for row, length in zip(seen, LENGTHS, strict=True):
        assert row[:length, :96].norm(dim=1).tolist() == pytest.approx([1] * length, abs=1e-5)
        assert row[:length, -1].tolist() == pytest.approx([0.15] * length)
        assert not row[length:].any()
    assert seen[..., 97].amax(dim=1).tolist() == [1, 1, 1]  # some frame is the sharpest of its clip


def test_a_clip_is_the_same_whatever_padding_follows_it(clips: Clips) -> None:
    short, long = make_task(clips), make_task(clips, frames=40)
    action = random_plans(long).to(torch.int8)
    moved = [task.step(begin(task), action[:, : task.places])[0] for task in (short, long)]
    for one, other in zip(
        *(task.figures(state).values() for task, state in zip((short, long), moved, strict=True)), strict=True
    ):
        assert one.tolist() == pytest.approx(other.tolist(), abs=1e-6)
    torch.testing.assert_close(short.observe(begin(short)), long.observe(begin(long))[:, :24])


def test_clips_that_are_longer_than_the_places_make_them_more(clips: Clips) -> None:
    task = make_task(clips, frames=10)
    assert task.places == 20
    assert task.action_space.n == 20  # type: ignore[attr-defined]


@pytest.mark.parametrize("weights", [{}, {"abnormality": 1.0, "sharpness": 0.5}, {"share_penalty": 2.0}])
def test_frame_by_frame_earns_in_sum_what_all_at_once_earns(clips: Clips, weights: dict[str, float]) -> None:
    at_once, stepwise = make_task(clips, **weights), make_task(clips, action="sequential", **weights)
    plans = random_plans(at_once)
    whole, reward = at_once.step(begin(at_once), plans.to(torch.int8))
    last, total = play_out(stepwise, begin(stepwise), plans)
    assert total.tolist() == pytest.approx(reward.tolist(), abs=1e-5)
    assert last.kept.equal(whole.kept)
    for name, values in at_once.figures(whole).items():
        assert stepwise.figures(last)[name].tolist() == pytest.approx(values.tolist(), abs=1e-5)


def test_the_penalty_is_paid_for_the_distance_from_the_wanted_share(clips: Clips) -> None:
    free, strict = make_task(clips), make_task(clips, share_penalty=2.0, share=0.25)
    action = torch.zeros(3, 24, dtype=torch.int8)
    action[:, :3] = 1  # 3/12, 3/9 and 3/20
    rewards = [task.step(begin(task), action)[1] for task in (free, strict)]
    assert (rewards[0] - rewards[1]).tolist() == pytest.approx(
        [0, 2 * (1 / 3 - 0.25), 2 * (0.25 - 0.15)], abs=1e-6
    )


def test_weights_of_the_reward_move_the_score(clips: Clips) -> None:
    action = torch.zeros(3, 24, dtype=torch.int8)
    action[:, 8] = 1
    plain, weighted = make_task(clips), make_task(clips, abnormality=1.0, sharpness=2.0)
    figures = plain.figures(plain.step(begin(plain), action)[0])
    wanted = (2 * figures["score"] + figures["abnormality"] + 2 * figures["sharpness"]) / 5
    score = weighted.figures(weighted.step(begin(weighted), action)[0])["score"]
    assert score.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
    assert figures["sharpness"][1] == 1  # of 9 frames the last one has most noise


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_that_has_ended_changes_no_more(clips: Clips, kind: str) -> None:
    task = make_task(clips, action=kind)
    state = begin(task)
    action = torch.ones(3, 24) if kind == "frames" else torch.ones(3, dtype=torch.int64)
    for _ in range(task.places):
        state, _ = task.step(state, action)
    assert task.terminated(state).all()
    kept = state.kept
    moved, reward = task.step(state, torch.zeros_like(action))
    assert moved.kept.equal(kept)
    assert reward.tolist() == [0, 0, 0]


def test_sequential_episodes_end_with_their_clip(clips: Clips) -> None:
    task = make_task(clips, action="sequential")
    state = begin(task)
    ends = torch.zeros(3, dtype=torch.int64)
    for step in range(1, 25):
        state, _ = task.step(state, torch.ones(3, dtype=torch.int64))
        ends = torch.where((ends == 0) & task.terminated(state), step, ends)
    assert ends.tolist() == list(LENGTHS)
    assert state.kept.sum(dim=1).tolist() == list(LENGTHS)


@pytest.mark.parametrize("always", [0, 1])
def test_a_budget_keeps_exactly_the_wanted_number_whatever_the_agent_does(clips: Clips, always: int) -> None:
    task = make_task(clips, action="sequential", budget=True, share=0.25)
    last, _ = play_out(task, begin(task), torch.full((3, 24), always))
    assert last.kept.sum(dim=1).tolist() == count_kept(clips.lengths, 0.25).tolist() == [3, 2, 5]
    first = [0, 1, 2] if always else [9, 10, 11]
    assert last.kept[0].nonzero().flatten().tolist() == first


def test_a_sequential_agent_sees_the_frame_the_summary_and_how_far_it_is(clips: Clips) -> None:
    task = make_task(clips, action="sequential", share=0.25, apart=4)
    state = begin(task)
    features = task.features(state.index)
    seen = task.observe(state)
    assert seen.shape == (3, 2 * 96 + EXTRAS)
    torch.testing.assert_close(seen[:, :96], features[:, 0])
    assert not seen[:, 96:192].any()
    # The nearest kept frame is as far as can be, nothing is kept, no time has passed, long since.
    assert seen[0, 194:].tolist() == [1, 0, 0, 1]
    for action in (0, 1, 1, 0):
        state, _ = task.step(state, torch.full((3,), action))
    seen = task.observe(state)
    torch.testing.assert_close(seen[:, 96:192], (features[:, 1] + features[:, 2]) / 2)
    near = (features[:, 4:5] - features[:, 1:3]).square().sum(dim=2).amin(dim=1) / 4
    assert seen[:, 194].tolist() == pytest.approx(near.tolist(), abs=1e-5)
    assert seen[:, 195].tolist() == pytest.approx([2 / 3, 1, 2 / 5])
    assert seen[:, 196].tolist() == pytest.approx([4 / length for length in LENGTHS])
    assert seen[:, 197].tolist() == [0.5, 0.5, 0.5]  # kept two frames ago


def test_images_show_frames_and_padding(clips: Clips) -> None:
    task = make_task(clips, observation="image")
    seen = task.observe(begin(task))
    assert seen.shape == (3, 24, 64, 64)
    assert seen[1, :9].equal(clips.frames[12:21])
    assert not seen[1, 9:].any()
    stepwise = make_task(clips, observation="image", action="sequential")
    state, _ = stepwise.step(begin(stepwise), torch.ones(3, dtype=torch.int64))
    seen = stepwise.observe(state)
    assert seen[0, 0].equal(clips.frames[1])
    assert seen[0, 1].equal(clips.frames[0])
    assert seen[0, 2:].unique().tolist() == [255 // 12, 127]  # 1 of 12 frames, and 1 of 2 to keep


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_keeps_the_known_frames(clips: Clips, kind: str) -> None:
    task = make_task(clips, action=kind)
    figures = task.figures(follow_teacher(task, begin(task)))
    assert [figures[name].tolist() for name in ("f1", "precision", "recall")] == [[1, 1, 1]] * 3


def test_clips_without_known_frames_have_no_f1_and_no_teacher() -> None:
    task = make_task(make_clips(known=False))
    state, _ = task.step(begin(task), torch.ones(3, 24))
    assert "f1" not in task.figures(state)
    with pytest.raises(UserError, match="good frames of these clips are not known, so there is no teacher"):
        task.oracle_action(state)


def test_one_kind_of_features_is_seen_and_rewarded(clips: Clips) -> None:
    task = make_task(clips, latents="autoencoder")
    assert task.observe(begin(task)).shape == (3, 24, 32 + COLUMNS)
    vectors = clips.prepare(task.table).vectors
    torch.testing.assert_close(task.features(torch.tensor([0]))[0, :12], vectors[:12, 1])
    kinds = {"all", "classifier", "segmentation", "autoencoder"}
    scores = {float(task.step(begin(task), random_plans(task))[1][2]) for task in
              (make_task(clips, latents=kind) for kind in kinds)}  # fmt: skip
    assert len(scores) == 4


def test_features_are_computed_once_for_all_tasks_of_the_same_weights(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(first := make_task(clips))
    first.observe(begin(first))
    monkeypatch.setattr(FeatureTable, "compute", None)  # would fail
    second = make_task(clips, action="sequential")
    second.observe(begin(second))
    assert second.table == first.table


def test_a_run_of_another_kind_gives_no_features(clips: Clips) -> None:
    with pytest.raises(UserError, match=r"features: .*wanted a recipe of kind 'features', got 'agent'"):
        make_task(clips, features="contour-ppo")
    with pytest.raises(UserError, match="features: nothing: no such run"):
        make_task(clips, features="nothing")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": True}, "budget: frames are kept all at once; set action='sequential', or leave it out"),
        ({"share": 0.0}, "share: Input should be greater than 0"),
        (
            {"latents": "both"},
            "latents: Input should be 'all', 'classifier', 'autoencoder' or 'segmentation'",
        ),
        ({"rule": "shot"}, "rule: Input should be 'windows' or 'shots'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(clips: Clips, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_task(clips, **settings)


def test_the_rule_turns_scores_into_frames_and_may_be_that_of_shots(clips: Clips) -> None:
    scores = torch.zeros(3, 24)
    scores[:, 3:8] = 1.0
    task = make_task(clips, share=0.25)
    assert task.decide(begin(task), scores)[0].nonzero().flatten().tolist() == [3, 4, 5]
    # Shots follow the picture, so that another number of frames may be kept, but never more.
    shots = make_task(clips, share=0.25, rule="shots").decide(begin(task), scores)
    assert (shots.sum(dim=1) <= count_kept(clips.lengths, 0.25)).all()


def test_pictures_show_known_and_kept_frames(clips: Clips) -> None:
    for kind in KINDS:
        task = make_task(clips, action=kind)
        state = begin(task)
        before = task.render(state, 0)
        action = torch.ones(3, 24) if kind == "frames" else torch.ones(3, dtype=torch.int64)
        after = task.render(task.step(state, action)[0], 0)
        assert before.shape == after.shape
        assert before.dtype == np.uint8
        assert (before != after).any()
        assert (after == (0, 158, 115)).all(axis=2).any()  # known frames
        assert (after == (86, 180, 233)).all(axis=2).any()  # kept frames
    hidden = make_task(make_clips(known=False))
    assert not (hidden.render(begin(hidden), 0) == (0, 158, 115)).all(axis=2).any()


def test_frames_of_any_size_are_brought_to_that_of_the_networks() -> None:
    small, large = (Clips.from_clips([make_clip("clip", 12)], size) for size in (64, 128))
    first, second = (make_task(clips).features(torch.tensor([0])) for clips in (small, large))
    assert (first * second).sum(dim=2)[0, :12].min() > 0.9


def test_a_clip_of_two_frames_can_be_summarised() -> None:
    task = make_task(Clips.from_clips([make_clip("clip", 2)], 64))
    state, reward = task.step(begin(task), task.decide(begin(task), torch.rand(1, 24)))
    assert int(state.kept.sum()) == 1
    assert reward.isfinite().all()
