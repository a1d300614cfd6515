"""What every recipe has: the base of the kinds in `usrl.learners`.

A recipe holds the differences from its defaults, each with its reason. `usrl.runs.recipes` reads and writes
it.
"""

from pydantic import Field

from usrl.data.recipe import DataRecipe
from usrl.runs.search import SearchRange
from usrl.strict import Seed, Strict


class Recipe(Strict):
    """What a training is: which images, how to learn from them, and the seed.

    ``search`` (`usrl.runs.search`) is for tuning alone: a run is trained without.
    """

    kind: str
    data: DataRecipe = DataRecipe()
    seed: Seed = 0
    search: dict[str, SearchRange] = Field(default_factory=dict)

    @property
    def subject(self) -> str:
        """What listings tell of a recipe next to its kind: the environment or the network."""
        return ""

    @property
    def length(self) -> int:
        """Length of the training: environment steps of an agent, epochs of anything else."""
        raise NotImplementedError
