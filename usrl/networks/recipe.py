"""How a segmentation network is trained, as a recipe."""

import os.path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from usrl.data.sample import DEFAULT_JITTER, Jitter
from usrl.runs.recipe import Recipe
from usrl.strict import Channels, PositiveFloat, PositiveInt, Strict

IMAGENET = "imagenet"
"""The weights of an installed package; any other word is a path, kept absolute."""
EncoderWeights = Annotated[
    str, AfterValidator(lambda word: word if word == IMAGENET else os.path.abspath(word))
]
OWN_SHAPES: dict[str, dict[str, Any]] = {
    "attention-unet": {"residual_units": 0},
    "unet++": {"residual_units": 0},
    "fcn": {"channels": [16, 32, 64, 128, 128, 512], "residual_units": 0},
    "segnet": {"channels": [16, 32, 64, 128, 128], "residual_units": 0},
    "deeplabv3plus": {"channels": [32, 64, 128, 256, 128]},
    "pranet": {"channels": [32, 64, 128, 256, 32]},
    "rfnet": {"channels": [32, 64, 128, 256]},
    "transresunet": {"channels": [32, 64, 128, 256]},
    "unet-lite0": {"channels": [96, 64, 48, 32], "residual_units": 0},
}
"""Defaults of networks that differ from those of `NetworkRecipe`, which are the U-Net's."""


class AugmentRecipe(Strict):
    """Random changes of a training image and its mask: half-widths around no change.

    Rotation is in degrees, scale a fraction, translation a fraction of the side, gamma a logarithm.
    """

    flip: bool = True
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 15.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    translation: Annotated[float, Field(ge=0, lt=1)] = 0.08
    gamma: Annotated[float, Field(ge=0)] = 0.3


class NetworkRecipe(Recipe):
    """How a segmentation network is trained.

    ``network`` is a name (`usrl.networks.models.build_network`), or the import path of a network of yours,
    such as ``mypackage.nets:Build``. ``channels`` and ``residual_units`` that are null or left out are the
    network's own (`OWN_SHAPES`).

    ``precision`` is that of the convolutions. bfloat16 is about twice as fast on GPUs and on CPUs with
    instructions for it, and up to ten times slower on others; auto takes it where it is fast.
    ``ema_decay`` belongs to the running average of the weights; 0 averages nothing. ``flip_test`` averages
    the probabilities of an image and of its mirror image.

    ``negatives`` trains on images without a lesion too. Without them a network finds something almost
    everywhere, and Dice is averaged over images instead of taken over the batch. A prompted network sees
    lesions only: there ``negatives`` chooses just how Dice is taken.

    ``presence`` adds a head that rates whether there is a lesion at all, and empties the masks of images that
    it rates low (`usrl.networks.presence`). It learns from all images, whatever ``negatives`` says of masks.

    ``prompt`` says how the network sees a box around each lesion, jittered by up to ``jitter`` of its extent:
    ``none`` for an automatic network, ``box`` as a second channel, ``crop`` by cutting the image to the box,
    grown by ``crop_margin`` on each side and stretched to ``crop_size`` px (`usrl.networks.prompted`).
    ``clicks`` and ``landmarks`` cut it likewise, and the network also takes corrections
    (`usrl.networks.clicks`): discs of ``mark_px`` radius where a user has clicked inside and outside the
    lesion, or has placed points on its border, and its own last prediction, which it sees again
    ``feedback`` times. In training a user has corrected it up to ``mark_rounds`` times.

    ``window`` is the number of neighbouring frames that a network learns from at once, if the data set gives
    clips; 1 on images. ``batch_size`` counts windows. On clips a network sees no box.

    ``init_from`` is the run of a network whose weights this one starts from, such as one that has learned
    from simulated images. It must have learned from other images, or from no more than the training images
    here; for `usrl proposals` from other images only.

    ``encoder_weights`` are published weights that the encoder of ``unet-lite0`` starts from: ``imagenet``, or
    the path of a file (`usrl.networks.pretrained`).

    The bounds of ``channels``, ``residual_units`` and ``crop_size`` are far above what segments better: they
    keep a typing error from filling the memory or building for minutes.
    """

    kind: Literal["network"]
    network: str = "unet"
    channels: list[Channels] = Field([16, 32, 64, 128, 256], min_length=2, max_length=8)
    residual_units: Annotated[int, Field(ge=0, le=16)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    augment: AugmentRecipe = AugmentRecipe()
    prompt: Literal["none", "box", "crop", "clicks", "landmarks"] = "none"
    jitter: Jitter = DEFAULT_JITTER
    crop_size: Annotated[int, Field(gt=0, le=1024)] = 96
    crop_margin: Annotated[float, Field(ge=0)] = 0.4
    window: Annotated[int, Field(gt=0, le=256)] = 1
    mark_px: PositiveFloat = 3.0
    mark_rounds: Annotated[int, Field(ge=0, le=20)] = 3
    feedback: Annotated[int, Field(ge=0, le=5)] = 0
    epochs: PositiveInt = 40
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    flip_test: bool = True
    negatives: bool = True
    presence: bool = False
    init_from: str | None = None
    encoder_weights: EncoderWeights | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_own_shape(cls, tree: Any) -> Any:
        """Give a network the channels and blocks that are its own if the recipe names none."""
        if not isinstance(tree, dict):
            return tree
        left_out = {key for key in ("channels", "residual_units") if key in tree and tree[key] is None}
        given = {key: value for key, value in tree.items() if key not in left_out}
        return OWN_SHAPES.get(str(tree.get("network")), {}) | given

    @property
    def subject(self) -> str:
        """The network."""
        return self.network

    @property
    def length(self) -> int:
        """The number of epochs."""
        return self.epochs
