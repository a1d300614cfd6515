"""The weights that the repository ships."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from usrl.agents.algorithms import load_policy
from usrl.agents.players import PolicyPlayer, evaluate_player
from usrl.agents.recipe import AgentRecipe
from usrl.agents.summaries import RandomSummaryPlayer
from usrl.classical import CLASSICAL
from usrl.data.clips.clips import Clips
from usrl.data.clips.lung import make_lung
from usrl.data.phantom.dataset import load_phantom
from usrl.data.prompts import jittered_boxes
from usrl.evaluation.corrections import Meeting
from usrl.evaluation.methods import open_interactive, open_segmenter
from usrl.metrics.overlap import dice
from usrl.registry import build_task
from usrl.runs.run import open_run
from usrl.users.users import find_user

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


@pytest.mark.parametrize("name", ["contour-ppo", "contour-ppo-own", "contour-bc", "unet-prompted"])
def test_shipped_weights_find_lesions_that_they_have_not_seen(name: str) -> None:
    shipped, proposal = open_segmenter(str(AGENTS / name), torch.device("cpu")), CLASSICAL["proposal"]()
    gains = []
    for sample in load_phantom(12, seed=9, variety=1.0):
        prompt = jittered_boxes(sample)
        found, start = (method.segment(sample.image, prompt).mask for method in (shipped, proposal))
        gains.append(dice(found, sample.target) - dice(start, sample.target))
    assert np.mean(gains) > 0.08


@pytest.mark.parametrize("name", ["summary-reinforce", "summary-supervised", "summary-ppo"])
def test_shipped_agents_keep_more_of_the_known_frames_than_chance(name: str) -> None:
    run = open_run(AGENTS / name)
    recipe = run.recipe_as(AgentRecipe)
    clips = Clips.from_clips([make_lung(9, index) for index in range(8)], 64)
    task: Any = build_task(recipe.env.id, clips, recipe.env.kwargs)
    agent = PolicyPlayer(load_policy(run.weights_path, recipe, task, torch.device("cpu")), task)
    found, chance = (evaluate_player(task, player) for player in (agent, RandomSummaryPlayer(task)))
    assert found["share"] == pytest.approx(chance["share"])
    assert found["f1"] > chance["f1"] + 0.12


def test_the_shipped_agent_makes_more_of_a_correction_than_its_points_alone() -> None:
    methods = [open_interactive(name) for name in (str(AGENTS / "correct-bc"), "pull")]
    meeting = Meeting(find_user("person"))
    samples = load_phantom(8, seed=9, variety=1.0)
    gained = []
    for method in methods:
        masks = [meeting.correct(method, sample) for sample in samples]
        after = [
            dice(found[min(2, len(found) - 1)], one.target) for found, one in zip(masks, samples, strict=True)
        ]
        gained.append(np.mean(after))
    assert gained[0] > gained[1] + 0.02
