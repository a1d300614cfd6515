"""Recipes as YAML: read by path, changed by ``--set key=value``, checked, and written into a run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from usrl.errors import UserError
from usrl.learners import find_learner, load_object
from usrl.runs.recipe import Recipe
from usrl.runs.search import refuse_fixed
from usrl.runs.shipped import locate, suggest_shipped
from usrl.strict import check

_MOST_DIFFERENCES = 4


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads ``5e-4`` as a number, which YAML 1.1 takes for text.

    An alias, of which a short file can make a value without end, and a key given twice are errors.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"write out what *{event.anchor} is", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in keys[:place]:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is here twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


# add_implicit_resolver copies the parent's table, so that SafeLoader itself stays as it is.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str, source: str) -> Any:
    """Return the value of a YAML text, safely.

    Args:
        text: YAML.
        source: Name of the file or option for messages.

    Raises:
        UserError: If the text is not valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also: a 13th month, nested too deeply
        raise UserError(f"{source}: not valid YAML ({error}); fix the syntax") from None


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: A YAML file, a folder that holds ``recipe.yaml``, or the name of a shipped agent.
        overrides: ``key=value`` with dotted keys, such as ``data.name=busi``; values are YAML.

    Returns:
        The checked recipe with every default filled in.

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
    """Return the mapping that a YAML file holds.

    Args:
        path: The file.
        what: What it is, for messages, such as ``recipe``.

    Raises:
        UserError: If the file is missing, not YAML or not a mapping.
    """
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
    """Return a recipe without its search and with some keys changed.

    Args:
        recipe: Where the other keys come from.
        values: By dotted key.
        source: Where they come from, for messages.

    Raises:
        UserError: If a key is unknown or a value is wrong.
    """
    tree = recipe.model_dump(exclude={"search"})
    for key, value in values.items():
        set_key(tree, key, value, source)
    return parse_recipe(tree, source)


def without_search(recipe: Recipe) -> Recipe:
    """Return a recipe as a run holds it."""
    return recipe.model_copy(update={"search": {}})


def describe_differences(before: Recipe, after: Recipe) -> str:
    """Return in words which keys differ between two recipes, with both values: the first few and a count."""
    old, new = _flatten(before.model_dump()), _flatten(after.model_dump())
    keys = [key for key in old | new if (key in old, old.get(key)) != (key in new, new.get(key))]
    told = [f"{key} was {_show(old, key)} and is {_show(new, key)} now" for key in keys[:_MOST_DIFFERENCES]]
    more = f", and {len(keys) - _MOST_DIFFERENCES} more" if len(keys) > _MOST_DIFFERENCES else ""
    return ", ".join(told) + more


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _show(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "absent"


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML that `load_recipe` reads back equal."""
    tree = recipe.model_dump(exclude={"search"})
    if recipe.search:
        tree["search"] = {
            key: value.model_dump(exclude_defaults=True) for key, value in recipe.search.items()
        }
    return yaml.safe_dump(tree, sort_keys=False)


def set_key(tree: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key of nested mappings, such as ``data.name``; missing groups are made.

    Args:
        tree: Keys and values, changed in place.
        key: Names joined by dots.
        value: What the last of them becomes.
        source: Name of the file or option for messages.

    Raises:
        UserError: If a name on the way is a value.
    """
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UserError(f"{source}: {parent!r} is a value, not a group of keys")
    tree[leaf] = value


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set needs key=value, got {override!r}; for example --set data.name=busi")
    set_key(tree, key, parse_yaml(value, f"--set {override}"), f"--set {override}")
