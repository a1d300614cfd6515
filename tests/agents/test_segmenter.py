"""A trained agent as a segmenter."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usrl.agents.players import Played
from usrl.agents.recipe import AgentRecipe
from usrl.agents.segmenter import AgentSegmenter
from usrl.agents.training import train_agent
from usrl.data.phantom.dataset import make_phantom
from usrl.data.prompts import bounding_box, start_boxes
from usrl.data.sample import BoolMask, GrayImage, Prompt, Sample, Track
from usrl.envs.contour.task import ContourState, ContourTask
from usrl.errors import UserError
from usrl.evaluation.compare import compare, score_lesions
from usrl.metrics.overlap import dice
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.progress import show_progress
from usrl.runs.run import Run, create_run
from usrl.segmenter import Answer, Ceiling, Filmed, answer_frames

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
        self.mask, self.calls = mask, 0

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> Answer:
        self.calls += 1
        return Answer(self.mask)


def test_a_prompted_agent_refines_the_ellipse_in_its_box(run: Run, sample: Sample) -> None:
    agent = AgentSegmenter(run, CPU)
    prompt = (bounding_box(sample.target),)
    assert isinstance(agent, Ceiling)
    assert isinstance(agent, Filmed)
    assert (agent.name, agent.track) == ("run", "prompted")
    answer = agent.segment(sample.image, prompt)
    proposal, mask = answer.proposal, answer.mask
    assert proposal is not None
    assert mask.shape == sample.image.shape
    assert mask.dtype == bool
    assert dice(proposal, sample.target) > 0.75
    assert 0.3 < dice(mask, proposal) < 1
    assert dice(agent.reach(sample.image, prompt, sample.target), sample.target) > 0.93


def test_each_box_gets_a_contour_of_its_own(run: Run, sample: Sample) -> None:
    agent = AgentSegmenter(run, CPU)
    boxes = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    both = agent.segment(sample.image, boxes).mask
    apart = [agent.segment(sample.image, (box,)).mask for box in boxes]
    assert (both == (apart[0] | apart[1])).all()
    each = agent.segment_each(sample.image, boxes)
    assert all((one == alone).all() for one, alone in zip(each, apart, strict=True))


def test_an_agent_plays_with_one_thread_and_gives_the_others_back(
    run: Run, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, seen, before = AgentSegmenter(run, CPU), [], torch.get_num_threads()
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
    agent, prompt = AgentSegmenter(run, CPU), (bounding_box(sample.target),)
    assert agent.segment(sample.image, prompt).uncertainty is None


def test_several_starts_vote_and_say_how_far_they_are_apart(run: Run, sample: Sample) -> None:
    agent, prompt = AgentSegmenter(run, CPU, starts=4), (bounding_box(sample.target),)
    assert agent.name == "run x4"
    answer, again = (agent.segment(sample.image, prompt) for _ in range(2))
    assert answer.uncertainty is not None
    assert 0 < answer.uncertainty < 0.5
    assert (again.mask == answer.mask).all()
    assert again.uncertainty == answer.uncertainty
    single = AgentSegmenter(run, CPU).segment(sample.image, prompt)
    assert dice(answer.mask, single.mask) > 0.7
    assert np.array_equal(answer.proposal, single.proposal)
    assert len(agent.film(sample.image, prompt, None)) == 11


def test_starts_are_the_ellipses_in_their_boxes_on_the_image_and_its_mirror_in_turn(
    run: Run, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stay(task: ContourTask, policy: object, state: ContourState) -> Any:
        assert state.index.tolist() == [0, 1, 0]
        assert torch.equal(task.cases.images[1], task.cases.images[0].flip(-1))
        masks = task.mask(state)
        assert dice(masks[1].flip(-1).numpy(), masks[0].numpy()) > 0.8
        assert dice(masks[1].numpy(), masks[0].numpy()) < 0.8
        return Played([state], state.dice, state.elapsed)

    left = (8.0, 20.0, 40.0, 70.0)  # off the middle, so that its mirror image lies elsewhere
    single = AgentSegmenter(run, CPU)
    starts = start_boxes((left,), 3, sample.image.shape)
    masks = [single.segment(sample.image, boxes).proposal for boxes in starts]
    monkeypatch.setattr("usrl.agents.segmenter.play", stay)
    answer = AgentSegmenter(run, CPU, starts=3).segment(sample.image, (left,))
    assert dice(answer.mask, vote(masks)) > 0.995
    assert answer.uncertainty == pytest.approx(measure_spread(masks, vote(masks)), abs=0.005)
    assert answer.uncertainty > 0.01


def test_each_box_gets_contours_of_its_own(run: Run, sample: Sample) -> None:
    agent = AgentSegmenter(run, CPU, starts=3)
    boxes = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    both = agent.segment(sample.image, boxes).mask
    apart = [agent.segment(sample.image, (box,)).mask for box in boxes]
    assert dice(both, apart[0] | apart[1]) > 0.999


def test_a_chain_starts_several_times_from_the_outlines(run: Run, sample: Sample) -> None:
    chain = AgentSegmenter(run, CPU, proposer=FixedMask(sample.target), starts=3)
    assert chain.name == "fixed+run x3"
    answer = chain.segment(sample.image, None)
    assert answer.uncertainty is not None
    assert 0 < answer.uncertainty < 0.5
    assert dice(answer.mask, sample.target) > 0.5
    empty = AgentSegmenter(run, CPU, proposer=FixedMask(np.zeros_like(sample.target)), starts=3)
    answer = empty.segment(sample.image, None)
    assert not answer.mask.any()
    assert answer.uncertainty == 1


def test_a_chain_refines_the_masks_of_its_network(run: Run, sample: Sample) -> None:
    chain = AgentSegmenter(run, CPU, proposer=FixedMask(sample.target))
    assert (chain.name, chain.track) == ("fixed+run", "automatic")
    answer = chain.segment(sample.image, None)
    assert answer.proposal is not None
    assert dice(answer.proposal, sample.target) > 0.93
    best = chain.reach(sample.image, None, sample.target, answer)
    assert dice(best, sample.target) > 0.93
    assert (chain.reach(sample.image, None, sample.target) == best).all()


def test_the_network_of_a_chain_sees_the_frames_of_a_clip_together_if_it_can(
    run: Run, sample: Sample
) -> None:
    class Late(FixedMask):
        def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
            for number, frame in enumerate(list(frames)):
                yield Answer(self.mask if number else np.zeros(frame.shape, bool))

    chain = AgentSegmenter(run, CPU, proposer=Late(sample.target), starts=3)
    first, second = answer_frames(chain, iter([sample.image] * 2))
    alone = chain.segment(sample.image, None)
    assert not first.mask.any()
    assert second.mask.any()
    assert (second.mask == alone.mask).all()
    assert second.uncertainty == alone.uncertainty


def test_a_comparison_asks_the_network_of_a_chain_once_per_image(run: Run, sample: Sample) -> None:
    network = FixedMask(sample.target)
    chain = AgentSegmenter(run, CPU, proposer=network, starts=3)
    with show_progress(1) as progress:
        (row,) = score_lesions({"chain": chain}, [sample], {}, progress)
    assert {"dice", "initial_dice", "oracle_dice", "uncertainty"} < set(row)
    assert network.calls == 1


def test_a_report_asks_the_network_of_a_chain_twice_more_for_its_film_and_its_costs(
    run: Run, sample: Sample, tmp_path: Path
) -> None:
    network = FixedMask(sample.target)
    chain = AgentSegmenter(run, CPU, proposer=network)
    compare([chain], [sample], tmp_path / "out", dataset="toy", split="test")
    assert network.calls == 3
    assert "An episode" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_an_empty_proposal_stays_empty_and_has_no_film(run: Run, sample: Sample) -> None:
    empty = np.zeros_like(sample.target)
    chain = AgentSegmenter(run, CPU, proposer=FixedMask(empty))
    answer = chain.segment(sample.image, None)
    assert not answer.mask.any()
    assert answer.proposal is not None
    assert not answer.proposal.any()
    assert not chain.reach(sample.image, None, sample.target, answer).any()
    assert chain.film(sample.image, None, sample.target) == []


def test_a_chain_that_finds_nothing_still_gets_a_report(run: Run, sample: Sample, tmp_path: Path) -> None:
    chain = AgentSegmenter(run, CPU, proposer=FixedMask(np.zeros_like(sample.target)))
    compare([chain], [sample], tmp_path / "out", dataset="toy", split="test")
    assert "An episode" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_what_is_too_small_for_a_contour_is_kept(run: Run, sample: Sample) -> None:
    speck = np.zeros_like(sample.target)
    speck[5, 5] = True
    chain = AgentSegmenter(run, CPU, proposer=FixedMask(speck))
    assert (chain.segment(sample.image, None).mask == speck).all()


def test_a_film_has_a_frame_per_step_and_needs_no_target(run: Run, sample: Sample) -> None:
    agent = AgentSegmenter(run, CPU)
    prompt = (bounding_box(sample.target),)
    film = agent.film(sample.image, prompt, None)
    assert len(film) == 11
    assert all(frame.shape == film[0].shape for frame in film)
    assert (film[0] != agent.film(sample.image, prompt, sample.target)[0]).any()


def test_steps_lead_from_the_proposal_to_the_answer(run: Run, sample: Sample) -> None:
    agent = AgentSegmenter(run, CPU)
    prompt = (bounding_box(sample.target),)
    answer, steps = agent.segment(sample.image, prompt), agent.steps(sample.image, prompt)
    assert len(steps) == run.recipe_as(AgentRecipe).env.max_episode_steps + 1
    np.testing.assert_array_equal(steps[0], answer.proposal)
    np.testing.assert_array_equal(steps[-1], answer.mask)


def test_a_mask_is_refined_as_a_chain_refines_that_of_its_network(run: Run, sample: Sample) -> None:
    found = sample.target.copy()
    found[2:4, 2:4] = True  # too small for a contour
    chain, agent = AgentSegmenter(run, CPU, FixedMask(found)), AgentSegmenter(run, CPU)
    expected = chain.segment(sample.image, None)
    np.testing.assert_array_equal(agent.refine(sample.image, found).mask, expected.mask)
    np.testing.assert_array_equal(agent.steps(sample.image, None, found)[-1], expected.mask)
    np.testing.assert_array_equal(chain.steps(sample.image, None)[-1], expected.mask)
    nothing = np.zeros_like(found)
    assert not agent.refine(sample.image, nothing).mask.any()
    assert agent.steps(sample.image, None, nothing) == []


def test_a_prompted_agent_without_boxes_says_so(run: Run, sample: Sample) -> None:
    with pytest.raises(UserError, match="needs a box"):
        AgentSegmenter(run, CPU).segment(sample.image, None)
