"""Recipes: what a training is, written as YAML and checked strictly.

A recipe holds the differences from the defaults below, each with its reason. The same models read a
recipe by path, apply ``--set key=value`` and write the resolved recipe into a run. ``search`` (`usrl.search`)
is for tuning alone: a run is trained without.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from usrl.errors import UserError, suggest
from usrl.search import SearchRange, refuse_fixed
from usrl.strict import Strict as Strict
from usrl.strict import check as check

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Scalar = bool | int | float | str | None


class DataRecipe(Strict):
    """Which images: a dataset by name, where it lies and how it is split.

    ``labels`` is the share of the training part's groups that are trained on; validation and test stay whole.
    ``count``, ``seed`` and ``variety`` are the phantom's (`usrl.data.phantom.load_phantom`).
    """

    name: str = "phantom"
    root: str | None = None
    size: PositiveInt = 128
    split_seed: int = 0
    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    count: PositiveInt = 200
    seed: int = 0
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
    steps count single environments' steps. ``init_from`` is a run whose weights the policy starts from, and
    ``value_warmup_steps`` how long from there only the value function learns.
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
    seed: int = 0
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
    instructions for it, and slower on others. ``ema_decay`` is that of the running average of the weights,
    0 for none; ``flip_test`` averages the probabilities of an image and of its mirror image.
    ``negatives`` tells whether images without a lesion are trained on: without them the network finds
    something almost everywhere, and Dice is averaged over images instead of taken over the batch. A prompted
    network is shown lesions only: there ``negatives`` chooses no more than how Dice is taken.
    ``prompt`` is how the network is shown a box around each lesion, jittered by up to ``jitter`` of its
    extent: ``none`` for an automatic network, ``box`` as a second channel, ``crop`` by cutting the image to
    the box grown by ``crop_margin`` on each side and stretched to ``crop_size`` px
    (`usrl.baselines.prompted`).
    """

    kind: Literal["network"]
    data: DataRecipe = DataRecipe()
    network: str = "unet"
    channels: list[PositiveInt] = Field([16, 32, 64, 128, 256], min_length=2)
    residual_units: Annotated[int, Field(ge=0)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    augment: AugmentRecipe = AugmentRecipe()
    prompt: Literal["none", "box", "crop"] = "none"
    jitter: Annotated[float, Field(ge=0, le=0.45)] = 0.2
    crop_size: PositiveInt = 96
    crop_margin: Annotated[float, Field(ge=0)] = 0.4
    epochs: PositiveInt = 40
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    precision: Literal["float32", "bfloat16"] = "float32"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    flip_test: bool = True
    negatives: bool = True
    seed: int = 0
    search: dict[str, SearchRange] = Field(default_factory=dict)


class JudgeRecipe(Strict):
    """How a judge is trained, and how it chooses among the candidates of an image (`usrl.judging`).

    ``proposals`` is a folder that `usrl proposals` wrote for the same data, and ``refiner`` the run of an
    agent that is prompted by boxes, or null for candidates as they are. ``levels`` are the thresholds whose
    components are candidates. The candidate of the highest expected Dice is taken where that reaches
    ``reject``, others beside it where theirs reaches ``accept``; ``margin`` is how much more must be
    expected of another candidate than of a component of the network's own mask to take it instead. Where
    that mask is empty nothing is taken.
    """

    kind: Literal["judge"]
    data: DataRecipe = DataRecipe()
    proposals: str
    refiner: str | None = None
    levels: list[Share] = Field([0.1, 0.2, 0.3, 0.5, 0.7, 0.9], min_length=1)
    reject: Annotated[float, Field(ge=0, le=1)] = 0.0
    accept: Annotated[float, Field(ge=0, le=1)] = 0.45
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    channels: list[PositiveInt] = Field([16, 32, 64, 64], min_length=1)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    epochs: PositiveInt = 5
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    seed: int = 0
    search: dict[str, SearchRange] = Field(default_factory=dict)


Recipe = AgentRecipe | NetworkRecipe | JudgeRecipe
_MODELS: dict[str, type[AgentRecipe] | type[NetworkRecipe] | type[JudgeRecipe]] = {
    "agent": AgentRecipe,
    "network": NetworkRecipe,
    "judge": JudgeRecipe,
}


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads ``5e-4`` as a number, which YAML 1.1 takes for text."""


# add_implicit_resolver copies the parent's table, so that SafeLoader itself stays as it is.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str, source: str) -> Any:
    """Return the value of a YAML text, safely.

    Args:
        text: YAML.
        source: Name of the file or option for messages.

    Raises:
        UserError: If the text is not valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML ({error}); mend the syntax") from None


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: A YAML file, or a folder that holds ``recipe.yaml``.
        overrides: ``key=value`` with dotted keys, such as ``data.name=busi``; values are YAML.

    Returns:
        The checked recipe with every default filled in.

    Raises:
        UserError: If the file is missing or not YAML, or a key or value is wrong; names key and file.
    """
    path = Path(path)
    path = path / "recipe.yaml" if path.is_dir() else path
    tree = read_mapping(path, "recipe")
    for override in overrides:
        _apply_override(tree, override)
    return parse_recipe(tree, str(path))


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Args:
        path: The file.
        what: What it is, for messages, such as ``recipe``.

    Raises:
        UserError: If the file is missing, not YAML or not a mapping.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the {what} ({error}); give the path of a YAML file") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a {what} is a mapping of keys to values, got {type(tree).__name__}")
    return tree


def parse_recipe(tree: dict[str, Any], source: str) -> Recipe:
    """Check a recipe that is already a mapping; see `load_recipe`."""
    kind = tree.get("kind", "agent")
    if kind not in _MODELS:
        raise UserError(
            f"{source}: kind must be one of {', '.join(_MODELS)}, got {kind!r}; {suggest(str(kind), _MODELS)}"
        )
    recipe = check(_MODELS[kind], tree, source)
    for key, searched in recipe.search.items():
        refuse_fixed(key, source)
        for value in searched.extremes():
            apply_values(recipe, {key: value}, f"{source}: search.{key}")
    return recipe


def apply_values(recipe: Recipe, values: Mapping[str, Any], source: str) -> Recipe:
    """Return a recipe without its search and with some keys changed.

    Args:
        recipe: Where the other keys come from.
        values: By dotted key.
        source: Where they come from, for messages.

    Raises:
        UserError: If a key is unknown or a value is wrong.
    """
    tree = recipe.model_dump(exclude={"search"})
    for key, value in values.items():
        set_key(tree, key, value, source)
    return parse_recipe(tree, source)


def without_search(recipe: Recipe) -> Recipe:
    """Return a recipe as a run holds it."""
    return recipe.model_copy(update={"search": {}})


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML that `load_recipe` reads back equal."""
    tree = recipe.model_dump(exclude={"search"})
    if recipe.search:
        tree["search"] = {
            key: value.model_dump(exclude_defaults=True) for key, value in recipe.search.items()
        }
    return yaml.safe_dump(tree, sort_keys=False)


def set_key(tree: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key of nested mappings, such as ``data.name``; missing groups are made.

    Args:
        tree: Keys and values, changed in place.
        key: Names joined by dots.
        value: What the last of them becomes.
        source: Name of the file or option for messages.

    Raises:
        UserError: If a name on the way is a value.
    """
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UserError(f"{source}: {parent!r} is a value, not a group of keys")
    tree[leaf] = value


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set wants key=value, got {override!r}; for example --set data.name=busi")
    set_key(tree, key, parse_yaml(value, f"--set {override}"), f"--set {override}")
