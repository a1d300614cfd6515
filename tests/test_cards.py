"""The cards under envs/ say what the code does."""

import ast
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from summary_builders import make_clips

import usrl  # noqa: F401 - registers the environments
from usrl.agents.players import begin_evaluation
from usrl.data.bank import Bank
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.volumes import VOLUMES, Volumes
from usrl.data.catalogue import DATASETS
from usrl.data.clips.clips import CLIPS, Clips
from usrl.data.phantom.dataset import load_phantom
from usrl.data.recipe import DataRecipe
from usrl.data.splits import DEFAULT_FRACTIONS
from usrl.evaluation.compare import score_case
from usrl.learners import load_object
from usrl.registry import IMAGES, REGISTRY, build_task, describe_arguments
from usrl.strict import parse_yaml

ENVS = Path(__file__).parents[1] / "envs"
MAX_PICTURE_BYTES = 300_000
FOLDERS = sorted(path for path in ENVS.iterdir() if path.is_dir())


def read_card(folder: Path) -> dict[str, Any]:
    path = folder / "card.yaml"
    card: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    return card


@pytest.fixture(params=FOLDERS, ids=[folder.name for folder in FOLDERS])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def card(folder: Path) -> dict[str, Any]:
    return read_card(folder)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.from_samples(load_phantom(2, shape=(96, 96)), 128)


@pytest.fixture(scope="module")
def volumes() -> Volumes:
    return Volumes.from_bodies([make_body(0, 0)])


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


@pytest.fixture
def cases(card: dict[str, Any], bank: Bank, volumes: Volumes, clips: Clips) -> Any:
    return {VOLUMES: volumes, CLIPS: clips}.get(REGISTRY[card["id"]].cases, bank)


def test_every_registered_environment_has_one_card_and_every_card_is_registered() -> None:
    assert sorted(read_card(path)["id"] for path in FOLDERS) == sorted(REGISTRY)


def test_a_card_has_a_page_with_a_small_picture(folder: Path) -> None:
    assert "episode.png" in (folder / "README.md").read_text(encoding="utf-8")
    assert 0 < (folder / "episode.png").stat().st_size <= MAX_PICTURE_BYTES


def test_a_card_gives_the_registered_step_limit(card: dict[str, Any]) -> None:
    assert card["max_episode_steps"] == REGISTRY[card["id"]].max_episode_steps
    assert card["max_episode_steps"] == gym.spec(card["id"]).max_episode_steps


def test_the_table_of_arguments_gives_the_default_and_the_meaning_of_every_setting(
    card: dict[str, Any],
) -> None:
    table = re.findall(r"^\| `(\w+)` \| `(\S+)` \| (.+) \| ", describe_arguments(card["id"]), re.MULTILINE)
    assert {name: ast.literal_eval(default) for name, default, _ in table} == defaults_of(card)
    assert all(meaning.strip() for _, _, meaning in table)


def defaults_of(card: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = load_object(REGISTRY[card["id"]].settings)().model_dump()
    return defaults


def pinned_space(pinned: dict[str, Any]) -> gym.Space[Any]:
    if "n" in pinned:
        return gym.spaces.Discrete(pinned["n"])
    if "choices" in pinned:
        return gym.spaces.MultiDiscrete(pinned["choices"], np.dtype(pinned["dtype"]).type)
    if "binary" in pinned:
        return gym.spaces.MultiBinary(pinned["binary"])
    return gym.spaces.Box(pinned["low"], pinned["high"], tuple(pinned["shape"]), np.dtype(pinned["dtype"]))


@pytest.mark.parametrize("which", ["observation", "action"])
def test_a_card_gives_the_spaces_of_the_made_environment(
    card: dict[str, Any], which: str, cases: Any
) -> None:
    assert getattr(gym.make(card["id"], cases=cases), f"{which}_space") == pinned_space(card[which])


def test_a_card_pins_the_default_split(card: dict[str, Any]) -> None:
    split = card["evaluation"]["split"]
    assert split["fractions"] == dict(DEFAULT_FRACTIONS)
    assert split["seed"] == DataRecipe().split_seed
    if REGISTRY[card["id"]].cases == IMAGES:
        assert card["evaluation"]["working_size_px"] == DataRecipe().size


def test_a_card_names_known_data_sets(card: dict[str, Any]) -> None:
    assert set(card["evaluation"]["datasets"]) <= set(DATASETS)


def test_boxes_are_jittered_in_evaluation_as_in_episodes(card: dict[str, Any]) -> None:
    if "jitter" in defaults_of(card):  # not every environment starts from a box
        assert card["evaluation"]["prompt"]["jitter"] == defaults_of(card)["jitter"]


def test_a_card_names_the_metrics_that_are_scored(card: dict[str, Any], cases: Any) -> None:
    if not REGISTRY[card["id"]].placement:
        task = build_task(card["id"], cases, {})
        assert set(card["evaluation"]["metrics"]) == set(task.figures(begin_evaluation(task)))
        return
    mask = np.eye(8, dtype=bool)
    scored = {column.removesuffix("_px") for column in score_case(mask, mask)}
    assert set(card["evaluation"]["metrics"]) == scored
