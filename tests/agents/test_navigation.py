"""Scripted players of probe navigation."""

from typing import Any

import pytest
import torch

from usrl.agents.navigation import ServoPlayer, SweepPlayer
from usrl.agents.players import RandomPlayer, begin_evaluation, play
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.poses import DEGREES
from usrl.data.bodies.volumes import Volumes
from usrl.errors import UserError
from usrl.registry import build_task


@pytest.fixture(scope="module")
def volumes() -> Volumes:
    return Volumes.from_bodies([make_body(5, index) for index in range(12)])


def make(volumes: Volumes, **settings: Any) -> Any:
    return build_task("usrl/ProbeNavigate-v0", volumes, settings)


@pytest.mark.parametrize("action", ["steps", "continuous"])
def test_a_sweep_finds_the_lesion_where_only_the_place_is_wrong(volumes: Volumes, action: str) -> None:
    task = make(volumes, action=action, start_deg=0.0, start_mm=20.0)
    reached = {
        player.name: play(task, player, begin_evaluation(task))
        for player in (SweepPlayer(task), RandomPlayer(task))
    }
    success = {name: task.figures(own.states[-1])["success"].mean() for name, own in reached.items()}
    assert success["sweep"] > success["random"] + 0.4
    assert reached["sweep"].lengths.float().mean() < 40


def test_a_sweep_goes_as_far_to_one_side_as_to_the_other(volumes: Volumes) -> None:
    task = make(volumes, start_mm=20.0)
    player = SweepPlayer(task)
    played = play(task, player, begin_evaluation(task, [0]))
    start = played.states[0].pose[0]
    across = torch.stack([state.pose[0] - start for state in played.states[:13]])
    along_probe = across[:, 1] * start[2].cos() - across[:, 0] * start[2].sin()
    steps = [0, 1, 2, 3, 4, 3, 2, 1, 0, -1, -2, -3, -4]
    assert along_probe.tolist() == pytest.approx([5.0 * step for step in steps], abs=1e-3)


@pytest.mark.parametrize(("degree", "amount"), [(0, 14.0), (4, 25 * DEGREES), (4, -25 * DEGREES), (1, 4.0)])
def test_a_servo_centres_levels_and_enlarges_the_mask(volumes: Volumes, degree: int, amount: float) -> None:
    task = make(volumes)
    state = begin_evaluation(task)
    pose = volumes.standard.clone()
    pose[:, degree] += amount
    state = task._look(state.replace(pose=pose))
    played = play(task, ServoPlayer(task), state)
    first, last = (task.figures(each)["score"] for each in (state, played.states[-1]))
    assert last.median() > 0.85  # the network does not see every lesion
    assert last.mean() > first.mean() + 0.1


@pytest.mark.parametrize("settings", [{"geometry": "sector"}, {"shrink": True}])
def test_what_players_cannot_measure_is_refused(volumes: Volumes, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="sweep and servo play with geometry='linear' and shrink=False"):
        SweepPlayer(make(volumes, **settings))


@pytest.mark.parametrize("player", [SweepPlayer, ServoPlayer])
def test_what_a_player_does_depends_on_its_episode_alone(volumes: Volumes, player: Any) -> None:
    task = make(volumes)
    together = play(task, player(task), begin_evaluation(task))
    alone = play(task, player(task), begin_evaluation(task, [3]))
    assert int(alone.lengths[0]) == int(together.lengths[3])
    torch.testing.assert_close(alone.states[-1].pose[0], together.states[-1].pose[3])
