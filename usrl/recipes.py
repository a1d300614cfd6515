"""Recipes: what a training is, written as YAML and checked strictly.

A recipe holds the differences from the defaults below, each with its reason; `usrl.recipe_files` reads and
writes it. ``search`` (`usrl.search`) is for tuning alone: a run is trained without.
"""

import os.path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from usrl.data.sample import DEFAULT_JITTER, Jitter
from usrl.search import SearchRange
from usrl.strict import Strict

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Scalar = bool | int | Annotated[float, Field(allow_inf_nan=True)] | str | None
"""An argument of something else, which checks its range."""


Folder = Annotated[str, AfterValidator(os.path.abspath)]
"""Kept absolute, as a run is used from other folders than the one that it was trained in."""


class DataRecipe(Strict):
    """Which images: a dataset by name, where it lies and how it is split.

    ``labels`` is the share of the training part's groups that are trained on; validation and test stay whole.
    ``count``, ``seed`` and ``variety`` are the phantom's (`usrl.data.phantom.load_phantom`).
    """

    name: str = "phantom"
    root: Folder | None = None
    size: PositiveInt = 128
    split_seed: Seed = 0
    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    count: PositiveInt = 200
    seed: Seed = 0
    variety: Annotated[float, Field(ge=0, le=1)] = 0.0


class EnvRecipe(Strict):
    """A registered environment and the arguments that differ from its defaults."""

    id: str = "usrl/ContourRefine-v0"
    kwargs: dict[str, Scalar] = Field(default_factory=dict)
    max_episode_steps: PositiveInt = 10
    proposals: str | None = None


class AgentRecipe(Strict):
    """How an agent is trained.

    ``algorithm`` is ``bc``, ``ppo-device``, ``q-learning`` or the lower-case name of a Stable-Baselines3 or
    sb3-contrib algorithm (`usrl.agents.algorithms`) and ``hyperparameters`` are arguments of its class;
    steps count single environments' steps. ``init_from`` is a run whose weights the policy starts from: of
    other images, or of no more than the training images here (`usrl.leaks`). ``value_warmup_steps`` is how
    long from there only the value function learns.
    """

    kind: Literal["agent"] = "agent"
    data: DataRecipe = DataRecipe()
    env: EnvRecipe = EnvRecipe()
    algorithm: str = "ppo"
    policy: str = "ContourPolicy"
    policy_kwargs: dict[str, Scalar] = Field(default_factory=dict)
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    init_from: str | None = None
    value_warmup_steps: Annotated[int, Field(ge=0)] = 0
    num_envs: PositiveInt = 32
    total_steps: PositiveInt = 100_000
    evaluate_every: PositiveInt = 10_240
    checkpoint_every: PositiveInt = 10_240
    seed: Seed = 0
    search: dict[str, SearchRange] = Field(default_factory=dict)


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


class NetworkRecipe(Strict):
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
    (`usrl.baselines.prompted`).
    ``init_from`` is a run of a network whose weights this one starts from, such as one that has learned from
    simulated images: of other images, or of no more than the training images here; for `usrl proposals` of
    other images only.
    """

    kind: Literal["network"]
    data: DataRecipe = DataRecipe()
    network: str = "unet"
    channels: list[PositiveInt] = Field([16, 32, 64, 128, 256], min_length=2)
    residual_units: Annotated[int, Field(ge=0)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    augment: AugmentRecipe = AugmentRecipe()
    prompt: Literal["none", "box", "crop"] = "none"
    jitter: Jitter = DEFAULT_JITTER
    crop_size: PositiveInt = 96
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
    seed: Seed = 0
    search: dict[str, SearchRange] = Field(default_factory=dict)


class JudgeRecipe(Strict):
    """How a judge is trained, and how it chooses among the candidates of an image (`usrl.judging`).

    ``proposals`` is a folder that `usrl proposals` wrote for the same data, and ``refiner`` the run of an
    agent that is prompted by boxes, of images as ``init_from`` wants them, or null for candidates as they
    are. ``levels`` are the thresholds whose components are candidates. The candidate of the highest
    expected Dice is taken where that reaches ``reject``, others beside it where theirs reaches ``accept``;
    ``margin`` is how much more must be expected of another candidate than of a component of the network's
    own mask to take it instead. Where that mask is empty nothing is taken.
    """

    kind: Literal["judge"]
    data: DataRecipe = DataRecipe()
    proposals: str
    refiner: str | None = None
    levels: list[Annotated[float, Field(gt=0, lt=1)]] = Field([0.1, 0.2, 0.3, 0.5, 0.7, 0.9], min_length=1)
    reject: Annotated[float, Field(ge=0, le=1)] = 0.0
    accept: Annotated[float, Field(ge=0, le=1)] = 0.45
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    channels: list[PositiveInt] = Field([16, 32, 64, 64], min_length=1)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    epochs: PositiveInt = 5
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    seed: Seed = 0
    search: dict[str, SearchRange] = Field(default_factory=dict)


Recipe = AgentRecipe | NetworkRecipe | JudgeRecipe
