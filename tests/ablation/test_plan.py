"""What a plan resolves to, and what is wrong with it."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from usrl.ablation.plan import Variant, choose_variants, load_plan, plan_path, resolve_plan
from usrl.errors import UserError

WritePlan = Callable[..., Path]
OUT = Path("out")


def resolve(path: Path) -> dict[str, Variant]:
    return {variant.name: variant for variant in resolve_plan(load_plan(path), path, OUT)}


def test_a_variant_is_the_base_with_its_overrides_and_seed(write_plan: WritePlan) -> None:
    path = write_plan({"reward": {"iou": {"env.kwargs.reward": "iou"}}}, set={"data.count": 30})
    variants = resolve(path)
    assert list(variants) == ["base", "reward/iou"]
    base, own = (variants[name].trainings[1] for name in variants)
    assert (own.seed, own.path) == (1, OUT.absolute() / "reward/iou/1")
    assert own.recipe.data.count == 30
    env = own.recipe.model_dump()["env"] | {"kwargs": {}}
    assert own.recipe.model_dump() | {"env": env} == base.recipe.model_dump()
    assert own.recipe.model_dump()["env"]["kwargs"] == {"reward": "iou"}


def test_a_mapping_replaces_the_mapping_and_a_dotted_key_one_entry(write_plan: WritePlan) -> None:
    changes = {"whole": {"policy_kwargs": {"width": 8}}, "entry": {"policy_kwargs.width": 8}}
    variants = resolve(write_plan({"width": changes}))
    kwargs = [variants[name].trainings[0].recipe.model_dump()["policy_kwargs"] for name in list(variants)[1:]]
    assert kwargs == [{"width": 8}, {"width": 8, "layers": 2}]


def test_what_equals_the_base_shares_its_trainings_even_by_a_default(write_plan: WritePlan) -> None:
    path = write_plan(
        {"reward": {"dice": {"env.kwargs.reward": "dice"}, "iou": {"env.kwargs.reward": "iou"}}}
    )
    variants = resolve(path)
    assert variants["reward/dice"].trainings == variants["base"].trainings
    assert variants["reward/iou"].trainings != variants["base"].trainings


def test_starts_change_how_runs_are_scored_and_not_what_is_trained(write_plan: WritePlan) -> None:
    variants = resolve(write_plan({"starts": {"four": {"starts": 4}}}))
    base, four = variants["base"], variants["starts/four"]
    assert four.trainings == base.trainings
    assert (base.scored[0][1], four.scored[0][1]) == (1, 4)


def test_a_start_comes_before_what_starts_from_it_wherever_it_stands(write_plan: WritePlan) -> None:
    groups = {"cloning": {"ppo": {"init_from": {"variant": "cloning/only"}}, "only": {"algorithm": "bc"}}}
    training = resolve(write_plan(groups))["cloning/ppo"].trainings[1]
    assert [(link.variant, link.seed) for link in training.chain()] == [
        ("cloning/only", 1),
        ("cloning/ppo", 1),
    ]
    assert training.recipe.model_dump()["init_from"] == str(OUT.absolute() / "cloning/only/1")


@pytest.mark.parametrize(
    ("groups", "others", "message"),
    [
        ({"a": {"b": {"total_step": 1}}}, {}, "ablation.yaml: a/b: unknown key 'total_step'; did you mean"),
        ({"a": {"b": {"env.kwargs.rewrd": "iou"}}}, {}, "a/b: env.kwargs: unknown key 'rewrd'; did you mean"),
        ({"a": {"b": {"algorithm.x": 1}}}, {}, "a/b: 'algorithm' is a value, not a group of keys"),
        ({"a": {"b": {"seed": 1}}}, {}, "a/b: the plan's seeds set 'seed'"),
        ({"a": {"b": {"starts": 0}}}, {}, "a/b: starts: .*greater than 0, got 0"),
        ({"a": {"b": {"data.count": 9}}}, {}, "a/b: all variants are scored on the same images"),
        ({"a": {"b": {"init_from": {"variant": "a/c"}}}}, {}, "a/b: init_from: no variant 'a/c'; did you"),
        ({"a": {"b": {"init_from": {"run": "a/c"}}}}, {}, "a/b: init_from: unknown key 'run'"),
        ({"a": {"b": {"init_from": {"variant": "a/b"}}}}, {}, "start from each other: a/b -> a/b"),
        ({"a": {"b": {}}}, {"seed": [0]}, "ablation.yaml: unknown key 'seed'; did you mean 'seeds'"),
        ({"a": {"b": {}}}, {"seeds": [0, 0]}, "seeds: one of .* is given twice"),
        ({"a": {"b": {}}}, {"split": "vall"}, "split: .* got 'vall'"),
        ({"a": {"../b": {}}}, {}, "groups.a.*match pattern"),
        ({"base": {"b": {}}}, {}, "'base' is the variant that changes nothing"),
        ({}, {}, "groups: .*at least 1"),
    ],
)
def test_a_wrong_plan_is_explained(
    write_plan: WritePlan, groups: dict[str, Any], others: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        resolve(write_plan(groups, **others))


def test_a_part_of_a_plan_keeps_the_base_and_shares_as_the_whole(write_plan: WritePlan) -> None:
    changes = {"a": {"num_envs": 4}, "b": {"num_envs": 2}}
    variants = list(resolve(write_plan({"x": changes, "y": deepcopy(changes)})).values())
    assert [v.name for v in choose_variants(variants, ["y"])] == ["base", "y/a", "y/b"]
    assert [v.name for v in choose_variants(variants, ["x/a", "y/b"])] == ["base", "x/a", "y/b"]
    assert choose_variants(variants, ["y"])[1].trainings == variants[1].trainings
    assert choose_variants(variants, []) == variants
    with pytest.raises(UserError, match="--only x/c: no such group or variant; did you mean"):
        choose_variants(variants, ["x/c"])


def test_an_agent_without_a_plan_is_refused_with_one_that_has_a_plan() -> None:
    with pytest.raises(UserError, match=r"unet has no ablation.yaml.*name contour-ppo"):
        plan_path("unet")
    assert plan_path("contour-ppo").is_file()


def test_every_plan_of_the_repository_resolves() -> None:
    paths = [*(Path(__file__).parents[2] / "agents").glob("*/ablation.yaml")]
    assert paths
    for path in paths:
        assert len(resolve(path)) > 2
