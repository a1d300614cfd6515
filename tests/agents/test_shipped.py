"""The weights that the repository ships."""

from pathlib import Path

import numpy as np
import torch

from usrl.data.phantom import load_phantom
from usrl.data.prompts import jittered_boxes
from usrl.evaluation.segmenter import Refiner, open_segmenter
from usrl.metrics.overlap import dice

AGENT = Path(__file__).parents[2] / "agents" / "contour-ppo"


def test_shipped_agent_refines_phantoms_that_it_has_not_seen() -> None:
    agent = open_segmenter(str(AGENT), torch.device("cpu"))
    assert isinstance(agent, Refiner)
    gains = []
    for sample in load_phantom(12, seed=9):
        prompt = jittered_boxes(sample)
        start, end = agent.propose(sample.image, prompt), agent.segment(sample.image, prompt)
        gains.append(dice(end, sample.target) - dice(start, sample.target))
    assert np.mean(gains) > 0.08
