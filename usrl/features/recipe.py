"""How the networks that give features to frames are trained, as a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from usrl.data.recipe import DataRecipe
from usrl.runs.recipe import Recipe
from usrl.strict import PositiveFloat, PositiveInt


class FeatureRecipe(Recipe):
    """How the three networks are trained: a frame classifier, an autoencoder and a segmentation U-Net.

    They learn from single frames of clips with masks. A frame counts as abnormal if its mask has at least
    ``abnormal_px`` pixels. ``width`` is the number D of features that each network gives a frame. An epoch
    shows ``frames_per_clip`` frames of each clip. The weights that are kept have the best ``val_score``: the
    accuracy of the classifier plus the Dice of the U-Net, less the autoencoder's error as a share of the
    variance of the frames.
    """

    kind: Literal["features"]
    data: DataRecipe = DataRecipe(name="lung", size=64)
    width: Annotated[int, Field(ge=8, le=512, multiple_of=8)] = 32
    abnormal_px: PositiveInt = 16
    frames_per_clip: PositiveInt = 24
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 5e-3

    @property
    def length(self) -> int:
        """The number of epochs."""
        return self.epochs
