from pathlib import Path

import pytest

from usrl.agents.recipe import AgentRecipe
from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.recipes import dump_recipe, load_recipe


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_empty_mapping_is_the_default_agent(tmp_path: Path) -> None:
    assert load_recipe(_write(tmp_path, "{}")) == AgentRecipe()


def test_folder_stands_for_the_recipe_in_it(tmp_path: Path) -> None:
    _write(tmp_path, "kind: network\nepochs: 3\n")
    assert load_recipe(tmp_path) == NetworkRecipe(kind="network", epochs=3)


@pytest.mark.parametrize("text", ["5e-4", "5.e-4", "5.0E-4", "0.0005", "+5e-4"])
def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str) -> None:
    recipe = load_recipe(_write(tmp_path, f"kind: network\nlearning_rate: {text}\n"))
    assert isinstance(recipe, NetworkRecipe)
    assert recipe.learning_rate == 5e-4
    assert load_recipe(_write(tmp_path, "kind: network\n"), [f"learning_rate={text}"]) == recipe


def test_text_that_looks_like_a_number_stays_text_in_quotes(tmp_path: Path) -> None:
    assert load_recipe(_write(tmp_path, "data: {name: '5e-4'}")).data.name == "5e-4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: network\nepoch: 3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("data: {nam: busi}", "unknown key 'data.nam'; did you mean 'name'"),
        ("kind: network\naugment: {fip: true}", "unknown key 'augment.fip'; did you mean 'flip'"),
        ("epochs: 3", "unknown key 'epochs'; known names: .*total_steps"),
        ("total_steps: '100'", "total_steps: .*valid integer, got '100'"),
        ("total_steps: 0", "total_steps: .*greater than 0, got 0"),
        ("total_steps: true", "total_steps: .*valid integer, got True"),
        ("kind: network\nchannels: [16]", "channels: .*at least 2"),
        ("kind: network\nlearning_rate: .nan", "learning_rate: .*finite number, got nan"),
        ("kind: network\nweight_decay: .inf", "weight_decay: .*finite number, got inf"),
        ("kind: network\nseed: -1", "seed: .*greater than or equal to 0, got -1"),
        ("data: {split_seed: -1}", "data.split_seed: .*greater than or equal to 0, got -1"),
        ("seed: 4294967296", "seed: .*less than 4294967296"),
        ("kind: [agent]", "kind must be one of agent, network, judge, features, got \\['agent'\\]"),
        ("seed: 1\nseed: 2", 'not valid YAML .*duplicate key "seed"'),
        ("data: {seed: 1, count: 20, seed: 1}", 'not valid YAML .*duplicate key "seed"'),
        ("data: &d {seed: 1}\nenv: *d", "not valid YAML .*write out what \\*d is"),
        ("env: &e {kwargs: *e}", "not valid YAML .*write out what \\*e is"),
        ("policy: 2026-13-01", "not valid YAML .*month must be in 1..12"),
        ("policy: " + "[" * 20_000, "not valid YAML .*nested more than 20 deep in line 1"),
        ("policy: " + "{a: " * 20_000, "not valid YAML .*nested more than 20 deep"),
        ("policy: " + "9" * 5000, "not valid YAML .*5000 digits"),
        ("policy: " + "x" * 600_000, "not valid YAML .*600008 letters, more than 500000"),
        ("? [policy]\n: 1", ".*Keys should be strings"),
        ("data: {size: !!bool abc}", "not valid YAML .*leave the tag .*bool out in line 1"),
        ("seed: !!timestamp abc", "not valid YAML .*leave the tag .*timestamp out"),
        ("kind: net", "kind must be one of agent, network, judge, features, got 'net'"),
        ("- a\n- b", "a recipe is a mapping of keys to values, got list"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_wrong_recipe_is_explained_and_the_file_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"recipe.yaml: {message}"):
        load_recipe(_write(tmp_path, text))


def test_every_mistake_is_listed(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(_write(tmp_path, "total_steps: no\nnum_envs: 1.5\n"))
    assert "total_steps" in str(caught.value)
    assert "num_envs" in str(caught.value)


def test_file_that_is_missing_or_not_text_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such recipe; give its YAML file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"recipe\.yaml: no such recipe; .* the folder that holds it"):
        load_recipe(tmp_path)
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read the recipe"):
        load_recipe(tmp_path)


def test_overrides_reach_into_groups_and_keep_the_rest(tmp_path: Path) -> None:
    path = _write(tmp_path, "data: {name: busi, size: 64}\n")
    recipe = load_recipe(path, ["data.size=256", "env.kwargs.steps=3", "algorithm=sac", "data.root=null"])
    assert (recipe.data.name, recipe.data.size, recipe.data.root) == ("busi", 256, None)
    assert isinstance(recipe, AgentRecipe)
    assert (recipe.env.kwargs, recipe.algorithm) == ({"steps": 3}, "sac")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "--set needs key=value, got 'epochs'"),
        ("=3", "--set needs key=value"),
        ("algorithm.name=ppo", "'algorithm' is a value, not a group of keys"),
        ("data.name=[", "--set data.name=.*: not valid YAML"),
        ("data.nme=busi", "unknown key 'data.nme'; did you mean 'name'"),
    ],
)
def test_wrong_override_is_explained(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(_write(tmp_path, "algorithm: ppo\n"), [override])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "hyperparameters: {learning_rate: 5e-4, n_steps: 32}\nenv: {kwargs: {observation: image}}",
        "kind: network\nlearning_rate: 1e-5\naugment: {gamma: 0.0}\nchannels: [8, 16]",
    ],
)
def test_resolved_recipe_reads_back_equal(tmp_path: Path, text: str) -> None:
    recipe = load_recipe(_write(tmp_path, text))
    assert load_recipe(_write(tmp_path, dump_recipe(recipe))) == recipe


def test_every_recipe_of_the_repository_is_valid() -> None:
    root = Path(__file__).parents[2]
    paths = [*root.glob("agents/*/recipe.yaml"), *root.glob("usrl/demo/*.yaml")]
    assert len(paths) >= 3
    for path in paths:
        load_recipe(path)
