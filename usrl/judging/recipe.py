"""How a judge is trained and chooses, as a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from usrl.runs.recipe import Recipe
from usrl.strict import Channels, PositiveFloat, PositiveInt


class JudgeRecipe(Recipe):
    """How a judge is trained, and how it chooses among the candidates of an image (`usrl.judging`).

    ``proposals`` is a folder that `usrl proposals` wrote for the same data. ``refiner`` is the run of an
    agent that takes boxes, of images as ``init_from`` wants them; null refines nothing. ``levels`` are the
    thresholds whose components are candidates. A judge takes the candidate of the highest expected Dice if it
    reaches ``reject``, and others that do not overlap it if they reach ``accept``. Another candidate replaces
    a component of the network's own mask only if it promises more Dice by ``margin``. If the network's mask
    is empty, the judge takes nothing.
    """

    kind: Literal["judge"]
    proposals: str
    refiner: str | None = None
    levels: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.1, 0.2, 0.3, 0.5, 0.7, 0.9], min_length=1, max_length=99
    )
    reject: Annotated[float, Field(ge=0, le=1)] = 0.0
    accept: Annotated[float, Field(ge=0, le=1)] = 0.45
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    channels: list[Channels] = Field([16, 32, 64, 64], min_length=1, max_length=6)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    epochs: PositiveInt = 5
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2

    @property
    def length(self) -> int:
        """The number of epochs."""
        return self.epochs
