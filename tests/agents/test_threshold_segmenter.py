"""A trained threshold agent as a segmenter, and the ceilings next to it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.agents.segmenter import AgentSegmenter
from usrl.agents.training import train_agent
from usrl.data.phantom.dataset import make_phantom
from usrl.data.prompts import bounding_box, start_boxes
from usrl.data.recipe import DataRecipe
from usrl.data.sample import BoolMask, Box, GrayImage, Prompt, Sample, Track
from usrl.envs.threshold.placement import ORACLES
from usrl.errors import UserError
from usrl.evaluation.compare import compare
from usrl.evaluation.methods import open_segmenter
from usrl.evaluation.segmentation import segment_files
from usrl.metrics.overlap import dice
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.runs.run import Run, create_run
from usrl.runs.tensors import save_tensors
from usrl.segmenter import Answer, Ceiling, Segmenter, answer_sample

CPU = torch.device("cpu")


def make_run(recipe: AgentRecipe, out: Path, **kwargs: Any) -> Run:
    """Return a run of a table that no training has filled: its agent keeps the first thresholds."""
    from usrl.agents.qlearning import TablePolicy
    from usrl.envs.threshold.settings import ThresholdSettings
    from usrl.envs.threshold.task import ThresholdTask

    settings = {"grid": 1, "action": "raster", "observation": "features"} | kwargs
    env = EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs=settings)
    changed = {"env": env, "algorithm": "q-learning", "policy": "TablePolicy", "policy_kwargs": {}}
    run = create_run(out, recipe.model_copy(update=changed | {"hyperparameters": {}}))
    blank: Any = type("Blank", (), {"device": CPU})()
    boxes = None if settings.get("roi") == "image" else [(0.0, 0.0, 1.0, 1.0)]
    task = ThresholdTask(blank, ThresholdSettings(**settings), 10, boxes)
    save_tensors(run.weights_path, TablePolicy(task.observation_space, task.action_space).state_dict())
    return run


@pytest.fixture
def sample() -> Sample:
    return make_phantom(9, 0, (150, 110))


@pytest.fixture
def prompt(sample: Sample) -> Prompt:
    return (bounding_box(sample.target),)


class FixedMask:
    """A network that always answers the same."""

    name = "fixed"
    track: Track = "automatic"

    def __init__(self, mask: BoolMask) -> None:
        self.mask = mask

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> Answer:
        return Answer(self.mask)


def test_a_prompted_agent_thresholds_its_box(
    recipe: AgentRecipe, out: Path, sample: Sample, prompt: Prompt
) -> None:
    agent = open_segmenter(str(make_run(recipe, out).path), CPU)
    assert isinstance(agent, AgentSegmenter)
    assert (agent.name, agent.track) == ("run", "prompted")
    answer = agent.segment(sample.image, prompt)
    mask = answer.mask
    assert mask.shape == sample.image.shape
    assert mask.dtype == bool
    assert np.array_equal(mask, answer.proposal)  # an empty table changes nothing
    assert dice(mask, sample.target) > 0.6
    best = agent.reach(sample.image, prompt, sample.target, answer)
    assert dice(best, sample.target) >= dice(mask, sample.target)


def test_the_masks_of_several_starts_vote(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    run = make_run(recipe, out)
    single, several = AgentSegmenter(run, CPU), AgentSegmenter(run, CPU, starts=3)
    prompt = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    starts = start_boxes(prompt, 3, sample.image.shape)
    masks = [single.segment(sample.image, boxes).mask for boxes in starts]
    answer = several.segment(sample.image, prompt)
    assert several.name == "run x3"
    assert (answer.mask == vote(masks)).all()
    assert answer.uncertainty == measure_spread(masks, answer.mask) > 0
    assert single.segment(sample.image, prompt).uncertainty is None
    assert np.array_equal(answer.proposal, single.segment(sample.image, prompt).proposal)


def test_an_agent_of_whole_images_starts_once(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    agent = AgentSegmenter(make_run(recipe, out, roi="image"), CPU, starts=3)
    assert agent.name == "run"
    assert agent.segment(sample.image, None).uncertainty is None


def test_a_trained_agent_moves_its_thresholds(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    env = EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs={"grid": 2, "side": 36, "boxes": 1})
    run = create_run(
        out,
        recipe.model_copy(update={"env": env, "policy": "CnnPolicy", "policy_kwargs": {}, "total_steps": 80}),
    )
    train_agent(run, CPU)
    agent = AgentSegmenter(run, CPU)
    prompt = (bounding_box(sample.target),)
    assert agent.segment(sample.image, prompt).mask.any()
    assert len(agent.film(sample.image, prompt, None)) == 11
    film = agent.film(sample.image, prompt, sample.target)
    assert (film[0] != film[-1]).any()


PROTOCOL: dict[str, Any] = {
    "cut": "subimages",
    "grid": 2,
    "support": "rectangle",
    "start": "random",
    "action": "direct",
    "observation": "shape",
    "reward": "error",
    "solved_ends": True,
}


def test_the_masks_of_sub_images_vote_within_each_box(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    agent = AgentSegmenter(make_run(recipe, out, **PROTOCOL), CPU)
    boxes = ((10.0, 10.0, 40.0, 40.0), bounding_box(sample.target))
    both = agent.segment(sample.image, boxes)
    apart = agent.segment_each(sample.image, boxes)
    assert len(apart) == 2
    assert (both.mask == (apart[0] | apart[1])).all()
    # An empty table lowers all thresholds, so the mask is a small part of the random start.
    assert both.proposal is not None
    assert both.mask.sum() < 0.3 * both.proposal.sum()
    best = agent.reach(sample.image, boxes, sample.target, both)
    assert dice(best, sample.target) > dice(both.proposal, sample.target)


def test_a_film_of_sub_images_shows_their_vote(
    recipe: AgentRecipe, out: Path, sample: Sample, prompt: Prompt
) -> None:
    agent = AgentSegmenter(make_run(recipe, out, **PROTOCOL), CPU)
    film = agent.film(sample.image, prompt, sample.target)
    assert (film[0] != film[-1]).any()
    unknown = agent.film(sample.image, prompt, None)
    assert (unknown[0] != film[0]).any()  # the target is drawn where it is known


def test_no_episode_on_an_image_ends_on_what_only_the_target_tells(
    recipe: AgentRecipe, tmp_path: Path, sample: Sample, prompt: Prompt
) -> None:
    runs = [
        make_run(recipe, tmp_path / f"{ends}", **PROTOCOL | {"solved_ends": ends}) for ends in (True, False)
    ]
    films = [AgentSegmenter(run, CPU).film(sample.image, prompt, sample.target) for run in runs]
    assert len(films[0]) == 11
    assert all((one == other).all() for one, other in zip(*films, strict=True))


def test_each_box_is_a_region_of_its_own(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    agent = AgentSegmenter(make_run(recipe, out), CPU)
    boxes = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    both = agent.segment(sample.image, boxes).mask
    apart = [agent.segment(sample.image, (box,)).mask for box in boxes]
    assert (both == (apart[0] | apart[1])).all()
    rows, columns = np.nonzero(apart[0])
    assert rows.max() <= 40 + 0.1 * 30
    assert columns.max() <= 40 + 0.1 * 30


def test_an_agent_of_whole_images_needs_no_box(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    run = make_run(recipe, out, roi="image")
    agent = AgentSegmenter(run, CPU)
    assert agent.track == "automatic"
    start = agent.segment(sample.image, None).proposal
    assert start is not None
    assert 0.05 < start.mean() < 0.95
    best = agent.reach(sample.image, None, sample.target)
    assert dice(best, sample.target) >= dice(start, sample.target)
    with pytest.raises(UserError, match="segments whole images and starts from no masks"):
        AgentSegmenter(run, CPU, proposer=FixedMask(sample.target))


def test_a_chain_looks_into_the_boxes_of_its_network(
    recipe: AgentRecipe, out: Path, sample: Sample, prompt: Prompt
) -> None:
    run = make_run(recipe, out)
    chain = AgentSegmenter(run, CPU, proposer=FixedMask(sample.target))
    assert (chain.name, chain.track) == ("fixed+run", "automatic")
    alone = AgentSegmenter(run, CPU).segment(sample.image, prompt)
    assert (chain.segment(sample.image, None).mask == alone.mask).all()
    empty = AgentSegmenter(run, CPU, proposer=FixedMask(np.zeros_like(sample.target)))
    answer = empty.segment(sample.image, None)
    assert not answer.mask.any()
    assert answer.proposal is not None
    assert not answer.proposal.any()
    assert not empty.reach(sample.image, None, sample.target).any()
    assert empty.film(sample.image, None, None) == []


def test_a_prompted_agent_without_boxes_says_so(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    with pytest.raises(UserError, match="needs a box"):
        AgentSegmenter(make_run(recipe, out), CPU).segment(sample.image, None)


def test_ceilings_choose_with_the_target_and_tiles_reach_higher(
    sample: Sample, prompt: Prompt, tmp_path: Path
) -> None:
    single, tiles = ORACLES["threshold-oracle"], ORACLES["threshold-oracle-tiles"]
    assert isinstance(single, Ceiling)
    assert not isinstance(single, Segmenter)
    low, high = (dice(answer_sample(one, sample, prompt).mask, sample.target) for one in (single, tiles))
    assert 0.8 < low < high
    with pytest.raises(UserError, match="threshold-oracle chooses with the target"):
        segment_files(single, [], {}, tmp_path)


def test_a_box_without_a_lesion_gets_next_to_nothing_from_a_ceiling(sample: Sample, prompt: Prompt) -> None:
    nowhere = Sample(sample.image, np.roll(sample.target, 60, axis=0) & False, None, "n", "n", "toy")
    wanted = answer_sample(ORACLES["threshold-oracle-tiles"], nowhere, prompt).mask
    assert wanted.mean() < 0.1 * sample.target.mean()


@pytest.mark.parametrize("box", [(0.0, 0.0, 20.0, 20.0), (10.0, 10.0, 41.0, 41.0)])
def test_a_box_beside_the_content_is_segmented_like_any_other(
    recipe: AgentRecipe, out: Path, sample: Sample, box: Box
) -> None:
    image, target = np.zeros((150, 150), np.uint8), np.zeros((150, 150), bool)
    image[40:, 40:] = sample.image[:110, :110]
    framed = Sample(image, target, None, "n", "n", "toy")
    for oracle in ORACLES.values():
        assert answer_sample(oracle, framed, (box,)).mask.shape == target.shape
    assert AgentSegmenter(make_run(recipe, out), CPU).segment(image, (box,)).mask.shape == target.shape


def test_a_comparison_scores_agents_with_their_oracle_and_ceilings(
    recipe: AgentRecipe, out: Path, tmp_path: Path
) -> None:
    samples = [make_phantom(9, number, (150, 110)) for number in range(3)]
    wide = recipe.model_copy(update={"data": DataRecipe()})  # the ceilings' working size
    methods = [AgentSegmenter(make_run(wide, out), CPU), *ORACLES.values()]
    results = compare(methods, samples, tmp_path / "report", dataset="phantom", split="test")
    rows = {row["method"]: row for row in results["rows"]}
    assert rows["run"]["dice"] == rows["run"]["initial_dice"]
    assert rows["run"]["dice"] < rows["run"]["oracle_dice"]
    assert rows["run"]["oracle_dice"] == pytest.approx(rows["threshold-oracle"]["dice"], abs=1e-9)
    assert rows["threshold-oracle"]["dice"] < rows["threshold-oracle-tiles"]["dice"]
    assert "threshold-oracle" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("roi", ["box", "network"])
def test_an_agent_of_boxed_regions_takes_prompts_and_masks(
    recipe: AgentRecipe, out: Path, sample: Sample, prompt: Prompt, roi: str
) -> None:
    run = make_run(recipe, out, roi=roi)
    assert AgentSegmenter(run, CPU).segment(sample.image, prompt).mask.any()
    chained = AgentSegmenter(run, CPU, proposer=FixedMask(sample.target))
    assert (chained.track, chained.segment(sample.image, None).mask.any()) == ("automatic", True)
