"""A foreign environment with a placement: its agents are segmenters like any other."""

from collections.abc import Iterator
from pathlib import Path

import grow_disk
import gymnasium as gym
import numpy as np
import pytest
import torch

import usrl
from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.agents.training import train_agent
from usrl.data.phantom.dataset import load_phantom
from usrl.data.prompts import bounding_box
from usrl.data.recipe import DataRecipe
from usrl.evaluation.compare import compare
from usrl.evaluation.methods import open_segmenter
from usrl.metrics.overlap import dice
from usrl.registry import REGISTRY
from usrl.runs.run import Run, create_run

ENV_ID = "test/GrowDisk-v0"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """An agent of the environment, trained for a moment."""
    placement = grow_disk.DiskPlacement
    usrl.register(ENV_ID, task=grow_disk.GrowDisk, max_episode_steps=5, placement=placement)
    env = EnvRecipe(id=ENV_ID, max_episode_steps=5)
    steps = {"total_steps": 640, "evaluate_every": 640, "checkpoint_every": 640, "num_envs": 8}
    policy = {"policy": "MlpPolicy", "hyperparameters": {"n_steps": 40, "batch_size": 64}}
    recipe = AgentRecipe(env=env, data=DataRecipe(count=12, size=64), **steps, **policy)  # type: ignore[arg-type]
    trained = create_run(tmp_path_factory.mktemp("runs") / "disk", recipe)
    train_agent(trained, CPU)
    yield trained
    del REGISTRY[ENV_ID], gym.registry[ENV_ID]


def test_its_agents_segment_from_boxes_and_from_masks(run: Run) -> None:
    sample = load_phantom(1, seed=4)[0]
    agent = open_segmenter(str(run.path), CPU, starts=3)
    assert (agent.name, agent.track) == ("disk x3", "prompted")
    prompt = (bounding_box(sample.target),)
    answer = agent.segment(sample.image, prompt)
    best = agent.reach(sample.image, prompt, sample.target, answer)
    scores = [dice(mask, sample.target) for mask in (answer.proposal, answer.mask, best)]
    assert 0.2 < scores[0] < scores[2]
    assert scores[2] > 0.8
    assert scores[1] <= scores[2] + 0.05  # several starts may vote for a little more
    assert 0 < answer.uncertainty < 1
    assert len(agent.film(sample.image, prompt, sample.target)) == 6
    (alone,) = agent.segment_each(sample.image, prompt)
    assert np.array_equal(alone, open_segmenter(str(run.path), CPU).segment(sample.image, prompt).mask)


def test_its_agents_are_compared_and_chained(run: Run, tmp_path: Path) -> None:
    samples = load_phantom(3, seed=4)
    methods = [open_segmenter(spec, CPU) for spec in (str(run.path), f"otsu+{run.path}")]
    results = compare(methods, samples, tmp_path / "out", dataset="phantom", split="test")
    assert [row["method"] for row in results["rows"]] == ["disk", "otsu+disk"]
    assert all(row["oracle_dice"] >= row["initial_dice"] for row in results["rows"])
    assert "An episode of each agent" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
