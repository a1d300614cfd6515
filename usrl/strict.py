"""Reads JSON and YAML safely, and checks mappings strictly.

An unknown key or a value of a wrong type is an error that names the key.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from usrl.errors import UserError, brief, suggest

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Channels = Annotated[int, Field(gt=0, le=1024)]
"""Channels of a layer: a layer of more has tens of millions of weights."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Scalar = bool | int | Annotated[float, Field(allow_inf_nan=True)] | str | None
"""An argument that another library checks."""

_FIRST_EDITION = {"epoch": "step", "val_dice": "val_score"}
_MOST_ERRORS = 8
MAX_DEPTH, _LONGEST = 20, 500_000
"""Levels and letters of YAML that are read: parsing takes longer than linear time in both."""


class Strict(BaseModel):
    """A part of a recipe: unknown keys, wrong types and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


StrictModel = TypeVar("StrictModel", bound=Strict)


def read_json(text: bytes | str, source: str, remedy: str) -> Any:
    """Return the value of a JSON text in UTF-8. An error names the source and the remedy."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also: not UTF-8, a number of thousands of digits
        raise UserError(f"{source}: not JSON ({error}); {remedy}") from None


def parse_yaml(text: str, source: str) -> Any:
    """Return the value of a YAML 1.2 text, safely. An error names the source.

    Keys that occur twice, tags and aliases are refused, and so are long and deep texts. With aliases, a short
    file can make an endless value.
    """
    try:
        _check_yaml(text)
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, TypeError) as error:  # also: a 13th month, a list as a key
        place = getattr(error, "problem_mark", None)
        where = f" in line {place.line + 1}" if place else ""
        told = str(getattr(error, "problem", None) or error)[:200]
        raise UserError(f"{source}: not valid YAML ({told}{where}); fix the syntax") from None


def _check_yaml(text: str) -> None:
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text)} letters, more than {_LONGEST}")
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark)
        if isinstance(event, AliasEvent):
            raise MarkedYAMLError(problem=f"write out what *{event.anchor} is", problem_mark=event.start_mark)
        if getattr(event, "ctag", None):
            raise MarkedYAMLError(problem=f"leave the tag {event.ctag} out", problem_mark=event.start_mark)


def rename_first_edition(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with today's names. The first edition had other names for some."""
    return {
        new if (new := _FIRST_EDITION.get(key, key)) not in figures else key: value
        for key, value in figures.items()
    }


def check(model: type[StrictModel], tree: Any, source: str) -> StrictModel:
    """Return a mapping as a checked model. An error has a line for each wrong key and names the source."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        found = error.errors()
        told = [_explain(each, model, source) for each in found[:_MOST_ERRORS]]
        more = [f"and {len(found) - _MOST_ERRORS} more"] if len(found) > _MOST_ERRORS else []
        raise UserError("\n".join(told + more)) from None


def _explain(error: Any, model: type[BaseModel], source: str) -> str:
    key = brief(".".join(str(part) for part in error["loc"]))[1:-1]
    if error["type"] == "extra_forbidden":
        *parents, name = error["loc"]
        return f"{source}: unknown key {key!r}; {suggest(str(name), _known(model, parents))}"
    message = error["msg"].removeprefix("Value error, ")
    if not key:  # keys that do not fit together, which the message names
        return f"{source}: {message}"
    return f"{source}: {key}: {message}, got {brief(error['input'])}"


def _known(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    for part in location:
        if part not in model.model_fields:
            continue  # a key of a mapping of models
        annotation = model.model_fields[part].annotation
        for inner in (annotation, *get_args(annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
