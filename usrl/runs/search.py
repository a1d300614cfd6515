"""A recipe's ``search``: the values that tuning may choose from for each key.

::

    search:
      hyperparameters.learning_rate: {low: 1.e-4, high: 1.e-2, log: true, prefix: lin_}
      hyperparameters.n_epochs: {low: 2, high: 8, step: 2}
      env.kwargs.scale: {choices: [pixel, proposal]}
"""

import json
from typing import Any

from pydantic import Field, model_validator

from usrl.errors import UserError
from usrl.strict import Strict

Number = int | float
_DIGITS = 4
_LARGEST = 1e15  # beyond, whole numbers are not exact as floats
_FIXED = {"kind", "seed", "search", "evaluate_every", "prompt", "jitter", "proposals", "env.id"}
_FIXED |= {"env.proposals", "env.kwargs.proposal", "env.kwargs.roi", "env.kwargs.jitter"}


class SearchRange(Strict):
    """The values of one key: numbers between two bounds, or some choices.

    If bounds and step are integers, so are the values. Other numbers have four significant digits. ``log``
    draws by order of magnitude. ``prefix``, such as ``lin_``, is written before the number.
    """

    low: Number | None = None
    high: Number | None = None
    step: Number | None = None
    log: bool = False
    prefix: str = ""
    choices: list[Any] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _check(self) -> "SearchRange":
        if self.choices is None:
            self._check_bounds()
        elif self.model_fields_set != {"choices"}:
            raise ValueError("choices go without low, high, step, log and prefix; leave these out")
        elif not self.choices:
            raise ValueError("choices are empty; name at least one value")
        elif len({json.dumps(choice, default=str) for choice in self.choices}) < len(self.choices):
            raise ValueError("choices hold a value twice; name each once")
        return self

    def _check_bounds(self) -> None:
        low, high, step = self.low, self.high, self.step
        if low is None or high is None:
            raise ValueError("a range wants low and high, or choices")
        if low >= high:
            raise ValueError("low must be less than high")
        if max(abs(low), abs(high)) > _LARGEST:
            raise ValueError(f"low and high must lie between {-_LARGEST:g} and {_LARGEST:g}")
        if self.log and low <= 0:
            raise ValueError("log needs a low above 0")
        if step is None:
            return
        if self.log:
            raise ValueError("log and step exclude each other; leave one out")
        steps = (high - low) / step if step > 0 else 0.5
        if steps > _LARGEST or abs(steps - round(steps)) > 1e-6:
            raise ValueError("high must lie a whole number of positive steps above low")

    def holds(self, drawn: int | float) -> bool:
        """Return whether a number lies between the bounds, and is whole if it must be."""
        low, high = self.bounds
        return low <= drawn <= high and (isinstance(drawn, int) or not (self.is_integer or self.choices))

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return all(not isinstance(bound, float) for bound in (self.low, self.high, self.step))

    @property
    def bounds(self) -> tuple[int | float, int | float]:
        """The lowest and the highest number; of choices, their first and last place."""
        if self.low is None or self.high is None:
            return 0, len(self.choices or ()) - 1
        return self.low, self.high

    def tidy(self, drawn: float) -> int | float:
        """Return a number as an integer, or as a float of few digits within the bounds."""
        if self.choices is not None or self.is_integer:
            return int(drawn)
        digits = _DIGITS if self.step is None else 12
        low, high = self.bounds
        return float(min(max(float(f"{drawn:.{digits}g}"), low), high))

    def value(self, drawn: int | float) -> Any:
        """Return the recipe's value of a number: itself with its prefix, or the choice at this place."""
        if self.choices is not None:
            return self.choices[int(drawn)]
        return f"{self.prefix}{drawn}" if self.prefix else drawn

    def extremes(self) -> list[Any]:
        """Return the values to check beforehand: the bounds, or every choice."""
        return self.choices or [self.value(self.tidy(bound)) for bound in self.bounds]


def refuse_fixed(key: str, source: str) -> None:
    """Refuse a key, or a mapping with a key, that changes what validation asks: trials must be comparable."""
    is_above = any(name.startswith(f"{key}.") for name in (*_FIXED, "data.name"))
    if key in _FIXED or is_above or (key.startswith("data.") and key != "data.size"):
        raise UserError(
            f"{source}: search.{key}: trials are compared by validation score, and this key changes what "
            "validation asks; set one value for all of them"
        )
