"""How a segmentation network is trained, as a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from usrl.data.sample import DEFAULT_JITTER, Jitter
from usrl.runs.recipe import Recipe
from usrl.strict import Channels, PositiveFloat, PositiveInt, Strict


class AugmentRecipe(Strict):
    """Random changes of a training image and its mask.

    Rotation in degrees and scale as a fraction are half-widths around no change, translation is a
    fraction of the side, gamma the half-width of its logarithm.
    """

    flip: bool = True
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 15.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    translation: Annotated[float, Field(ge=0, lt=1)] = 0.08
    gamma: Annotated[float, Field(ge=0)] = 0.3


class NetworkRecipe(Recipe):
    """How a segmentation network is trained.

    ``precision`` is that of the convolutions: bfloat16 is about twice as fast on GPUs and on CPUs with
    instructions for it, and up to ten times slower on others; auto is bfloat16 where it is fast, and float32
    elsewhere. ``ema_decay`` is that of the running average of the weights,
    0 for none; ``flip_test`` averages the probabilities of an image and of its mirror image.
    ``negatives`` tells whether images without a lesion are trained on: without them the network finds
    something almost everywhere, and Dice is averaged over images instead of taken over the batch. A prompted
    network is shown lesions only: there ``negatives`` chooses no more than how Dice is taken.
    ``prompt`` is how the network is shown a box around each lesion, jittered by up to ``jitter`` of its
    extent: ``none`` for an automatic network, ``box`` as a second channel, ``crop`` by cutting the image to
    the box grown by ``crop_margin`` on each side and stretched to ``crop_size`` px
    (`usrl.networks.prompted`).
    ``init_from`` is a run of a network whose weights this one starts from, such as one that has learned from
    simulated images: of other images, or of no more than the training images here; for `usrl proposals` of
    other images only.
    The bounds of ``channels``, ``residual_units`` and ``crop_size`` are far beyond what segments images
    better: a typing error should not fill the memory or build for minutes.
    """

    kind: Literal["network"]
    network: str = "unet"
    channels: list[Channels] = Field([16, 32, 64, 128, 256], min_length=2, max_length=8)
    residual_units: Annotated[int, Field(ge=0, le=16)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    augment: AugmentRecipe = AugmentRecipe()
    prompt: Literal["none", "box", "crop"] = "none"
    jitter: Jitter = DEFAULT_JITTER
    crop_size: Annotated[int, Field(gt=0, le=1024)] = 96
    crop_margin: Annotated[float, Field(ge=0)] = 0.4
    epochs: PositiveInt = 40
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    flip_test: bool = True
    negatives: bool = True
    init_from: str | None = None

    @property
    def subject(self) -> str:
        """The network; see `usrl.runs.recipe.Recipe`."""
        return self.network

    @property
    def length(self) -> int:
        """Length of the training; see `usrl.runs.recipe.Recipe`."""
        return self.epochs
