"""The base of the recipes of every kind in `usrl.learners`; `usrl.runs.recipes` reads and writes them."""

from abc import ABC, abstractmethod

from pydantic import Field

from usrl.data.recipe import DataRecipe
from usrl.runs.search import SearchRange
from usrl.strict import Seed, Strict


class Recipe(Strict, ABC):
    """Defines a training: its images, how it learns from them, and its seed.

    Only tuning reads ``search`` (`usrl.runs.search`). The recipe of a run has none.
    """

    kind: str
    data: DataRecipe = DataRecipe()
    seed: Seed = 0
    search: dict[str, SearchRange] = Field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The environment or the network, which listings show next to the kind."""
        return ""

    @property
    @abstractmethod
    def length(self) -> int:
        """Length of the training: environment steps of an agent, epochs of anything else."""
