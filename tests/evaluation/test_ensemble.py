"""Several segmenters as one."""

import numpy as np
import pytest

from usrl.errors import UserError
from usrl.evaluation.ensemble import Ensemble
from usrl.metrics.uncertainty import measure_softness
from usrl.segmenter import Answer, answer_frames

IMAGE = np.zeros((1, 4), np.uint8)


class Saying:
    track = "automatic"

    def __init__(self, name, probability, *, tells=True):
        self.name, self._said, self._tells = name, np.array([probability], np.float32), tells

    def segment(self, image, prompt):
        return Answer(self._said > 0.5, probability=self._said if self._tells else None)


def test_probabilities_are_averaged_and_cut_at_one_half():
    answer = Ensemble([Saying("a", [0.9, 0.6, 0.2, 0]), Saying("b", [0.7, 0.2, 0.6, 0])]).segment(IMAGE)
    np.testing.assert_allclose(answer.probability, [[0.8, 0.4, 0.4, 0]], rtol=1e-6)
    assert answer.mask.tolist() == [[True, False, False, False]]
    assert answer.uncertainty == measure_softness(answer.probability, answer.mask)


def test_members_without_probabilities_vote():
    said = ([0.9, 0.6, 0.2, 0], [0.7, 0.2, 0.6, 0], [0.6, 0.9, 0.1, 0])
    members = [Saying(name, each, tells=False) for name, each in zip("abc", said, strict=True)]
    ensemble = Ensemble(members)
    assert ensemble.segment(IMAGE).mask.tolist() == [[True, True, False, False]]
    assert (ensemble.name, ensemble.track) == ("a:b:c", "automatic")


class Counting(Saying):
    """Says of a frame of a clip how many came before it, and reads all of them first."""

    def segment_clip(self, frames):
        for number, _ in enumerate(list(frames)):
            yield Answer(self._said > 0.5, probability=np.full((1, 4), number / 4, np.float32))


def test_members_that_see_frames_together_do_so_in_an_ensemble():
    ensemble = Ensemble([Counting("a", [0.0] * 4), Saying("b", [0.5] * 4)])
    answers = list(answer_frames(ensemble, iter([IMAGE] * 4)))
    assert [answer.probability[0, 0] for answer in answers] == [0.25, 0.375, 0.5, 0.625]
    assert [answer.mask.any() for answer in answers] == [False, False, False, True]


def test_all_members_need_boxes_or_none():
    other = Saying("b", [0.0])
    other.track = "prompted"
    with pytest.raises(UserError, match="a is automatic and b is prompted"):
        Ensemble([Saying("a", [0.0]), other])
