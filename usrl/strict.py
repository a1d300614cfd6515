"""Mappings checked strictly: what is unknown or of a wrong type is an error that names the key."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usrl.errors import UserError, suggest

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Scalar = bool | int | Annotated[float, Field(allow_inf_nan=True)] | str | None
"""An argument of something else, which checks its range."""


class Strict(BaseModel):
    """A part of a recipe: unknown keys, wrong types and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


StrictModel = TypeVar("StrictModel", bound=Strict)


def check(model: type[StrictModel], tree: dict[str, Any], source: str) -> StrictModel:
    """Return a mapping as a checked model.

    Args:
        model: A subclass of `Strict`.
        tree: Keys and values.
        source: Name of the file or call for messages.

    Raises:
        UserError: If a key is unknown or a value is wrong; one line each.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(_explain(e, model, source) for e in error.errors())) from None


def _explain(error: Any, model: type[BaseModel], source: str) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        *parents, name = error["loc"]
        return f"{source}: unknown key {key!r}; {suggest(str(name), _known(model, parents))}"
    return f"{source}: {key}: {error['msg'].removeprefix('Value error, ')}, got {error['input']!r}"


def _known(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    for part in location:
        if part not in model.model_fields:
            continue  # a key of a mapping of models
        annotation = model.model_fields[part].annotation
        for inner in (annotation, *get_args(annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
