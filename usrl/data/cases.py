"""The cases of episodes: images, or what else an environment needs."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar, Self, TypeVar

import torch

Table = TypeVar("Table")


class Cases:
    """Base of frozen dataclasses whose fields hold the cases of a task, on one device.

    A subclass names its kind, has the fields ``names`` and ``groups``, and adds tensors.

    Attributes:
        kind: Kind of the cases, such as ``"images"``; an environment needs cases of its kind.
        names: Name of each case; cases of one image share its name.
        groups: Patient, exam or cluster of each case, which splits and intervals keep together.
    """

    kind: ClassVar[str]
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.names)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self._tensors().values())).device

    def to(self, device: torch.device | str) -> Self:
        """Return the cases with their tensors on a device; this object if they are there already."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        if all(moved[name] is tensor for name, tensor in self._tensors().items()):
            return self
        return replace(self, **moved)  # type: ignore[type-var]

    def check(self) -> None:
        """Raise a `UserError` if a case allows no episode. By default, every case allows one."""

    def prepare(self, build: Callable[[Self], Table]) -> Table:
        """Return what a function of a module builds from these cases; it is called once for all tasks."""
        try:  # every step asks for something
            table: Table = self.__dict__["_prepared"][build]
        except KeyError:
            table = self.__dict__.setdefault("_prepared", {})[build] = build(self)
        return table

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was prepared out of a pickle: it is large, and can be built again."""
        return {name: value for name, value in self.__dict__.items() if name != "_prepared"}

    def _tensors(self) -> dict[str, torch.Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
