"""Reads recipes from YAML, changes them by ``--set key=value``, checks them, and writes them into runs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from usrl.errors import UserError, brief
from usrl.learners import find_learner, load_object
from usrl.registry import find_row
from usrl.runs.recipe import Recipe
from usrl.runs.search import refuse_fixed
from usrl.runs.shipped import locate, suggest_shipped
from usrl.strict import MAX_DEPTH, check, parse_yaml

_MOST_DIFFERENCES, _MOST_LETTERS = 4, 80
_ABSENT = "absent"
_NOTHING = (_ABSENT, "None")
_OF_A_TRAINING = ("seed", "data.fold")
_STARTS = ("init_from", "proposals", "refiner", "env.proposals")
"""Keys that name what a training starts from."""


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe, and fill in every default.

    Args:
        path: A YAML file, a folder that holds ``recipe.yaml``, or the name of a shipped agent.
        overrides: ``key=value`` with dotted keys, such as ``data.name=busi``; values are YAML.

    Raises:
        UserError: If the file is missing or not YAML, or a key or value is wrong; names key and file.
    """
    path = locate(path)
    path = path / "recipe.yaml" if path.is_dir() else path
    tree = read_mapping(path, "recipe")
    for override in overrides:
        _apply_override(tree, override)
    return parse_recipe(tree, str(path))


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML file, which errors call ``what``, such as a recipe."""
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such {what}; give its YAML file, the folder that holds it, or a name; "
            f"{suggest_shipped(path)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the {what} ({error}); give the path of a YAML file") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a {what} is a mapping of keys to values, got {type(tree).__name__}")
    return tree


def parse_recipe(tree: dict[str, Any], source: str) -> Recipe:
    """Check a recipe that is already a mapping; see `load_recipe`."""
    learner = find_learner(tree.get("kind", "agent"), source)
    recipe: Recipe = check(load_object(learner.recipe), tree, source)
    for key, searched in recipe.search.items():
        refuse_fixed(key, source)
        for value in searched.extremes():
            apply_values(recipe, {key: value}, f"{source}: search.{key}")
    return recipe


def apply_values(recipe: Recipe, values: Mapping[str, Any], source: str) -> Recipe:
    """Return a recipe without its search and with new values of dotted keys. An error names their source."""
    tree = recipe.model_dump(exclude={"search"})
    for key, value in values.items():
        set_key(tree, key, value, source)
    return parse_recipe(tree, source)


def without_search(recipe: Recipe) -> Recipe:
    """Return a recipe without its search, as a run has it."""
    return recipe.model_copy(update={"search": {}})


def describe_differences(before: Recipe, after: Recipe) -> str:
    """Return in words which keys of two recipes differ, and both values: the first few, and how many more."""
    return _tell(_find_differences(before, after), "{} was {} and is {} now")


def describe_unlike(first: Recipe, second: Recipe) -> str:
    """Return in words which keys differ although both recipes should be one but for the seed; else nothing.

    The fold of a cross-validation may differ, and where a data set is. Both may start from other runs or
    proposals, but not one of them from nothing.
    """
    if first.kind != second.kind:  # most keys of one are absent in the other
        return f"kind ({first.kind!r} and {second.kind!r})"
    from usrl.data.catalogue import has_same_images  # lists of recipes need not wait for torch

    env = getattr(first, "env", None)
    starts = {*_STARTS, *(f"env.kwargs.{name}" for name in (find_row(env.id).sources if env else ()))}
    own = {*_OF_A_TRAINING, *(["data.root"] if has_same_images(first.data, second.data) else [])}
    differ = {
        key: values
        for key, values in _find_differences(first, second).items()
        if key not in own and not (key in starts and all(value not in _NOTHING for value in values))
    }
    return _tell(differ, "{} ({} and {})")


def _find_differences(first: Recipe, second: Recipe) -> dict[str, tuple[str, str]]:
    """Return both values, in words, of each dotted key that two recipes do not share."""
    old, new = _flatten(first.model_dump()), _flatten(second.model_dump())
    keys = [key for key in old | new if (key in old, old.get(key)) != (key in new, new.get(key))]
    return {key: (_show(old, key), _show(new, key)) for key in keys}


def _tell(differences: Mapping[str, tuple[str, str]], text: str) -> str:
    told = [text.format(key, *values) for key, values in differences.items()]
    more = f", and {len(told) - _MOST_DIFFERENCES} more" if len(told) > _MOST_DIFFERENCES else ""
    return ", ".join(told[:_MOST_DIFFERENCES]) + more


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _show(values: Mapping[str, Any], key: str) -> str:
    return brief(values[key]) if key in values else _ABSENT


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML that `load_recipe` reads back equal."""
    tree = recipe.model_dump(exclude={"search"})
    if recipe.search:
        tree["search"] = {key: own.model_dump(exclude_defaults=True) for key, own in recipe.search.items()}
    return dump_yaml(tree)


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """Return a mapping as YAML that `parse_yaml` reads back equal, in its own order."""
    dumper, text = YAML(typ="safe", pure=True), io.StringIO()
    dumper.default_flow_style = False
    dumper.representer.sort_base_mapping_type_on_output = False
    dumper.dump(dict(tree), text)
    return text.getvalue()


def set_key(tree: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key of nested mappings, such as ``data.name``, in place; missing groups are made."""
    *parents, leaf = key.split(".")
    if len(parents) > MAX_DEPTH:
        raise UserError(f"{source}: a key of {len(parents) + 1} names; no recipe is so deep")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UserError(f"{source}: {parent!r} is a value, not a group of keys")
    tree[leaf] = value


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set needs key=value, got {brief(override)}; for example --set data.name=busi")
    source = f"--set {override[:_MOST_LETTERS]}"
    set_key(tree, key, parse_yaml(value, source), source)
