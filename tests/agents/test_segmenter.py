"""A trained agent as a segmenter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usrl.agents.recipe import AgentRecipe
from usrl.agents.segmenter import ContourSegmenter
from usrl.agents.training import train_agent
from usrl.data.phantom.dataset import make_phantom
from usrl.data.prompts import bounding_box, start_boxes
from usrl.data.sample import BoolMask, GrayImage, Prompt, Sample, Track
from usrl.envs.contour.task import ContourState, ContourTask
from usrl.errors import UserError
from usrl.evaluation.compare import compare
from usrl.metrics.overlap import dice
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.runs.run import Run, create_run
from usrl.segmenter import Refiner, Uncertain

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


def test_an_agent_plays_with_one_thread_and_gives_the_others_back(
    run: Run, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, seen, before = ContourSegmenter(run, CPU), [], torch.get_num_threads()
    predict = agent._policy.predict

    def watch(*arguments: Any, **others: Any) -> Any:
        seen.append(torch.get_num_threads())
        return predict(*arguments, **others)

    monkeypatch.setattr(agent._policy, "predict", watch)
    try:
        torch.set_num_threads(2)
        agent.segment(sample.image, (bounding_box(sample.target),))
        assert (set(seen), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_a_single_start_gives_no_uncertainty(run: Run, sample: Sample) -> None:
    agent, prompt = ContourSegmenter(run, CPU), (bounding_box(sample.target),)
    mask, uncertainty = agent.segment_with_uncertainty(sample.image, prompt)
    assert uncertainty is None
    assert (mask == agent.segment(sample.image, prompt)).all()


def test_several_starts_vote_and_say_how_far_they_are_apart(run: Run, sample: Sample) -> None:
    agent, prompt = ContourSegmenter(run, CPU, starts=4), (bounding_box(sample.target),)
    assert isinstance(agent, Uncertain)
    assert agent.name == "run x4"
    mask, uncertainty = agent.segment_with_uncertainty(sample.image, prompt)
    assert uncertainty is not None
    assert 0 < uncertainty < 0.5
    again = agent.segment_with_uncertainty(sample.image, prompt)
    assert (again[0] == mask).all()
    assert again[1] == uncertainty
    single = ContourSegmenter(run, CPU)
    assert dice(mask, single.segment(sample.image, prompt)) > 0.7
    assert (agent.propose(sample.image, prompt) == single.propose(sample.image, prompt)).all()
    assert len(agent.film(sample.image, prompt, None)) == 11


def test_starts_are_the_ellipses_in_their_boxes_on_the_image_and_its_mirror_in_turn(
    run: Run, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stay(task: ContourTask, policy: object, state: ContourState) -> list[ContourState]:
        assert state.index.tolist() == [0, 1, 0]
        assert torch.equal(task.bank.images[1], task.bank.images[0].flip(-1))
        masks = task.mask(state)
        assert dice(masks[1].flip(-1).numpy(), masks[0].numpy()) > 0.8
        assert dice(masks[1].numpy(), masks[0].numpy()) < 0.8
        return [state]

    monkeypatch.setattr("usrl.agents.segmenter.play", stay)
    left = (8.0, 20.0, 40.0, 70.0)  # off the middle, so that its mirror image lies elsewhere
    single = ContourSegmenter(run, CPU)
    masks = [single.propose(sample.image, boxes) for boxes in start_boxes((left,), 3, sample.image.shape)]
    mask, uncertainty = ContourSegmenter(run, CPU, starts=3).segment_with_uncertainty(sample.image, (left,))
    assert dice(mask, vote(masks)) > 0.995
    assert uncertainty == pytest.approx(measure_spread(masks, vote(masks)), abs=0.005)
    assert uncertainty > 0.01


def test_each_box_gets_contours_of_its_own(run: Run, sample: Sample) -> None:
    agent = ContourSegmenter(run, CPU, starts=3)
    boxes = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    both = agent.segment(sample.image, boxes)
    apart = [agent.segment(sample.image, (box,)) for box in boxes]
    assert dice(both, apart[0] | apart[1]) > 0.999


def test_a_chain_starts_several_times_from_the_outlines(run: Run, sample: Sample) -> None:
    chain = ContourSegmenter(run, CPU, proposer=FixedMask(sample.target), starts=3)
    assert chain.name == "fixed+run x3"
    mask, uncertainty = chain.segment_with_uncertainty(sample.image, None)
    assert uncertainty is not None
    assert 0 < uncertainty < 0.5
    assert dice(mask, sample.target) > 0.5
    empty = ContourSegmenter(run, CPU, proposer=FixedMask(np.zeros_like(sample.target)), starts=3)
    mask, uncertainty = empty.segment_with_uncertainty(sample.image, None)
    assert not mask.any()
    assert uncertainty == 1


def test_a_chain_refines_the_masks_of_its_network(run: Run, sample: Sample) -> None:
    chain = ContourSegmenter(run, CPU, proposer=FixedMask(sample.target))
    assert (chain.name, chain.track) == ("fixed+run", "automatic")
    assert dice(chain.propose(sample.image, None), sample.target) > 0.93
    assert dice(chain.oracle(sample.image, None, sample.target), sample.target) > 0.93


def test_an_empty_proposal_stays_empty_and_has_no_film(run: Run, sample: Sample) -> None:
    empty = np.zeros_like(sample.target)
    chain = ContourSegmenter(run, CPU, proposer=FixedMask(empty))
    assert not chain.segment(sample.image, None).any()
    assert not chain.propose(sample.image, None).any()
    assert not chain.oracle(sample.image, None, sample.target).any()
    assert chain.film(sample.image, None, sample.target) == []


def test_a_chain_that_finds_nothing_still_gets_a_report(run: Run, sample: Sample, tmp_path: Path) -> None:
    chain = ContourSegmenter(run, CPU, proposer=FixedMask(np.zeros_like(sample.target)))
    compare([chain], [sample], tmp_path / "out", dataset="toy", split="test")
    assert "An episode" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


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
