"""A trained agent as a segmenter."""

from pathlib import Path

import numpy as np
import pytest
import torch

from usrl.agents.segmenter import ContourSegmenter
from usrl.agents.training import train_agent
from usrl.data.phantom import make_phantom
from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, GrayImage, Prompt, Sample, Track
from usrl.errors import UserError
from usrl.evaluation.segmenter import Refiner
from usrl.metrics.overlap import dice
from usrl.recipes import AgentRecipe
from usrl.runs import Run, create_run

CPU = torch.device("cpu")


@pytest.fixture
def run(recipe: AgentRecipe, out: Path) -> Run:
    trained = create_run(out, recipe.model_copy(update={"total_steps": 80}))
    train_agent(trained, CPU)
    return trained


@pytest.fixture
def sample() -> Sample:
    return make_phantom(9, 0, (150, 110))


class FixedMask:
    """A network that always answers the same."""

    name = "fixed"
    track: Track = "automatic"

    def __init__(self, mask: BoolMask) -> None:
        self.mask = mask

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> BoolMask:
        return self.mask


def test_a_prompted_agent_refines_the_ellipse_in_its_box(run: Run, sample: Sample) -> None:
    agent = ContourSegmenter(run, CPU)
    prompt = (bounding_box(sample.target),)
    assert isinstance(agent, Refiner)
    assert (agent.name, agent.track) == ("run", "prompted")
    proposal, mask = agent.propose(sample.image, prompt), agent.segment(sample.image, prompt)
    assert mask.shape == sample.image.shape
    assert mask.dtype == bool
    assert dice(proposal, sample.target) > 0.75
    assert 0.3 < dice(mask, proposal) < 1
    assert dice(agent.oracle(sample.image, prompt, sample.target), sample.target) > 0.93


def test_each_box_gets_a_contour_of_its_own(run: Run, sample: Sample) -> None:
    agent = ContourSegmenter(run, CPU)
    boxes = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    both = agent.segment(sample.image, boxes)
    apart = [agent.segment(sample.image, (box,)) for box in boxes]
    assert (both == (apart[0] | apart[1])).all()


def test_a_chain_refines_the_masks_of_its_network(run: Run, sample: Sample) -> None:
    chain = ContourSegmenter(run, CPU, proposer=FixedMask(sample.target))
    assert (chain.name, chain.track) == ("fixed+run", "automatic")
    assert dice(chain.propose(sample.image, None), sample.target) > 0.93
    assert dice(chain.oracle(sample.image, None, sample.target), sample.target) > 0.93


def test_an_empty_proposal_stays_empty(run: Run, sample: Sample) -> None:
    empty = np.zeros_like(sample.target)
    chain = ContourSegmenter(run, CPU, proposer=FixedMask(empty))
    assert not chain.segment(sample.image, None).any()
    assert not chain.propose(sample.image, None).any()
    assert not chain.oracle(sample.image, None, sample.target).any()
    with pytest.raises(UserError, match="no contour to film"):
        chain.film(sample.image, None, sample.target)


def test_what_is_too_small_for_a_contour_is_kept(run: Run, sample: Sample) -> None:
    speck = np.zeros_like(sample.target)
    speck[5, 5] = True
    chain = ContourSegmenter(run, CPU, proposer=FixedMask(speck))
    assert (chain.segment(sample.image, None) == speck).all()


def test_a_film_has_a_frame_per_step_and_needs_no_target(run: Run, sample: Sample) -> None:
    agent = ContourSegmenter(run, CPU)
    prompt = (bounding_box(sample.target),)
    film = agent.film(sample.image, prompt, None)
    assert len(film) == 11
    assert all(frame.shape == film[0].shape for frame in film)
    assert (film[0] != agent.film(sample.image, prompt, sample.target)[0]).any()


def test_a_prompted_agent_without_boxes_says_so(run: Run, sample: Sample) -> None:
    with pytest.raises(UserError, match="needs a box"):
        ContourSegmenter(run, CPU).segment(sample.image, None)
