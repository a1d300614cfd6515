"""Agents of contour correction: trained, and as methods of sessions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usrl.agents.online import LearningAgent
from usrl.agents.segmenter import AgentSegmenter
from usrl.data.phantom.dataset import load_phantom
from usrl.data.prompts import jittered_boxes
from usrl.errors import UserError
from usrl.evaluation.methods import let_learn, open_interactive
from usrl.learners import train_folder
from usrl.metrics.overlap import dice
from usrl.runs.recipes import parse_recipe
from usrl.runs.run import Run, open_run
from usrl.session import Marks, Session, can_learn
from usrl.users.simulated import SimulatedUser
from usrl.users.users import USERS

ENV = {"id": "usrl/ContourCorrect-v0", "max_episode_steps": 36, "kwargs": {"masks": 0.5}}
TINY: dict[str, Any] = {
    "data": {"count": 24, "size": 64},
    "num_envs": 8,
    "total_steps": 320,
    "evaluate_every": 160,
    "checkpoint_every": 160,
    "policy_kwargs": {"width": 16, "layers": 2},
    "hyperparameters": {"n_steps": 10, "batch_size": 40, "n_epochs": 1},
}
CPU = torch.device("cpu")


def train(folder: Path, algorithm: str, **changes: Any) -> Run:
    recipe = parse_recipe(
        TINY | {"env": ENV, "algorithm": algorithm, "select_by": "dice_auc"} | changes, "correct"
    )
    return train_folder(recipe, folder, CPU)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("runs") / "clone", "bc")


def test_a_clone_is_trained_and_ppo_goes_on_from_it(run: Run, tmp_path: Path) -> None:
    assert {"val_dice_1", "val_dice_auc", "val_corrections"} < set(run.read_log()[-1])
    after = train(tmp_path / "ppo", "ppo-device", init_from=str(run.path))
    assert open_run(after.path).read_log()[-1]["step"] == 320


def test_a_run_takes_corrections_like_any_method(run: Run) -> None:
    sample = load_phantom(1, seed=9, shape=(96, 128))[0]
    user = SimulatedUser(USERS["centre"], sample.target, 1)

    def play() -> list[np.ndarray]:
        session = Session(open_interactive(run.path))
        masks = [session.start(sample.image, Marks(boxes=jittered_boxes(sample))).mask]
        for count in range(3):
            marks = user.mark(masks[-1], count, "border")
            assert marks is not None
            masks.append(session.correct(marks).mask)
        return masks

    first, second = play(), play()
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert dice(first[-1], sample.target) > dice(first[0], sample.target)


def test_before_the_first_correction_a_session_says_what_the_segmenter_says(run: Run) -> None:
    sample = load_phantom(1, seed=9, shape=(96, 128))[0]
    boxes = jittered_boxes(sample)
    answer = AgentSegmenter(run, CPU).segment(sample.image, boxes)
    started = Session(open_interactive(run.path)).start(sample.image, Marks(boxes=boxes))
    assert (answer.mask == started.mask).all()
    assert answer.proposal is not None
    assert (answer.mask != answer.proposal).any()


def test_an_agent_learns_from_accepted_masks_and_its_original_does_not_change(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usrl.agents.online.EPOCHS", 60)  # the tiny clone has learned next to nothing
    sample = load_phantom(1, seed=9, shape=(96, 128))[0]
    original = open_interactive(run.path)
    learning = let_learn(original)
    assert isinstance(learning, LearningAgent)
    assert learning.name == "clone, learning"

    def begin(method: Any) -> np.ndarray:
        return Session(method).start(sample.image, Marks(boxes=jittered_boxes(sample))).mask

    before = begin(original)
    assert (begin(learning) == before).all()
    for _ in range(3):
        session = Session(learning)
        session.start(sample.image, Marks(mask=sample.target))
        assert (session.accept() == session.answer.mask).all()
    assert learning.seen == 3
    assert (begin(original) == before).all()
    assert dice(begin(learning), sample.target) > dice(before, sample.target) + 0.01


def test_what_is_learned_is_the_same_each_time(run: Run) -> None:
    sample = load_phantom(1, seed=9, shape=(96, 128))[0]

    def learn() -> np.ndarray:
        method = let_learn(open_interactive(f"proposal+{run.path}"))
        assert method is not None
        assert can_learn(method)
        session = Session(method)
        session.start(sample.image, Marks(boxes=jittered_boxes(sample)))
        session.correct(Marks(border=((60.0, 40.0),)))
        session.accept()
        session.start(sample.image, Marks(boxes=jittered_boxes(sample)))
        return session.correct(Marks(border=((60.0, 40.0),))).mask

    assert (learn() == learn()).all()


def test_what_has_no_policy_does_not_learn() -> None:
    pull = open_interactive("pull")
    assert let_learn(pull) is None
    assert not can_learn(pull)
    with pytest.raises(UserError, match="pull has no policy that could learn"):
        LearningAgent(pull)  # type: ignore[arg-type]


def test_a_run_starts_from_the_masks_of_another_method(run: Run) -> None:
    sample = load_phantom(1, seed=9, shape=(96, 128))[0]
    boxes = jittered_boxes(sample)
    method = open_interactive(f"otsu-box+{run.path}")
    start = Session(method).start(sample.image, Marks(boxes=boxes))
    alone = Session(open_interactive(run.path)).start(sample.image, Marks(boxes=boxes))
    assert method.name == "otsu-box+clone"
    assert (start.mask != alone.mask).any()
