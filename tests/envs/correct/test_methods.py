"""Contours that move after a user's points, on native images."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from usrl.data.phantom.dataset import load_phantom
from usrl.data.prompts import jittered_boxes
from usrl.envs.correct.methods import ContourAnswer, ContourMethod, pull, snap
from usrl.errors import UserError
from usrl.metrics.overlap import dice
from usrl.session import Marks, Session
from usrl.users.simulated import SimulatedUser
from usrl.users.users import USERS

CPU = torch.device("cpu")
IMAGE = np.full((90, 120), 100, np.uint8)
BOXES = ((20.0, 20.0, 50.0, 60.0), (70.0, 30.0, 100.0, 70.0))


def contours(answer: object) -> np.ndarray:
    assert isinstance(answer, ContourAnswer)
    return answer.contours


def test_a_point_moves_the_nearest_contour_to_it_and_no_other() -> None:
    session = Session(pull(CPU))
    start = session.start(IMAGE, Marks(boxes=BOXES))
    assert contours(start).shape == (1, 2, 64, 2)
    after = contours(session.correct(Marks(border=((103.0, 50.0),))))
    assert after.shape == (4, 2, 64, 2)  # before, and after each of three moves
    assert (after[:, 0] == contours(start)[0, 0]).all()  # no point is nearest to the first
    apart = [
        cv2.pointPolygonTest(contours(start)[0, 1], vertex.tolist(), measureDist=True)
        for vertex in after[0, 1]
    ]
    assert np.abs(apart).max() < 1  # traced anew, the same shape
    assert abs(cv2.pointPolygonTest(after[-1, 1], (103.0, 50.0), measureDist=True)) < 0.5
    assert np.abs(after[-1, 1] - after[0, 1])[16:48].max() < 0.5  # the far side stays


def test_sessions_are_deterministic_and_undo_restores() -> None:
    def play() -> list[np.ndarray]:
        session = Session(pull(CPU))
        session.start(IMAGE, Marks(boxes=BOXES))
        points = [(103.0, 50.0), (35.0, 64.0), (85.0, 26.0)]
        masks = [session.correct(Marks(border=(point,))).mask for point in points]
        return [*masks, session.undo().mask, session.redo().mask]

    first, second = play(), play()
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert (first[3] == first[1]).all()
    assert (first[4] == first[2]).all()


def test_a_mask_starts_a_contour_for_each_component_and_keeps_specks() -> None:
    mask = np.zeros(IMAGE.shape, bool)
    mask[20:50, 20:50] = mask[55:80, 70:100] = mask[5, 5] = True
    session = Session(pull(CPU))
    answer = session.start(IMAGE, Marks(mask=mask))
    assert dice(answer.mask, mask) > 0.97
    assert answer.mask[5, 5]
    assert session.correct(Marks(border=((54.0, 35.0),))).mask[35, 52]


def test_without_a_contour_there_is_nothing_to_correct() -> None:
    session = Session(pull(CPU))
    assert not session.start(IMAGE, Marks(mask=np.zeros(IMAGE.shape, bool))).mask.any()
    with pytest.raises(UserError, match="no contour to correct; begin with a box"):
        session.correct(Marks(border=((50.0, 50.0),)))


def test_an_agent_moves_in_the_opening_and_after_each_point() -> None:
    seen = []

    def grow(task: object, state: object) -> torch.Tensor:
        seen.append((len(state.index), task.observe(state).shape))  # type: ignore[attr-defined]
        return torch.full((len(state.index), 64), 0.1)  # type: ignore[attr-defined]

    base = pull(CPU)
    settings = base.placement.settings.model_copy(update={"opening": 2, "moves": 4})
    method = ContourMethod("grow", replace(base.placement, settings=settings), grow)
    session = Session(method)
    start = session.start(IMAGE, Marks(boxes=BOXES))
    assert [count for count, _ in seen] == [2, 2]
    assert start.proposal is not None
    assert start.mask.sum() > start.proposal.sum()
    session.correct(Marks(border=((103.0, 50.0),)))
    assert [count for count, _ in seen] == [2, 2, 1, 1, 1, 1]
    assert seen[0][1][1:] == (7, 64, 40)


def test_snap_slides_to_edges_between_points_and_keeps_the_points() -> None:
    rows, columns = np.mgrid[:128, :128]
    target = ((columns - 64) / 40) ** 2 + ((rows - 64) / 30) ** 2 <= 1
    image = np.where(target, 60, 160).astype(np.uint8)
    boxes = ((20.0, 30.0, 108.0, 98.0),)
    pulled, snapped = Session(pull(CPU)), Session(snap(CPU))
    assert dice(snapped.start(image, Marks(boxes=boxes)).mask, target) > dice(
        pulled.start(image, Marks(boxes=boxes)).mask, target
    )
    after = contours(snapped.correct(Marks(border=((64.0, 20.0),))))
    edge = cv2.pointPolygonTest(after[-1, 0], (64.0, 20.0), measureDist=True)
    assert abs(edge) < 0.6


@pytest.mark.parametrize("user", ["centre", "person"])
def test_corrections_by_a_user_improve_a_box(user: str) -> None:
    gains = []
    for sample in load_phantom(4, seed=7, shape=(128, 128)):
        simulated = SimulatedUser(USERS[user], sample.target, 5)
        session = Session(pull(CPU))
        answer = session.start(sample.image, Marks(boxes=jittered_boxes(sample)))
        start = dice(answer.mask, sample.target)
        for count in range(5):
            marks = simulated.mark(answer.mask, count, "border")
            if marks is None:
                break
            answer = session.correct(marks)
        gains.append(dice(answer.mask, sample.target) - start)
    assert np.mean(gains) > 0.05
