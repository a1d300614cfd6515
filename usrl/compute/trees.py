"""Trees of tensors: one tensor, or a dictionary, tuple or dataclass of trees.

Observations and actions of Dict and Tuple spaces are trees, and so are the states of tasks. Code that uses
these functions need not know which tree it has.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

Tree = Any
"""A tensor, or a mapping, tuple or dataclass of trees."""
T = TypeVar("T")


def map_tree(function: Callable[..., Any], tree: T, *others: Any) -> T:
    """Return a tree of what a function returns for the leaves of one or more trees of the same structure."""
    result: Any
    kind: Any = type(tree)
    if kind is Tensor:  # most trees are one tensor, and the other questions take longer than a small function
        result = function(tree, *others)
    elif isinstance(tree, Mapping):
        result = {key: map_tree(function, tree[key], *(other[key] for other in others)) for key in tree}
    elif isinstance(tree, tuple):
        result = tuple(map_tree(function, *parts) for parts in zip(tree, *others, strict=True))
    elif is_dataclass(tree):
        names = [field.name for field in fields(tree)]
        result = kind(*(map_tree(function, *(getattr(t, n) for t in (tree, *others))) for n in names))
    else:
        result = function(tree, *others)
    return result


def list_leaves(tree: Tree) -> list[Any]:
    """Return the leaves of a tree in a fixed order."""
    leaves: list[Any] = []
    map_tree(leaves.append, tree)
    return leaves


def replace_leaves(tree: T, leaves: Iterable[Any]) -> T:
    """Return a tree of the same structure with other leaves, in the order of `list_leaves`."""
    following = iter(leaves)
    return map_tree(lambda _: next(following), tree)
