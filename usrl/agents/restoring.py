"""How policies of our own come back from a file of Stable-Baselines3."""

import inspect
from typing import Any

from stable_baselines3.common.policies import BasePolicy


class Restorable(BasePolicy):
    """A policy whose ``save`` keeps the arguments that it was made of, for ``load``.

    SB3 would give a policy back the arguments of SB3's own policies. Let a class name this one before the
    policy of SB3 that it extends.
    """

    _given: dict[str, Any]

    def __new__(cls, *arguments: Any, **named: Any) -> "Restorable":
        """Return a policy that remembers its arguments; a copy has none at first."""
        policy: Restorable = super().__new__(cls)
        bound = inspect.signature(cls).bind_partial(*arguments, **named)
        object.__setattr__(policy, "_given", dict(bound.arguments))  # it is no module yet
        return policy

    def _get_constructor_parameters(self) -> dict[str, Any]:
        # A schedule is for training alone, and may be a function that no file can hold.
        return self._given | {"lr_schedule": self._dummy_schedule}
