"""The weights that the repository ships."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from usrl.classical import CLASSICAL
from usrl.data.phantom.dataset import load_phantom
from usrl.data.prompts import jittered_boxes
from usrl.evaluation.methods import open_segmenter
from usrl.metrics.overlap import dice

AGENTS = Path(__file__).parents[2] / "agents"


def test_shipped_network_finds_lesions_without_a_box() -> None:
    shipped, otsu = open_segmenter(str(AGENTS / "unet-phantom"), torch.device("cpu")), CLASSICAL["otsu"]()
    samples = load_phantom(12, seed=9, variety=1.0)
    scores = [
        [dice(method.segment(sample.image, None).mask, sample.target) for sample in samples]
        for method in (shipped, otsu)
    ]
    assert np.mean(scores[0]) > np.mean(scores[1]) + 0.3


def test_shipped_judge_knows_where_its_choice_is_good() -> None:
    judged = f"{AGENTS / 'unet-phantom'}+{AGENTS / 'judge-phantom'}"
    judge = open_segmenter(judged, torch.device("cpu"))
    scores, doubts = [], []
    for sample in load_phantom(24, seed=9, variety=1.0):
        answer = judge.segment(sample.image, None)
        scores.append(dice(answer.mask, sample.target))
        doubts.append(answer.uncertainty)
    assert spearmanr(scores, doubts).statistic < -0.5


@pytest.mark.parametrize("name", ["contour-ppo", "contour-bc", "unet-prompted"])
def test_shipped_weights_find_lesions_that_they_have_not_seen(name: str) -> None:
    shipped, proposal = open_segmenter(str(AGENTS / name), torch.device("cpu")), CLASSICAL["proposal"]()
    gains = []
    for sample in load_phantom(12, seed=9, variety=1.0):
        prompt = jittered_boxes(sample)
        found, start = (method.segment(sample.image, prompt).mask for method in (shipped, proposal))
        gains.append(dice(found, sample.target) - dice(start, sample.target))
    assert np.mean(gains) > 0.08
