from pathlib import Path
from typing import Any

import pytest

from usrl.agents.recipe import AgentRecipe
from usrl.errors import UserError
from usrl.runs.recipes import apply_values, dump_recipe, load_recipe, parse_recipe
from usrl.runs.search import SearchRange
from usrl.strict import check

RATE = "hyperparameters.learning_rate"


def _range(**tree: Any) -> SearchRange:
    return check(SearchRange, tree, "range")


def _recipe(key: str, tree: dict[str, Any], **others: Any) -> AgentRecipe:
    recipe = parse_recipe({"search": {key: tree}, **others}, "recipe.yaml")
    assert isinstance(recipe, AgentRecipe)
    return recipe


def test_integers_stay_integers_and_floats_get_four_digits_within_the_bounds() -> None:
    integer = _range(low=2, high=8, step=2)
    assert integer.tidy(6.0) == 6
    assert isinstance(integer.tidy(6.0), int)
    real = _range(low=1e-5, high=1e-3, log=True)
    assert real.tidy(0.000316227766) == 0.0003162
    assert _range(low=1.0, high=1.23456).tidy(1.23456) == 1.23456  # rounded it would leave the range
    assert isinstance(_range(low=0, high=0.5).tidy(0), float)
    assert _range(low=0.1, high=0.7, step=0.1).tidy(0.30000000000000004) == 0.3


def test_a_prefix_stands_before_the_number_and_choices_are_found_by_their_place() -> None:
    assert _range(low=1e-4, high=1e-2, log=True, prefix="lin_").value(0.0003) == "lin_0.0003"
    assert _range(choices=[[4, 8], "box", None]).value(0) == [4, 8]
    assert _range(choices=["pixel", "proposal"]).extremes() == ["pixel", "proposal"]
    assert _range(low=1, high=3, prefix="lin_").extremes() == ["lin_1", "lin_3"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"low": 2, "high": 2}, "low must be less than high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "log needs a low above 0"),
        ({"low": 1}, "a range wants low and high, or choices"),
        ({}, "a range wants low and high, or choices"),
        ({"low": 1, "high": 8, "step": 2}, "a whole number of positive steps above low"),
        ({"low": 1, "high": 8, "step": -1}, "a whole number of positive steps above low"),
        ({"low": 1, "high": 8, "step": 1, "log": True}, "log and step exclude each other"),
        ({"choices": []}, "choices are empty"),
        ({"choices": ["a", "a"]}, "choices hold a value twice"),
        ({"choices": [1], "low": 1}, "choices go without low"),
        ({"low": 1, "hihg": 2}, f"unknown key 'search.{RATE}.hihg'; did you mean 'high'"),
        ({"low": "1e-5", "high": 1.0}, "low.* got '1e-5'"),
        ({"low": 1.0, "high": float("inf")}, "high.*finite"),
        ({"low": 0.0, "high": 1e308}, "low and high must lie between"),
        ({"low": -(10**400), "high": 1}, "low and high must lie between"),
        ({"low": 0.0, "high": 1e15, "step": 5e-324}, "a whole number of positive steps above low"),
    ],
)
def test_a_wrong_range_is_refused_with_its_key(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _recipe(RATE, tree)
    assert f"search.{RATE}" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "tree", "message"),
    [
        ("hyperparametrs.gamma", {"low": 0.1, "high": 0.9}, "unknown key 'hyperparametrs'; did you mean"),
        ("num_env", {"low": 1, "high": 9}, "unknown key 'num_env'; did you mean 'num_envs'"),
        ("num_envs", {"low": 0, "high": 9}, "num_envs: Input should be greater than 0, got 0"),
        ("num_envs", {"low": 1.5, "high": 9}, "valid integer"),
        ("algorithm.name", {"choices": ["ppo"]}, "'algorithm' is a value, not a group of keys"),
        ("policy", {"choices": ["CnnPolicy", 3]}, "valid string, got 3"),
    ],
)
def test_a_key_or_a_bound_that_the_recipe_does_not_know_is_refused(
    key: str, tree: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"recipe\.yaml: search\.{key}: .*{message}"):
        _recipe(key, tree)


@pytest.mark.parametrize(
    "key",
    [
        *("seed", "kind", "data.count", "data.labels", "env.kwargs.proposal", "env.kwargs.jitter"),
        *("data", "env", "env.kwargs"),  # they hold such keys
    ],
)
def test_keys_that_change_what_validation_asks_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=rf"search\.{key}: .*this key changes what validation asks"):
        _recipe(key, {"low": 1, "high": 2})


def test_a_recipe_with_a_search_is_written_and_read_back_equal(tmp_path: Path) -> None:
    recipe = _recipe(RATE, {"low": 1e-5, "high": 1e-3, "log": True, "prefix": "lin_"})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path) == recipe
    assert "search" not in dump_recipe(AgentRecipe())


def test_values_are_applied_and_the_search_is_gone() -> None:
    recipe = _recipe(RATE, {"low": 1e-5, "high": 1e-3}, hyperparameters={"gamma": 0.5}, num_envs=4)
    applied = apply_values(recipe, {RATE: "lin_0.0003", "num_envs": 8}, "trial")
    expected = {"gamma": 0.5, "learning_rate": "lin_0.0003"}
    assert applied == AgentRecipe(hyperparameters=expected, num_envs=8)
