"""A trained threshold agent as a segmenter, and the ceilings beside it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.agents.threshold_segmenter import ThresholdSegmenter
from usrl.agents.training import train_agent
from usrl.data.phantom.dataset import make_phantom
from usrl.data.prompts import bounding_box, start_boxes
from usrl.data.recipe import DataRecipe
from usrl.data.sample import BoolMask, Box, GrayImage, Prompt, Sample, Track
from usrl.envs.threshold.ceilings import ORACLES
from usrl.errors import UserError
from usrl.evaluation.compare import compare
from usrl.evaluation.methods import open_segmenter
from usrl.metrics.overlap import dice
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.runs.run import Run, create_run
from usrl.runs.tensors import save_tensors
from usrl.segmenter import Ceiling, Refiner, predict

CPU = torch.device("cpu")


def make_run(recipe: AgentRecipe, out: Path, **kwargs: Any) -> Run:
    """Return a run of a table that no training has filled: its agent keeps the first thresholds."""
    from usrl.agents.qlearning import TablePolicy
    from usrl.envs.threshold.cases import ThresholdSettings
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

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> BoolMask:
        return self.mask


def test_a_prompted_agent_thresholds_its_box(
    recipe: AgentRecipe, out: Path, sample: Sample, prompt: Prompt
) -> None:
    agent = open_segmenter(str(make_run(recipe, out).path), CPU)
    assert isinstance(agent, ThresholdSegmenter)
    assert isinstance(agent, Refiner)
    assert (agent.name, agent.track) == ("run", "prompted")
    mask = agent.segment(sample.image, prompt)
    assert mask.shape == sample.image.shape
    assert mask.dtype == bool
    assert (mask == agent.propose(sample.image, prompt)).all()  # an empty table changes nothing
    assert dice(mask, sample.target) > 0.6
    oracle = agent.oracle(sample.image, prompt, sample.target)
    assert dice(oracle, sample.target) >= dice(mask, sample.target)


def test_the_masks_of_several_starts_vote(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    run = make_run(recipe, out)
    single, several = ThresholdSegmenter(run, CPU), ThresholdSegmenter(run, CPU, starts=3)
    prompt = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    masks = [single.segment(sample.image, boxes) for boxes in start_boxes(prompt, 3, sample.image.shape)]
    mask, uncertainty = several.segment_with_uncertainty(sample.image, prompt)
    assert several.name == "run x3"
    assert (mask == vote(masks)).all()
    assert uncertainty == measure_spread(masks, mask) > 0
    assert single.segment_with_uncertainty(sample.image, prompt)[1] is None


def test_an_agent_of_whole_images_starts_once(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    agent = ThresholdSegmenter(make_run(recipe, out, roi="image"), CPU, starts=3)
    assert agent.name == "run"
    assert agent.segment_with_uncertainty(sample.image, None)[1] is None


def test_a_trained_agent_moves_its_thresholds(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    env = EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs={"grid": 2, "side": 36, "boxes": 1})
    run = create_run(
        out,
        recipe.model_copy(update={"env": env, "policy": "CnnPolicy", "policy_kwargs": {}, "total_steps": 80}),
    )
    train_agent(run, CPU)
    agent = ThresholdSegmenter(run, CPU)
    prompt = (bounding_box(sample.target),)
    assert agent.segment(sample.image, prompt).any()
    assert len(agent.film(sample.image, prompt, None)) == 11
    film = agent.film(sample.image, prompt, sample.target)
    assert (film[0] != film[-1]).any()


def test_each_box_is_a_region_of_its_own(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    agent = ThresholdSegmenter(make_run(recipe, out), CPU)
    boxes = ((10.0, 10.0, 40.0, 40.0), (60.0, 90.0, 100.0, 130.0))
    both = agent.segment(sample.image, boxes)
    apart = [agent.segment(sample.image, (box,)) for box in boxes]
    assert (both == (apart[0] | apart[1])).all()
    rows, columns = np.nonzero(apart[0])
    assert rows.max() <= 40 + 0.1 * 30
    assert columns.max() <= 40 + 0.1 * 30


def test_an_agent_of_whole_images_needs_no_box(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    run = make_run(recipe, out, roi="image")
    agent = ThresholdSegmenter(run, CPU)
    assert agent.track == "automatic"
    start = agent.propose(sample.image, None)
    assert 0.05 < start.mean() < 0.95
    oracle = agent.oracle(sample.image, None, sample.target)
    assert dice(oracle, sample.target) >= dice(start, sample.target)
    with pytest.raises(UserError, match="thresholds whole images and starts from no masks"):
        ThresholdSegmenter(run, CPU, proposer=FixedMask(sample.target))


def test_a_chain_looks_into_the_boxes_of_its_network(
    recipe: AgentRecipe, out: Path, sample: Sample, prompt: Prompt
) -> None:
    run = make_run(recipe, out)
    chain = ThresholdSegmenter(run, CPU, proposer=FixedMask(sample.target))
    assert (chain.name, chain.track) == ("fixed+run", "automatic")
    assert (
        chain.segment(sample.image, None) == ThresholdSegmenter(run, CPU).segment(sample.image, prompt)
    ).all()
    empty = ThresholdSegmenter(run, CPU, proposer=FixedMask(np.zeros_like(sample.target)))
    assert not empty.segment(sample.image, None).any()
    assert not empty.propose(sample.image, None).any()
    assert not empty.oracle(sample.image, None, sample.target).any()
    assert empty.film(sample.image, None, None) == []


def test_a_prompted_agent_without_boxes_says_so(recipe: AgentRecipe, out: Path, sample: Sample) -> None:
    with pytest.raises(UserError, match="needs a box"):
        ThresholdSegmenter(make_run(recipe, out), CPU).segment(sample.image, None)


def test_ceilings_choose_with_the_reference_and_tiles_reach_higher(sample: Sample, prompt: Prompt) -> None:
    single, tiles = ORACLES["threshold-oracle"], ORACLES["threshold-oracle-tiles"]
    assert isinstance(single, Ceiling)
    low, high = (dice(predict(oracle, sample, prompt), sample.target) for oracle in (single, tiles))
    assert 0.8 < low < high
    with pytest.raises(UserError, match="chooses with the reference"):
        single.segment(sample.image, prompt)


def test_a_box_without_a_lesion_gets_next_to_nothing_from_a_ceiling(sample: Sample, prompt: Prompt) -> None:
    nowhere = Sample(sample.image, np.roll(sample.target, 60, axis=0) & False, None, "n", "n", "toy")
    wanted = predict(ORACLES["threshold-oracle-tiles"], nowhere, prompt)
    assert wanted.mean() < 0.1 * sample.target.mean()


@pytest.mark.parametrize("box", [(0.0, 0.0, 20.0, 20.0), (10.0, 10.0, 41.0, 41.0)])
def test_a_box_beside_the_content_is_segmented_like_any_other(
    recipe: AgentRecipe, out: Path, sample: Sample, box: Box
) -> None:
    image, target = np.zeros((150, 150), np.uint8), np.zeros((150, 150), bool)
    image[40:, 40:] = sample.image[:110, :110]
    framed = Sample(image, target, None, "n", "n", "toy")
    for oracle in ORACLES.values():
        assert predict(oracle, framed, (box,)).shape == target.shape
    assert ThresholdSegmenter(make_run(recipe, out), CPU).segment(image, (box,)).shape == target.shape


def test_a_comparison_scores_agents_with_their_oracle_and_ceilings(
    recipe: AgentRecipe, out: Path, tmp_path: Path
) -> None:
    samples = [make_phantom(9, number, (150, 110)) for number in range(3)]
    wide = recipe.model_copy(update={"data": DataRecipe()})  # the ceilings' working size
    methods = [ThresholdSegmenter(make_run(wide, out), CPU), *ORACLES.values()]
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
    assert ThresholdSegmenter(run, CPU).segment(sample.image, prompt).any()
    chained = ThresholdSegmenter(run, CPU, proposer=FixedMask(sample.target))
    assert (chained.track, chained.segment(sample.image, None).any()) == ("automatic", True)
