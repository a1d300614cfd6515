"""Algorithms and policies by the names that recipes use."""

import importlib
import inspect
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule

from usrl.agents.clips import ClipPolicy
from usrl.agents.cloning import Cloning
from usrl.agents.device_ppo import DevicePPO
from usrl.agents.policies import ContourPolicy
from usrl.agents.qlearning import Q_LEARNING, make_table
from usrl.agents.recipe import AgentRecipe, check_ranges
from usrl.agents.reinforce import Reinforce
from usrl.agents.slices import SlicePolicy, SliceQPolicy
from usrl.envs.task import Task
from usrl.errors import UserError, suggest
from usrl.runs.tensors import load_weights

POLICIES: dict[str, type[BasePolicy]] = {
    "ContourPolicy": ContourPolicy,
    "SlicePolicy": SlicePolicy,
    "ClipPolicy": ClipPolicy,
    "SliceQPolicy": SliceQPolicy,
}
"""Our own policies. An algorithm of Stable-Baselines3 knows others."""

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"bc": Cloning, "ppo-device": DevicePPO, "reinforce": Reinforce}
"""Our own algorithms, next to those of Stable-Baselines3."""

BUILD_ERRORS = (
    *(TypeError, ValueError, AssertionError, MemoryError, RuntimeError),
    *(AttributeError, LookupError, ArithmeticError),
)
"""What Stable-Baselines3 and torch raise if arguments of a policy or an algorithm are unusable."""

_NO_HYPERPARAMETERS = frozenset(
    {"self", "policy", "env", "seed", "device", "policy_kwargs", "tensorboard_log", "verbose"}
    | {"_init_setup_model", "action_noise"}
    | {f"{kind}_buffer_{what}" for kind in ("replay", "rollout") for what in ("class", "kwargs")}
)
"""Arguments of algorithms that a recipe sets elsewhere, or that are neither texts nor numbers."""


def find_algorithm(name: str) -> type[BaseAlgorithm]:
    """Return the algorithm of a lower-case name: ours, of Stable-Baselines3, or of sb3-contrib if there."""
    known = ALGORITHMS | _algorithms(stable_baselines3)
    with suppress(ModuleNotFoundError):
        known |= _algorithms(importlib.import_module("sb3_contrib"))
    if name not in known:
        raise UserError(
            f"algorithm: unknown name {name!r}; {suggest(name, [*known, Q_LEARNING])} "
            "(`pip install sb3-contrib` adds more)"
        )
    return known[name]


def find_policy(name: str, algorithm: type[BaseAlgorithm]) -> type[BasePolicy]:
    """Return the policy class of a name: ours, or one that the algorithm knows."""
    known = POLICIES | algorithm.policy_aliases
    if name not in known:
        raise UserError(f"policy: {algorithm.__name__} has no {name!r}; {suggest(name, known)}")
    return known[name]


def check_hyperparameters(recipe: AgentRecipe, algorithm: type[BaseAlgorithm]) -> dict[str, Any]:
    """Return the hyperparameters of a recipe as arguments of its algorithm.

    A text ``lin_X`` is a schedule that falls linearly from X to zero, as in RL Baselines3 Zoo. Unknown names,
    values out of range, and a training that would end before its first update are refused.
    """
    parameters = inspect.signature(algorithm).parameters
    known = set(parameters) - _NO_HYPERPARAMETERS
    for name in recipe.hyperparameters:
        if name not in known:
            raise UserError(f"hyperparameters: {recipe.algorithm} has no {name!r}; {suggest(name, known)}")
    chosen = {name: _schedule(name, value) for name, value in recipe.hyperparameters.items()}
    check_ranges(recipe.hyperparameters)
    for name, value in chosen.items():
        if isinstance(value, str) and not isinstance(parameters[name].default, str):
            raise UserError(f"hyperparameters: {name}: {recipe.algorithm} takes no text here, got {value!r}")
    if "learning_starts" in parameters:
        _check_first_update(recipe, {name: p.default for name, p in parameters.items()} | chosen)
    return chosen


def _check_first_update(recipe: AgentRecipe, values: Mapping[str, Any]) -> None:
    rollout, starts = values["train_freq"] * recipe.num_envs, values["learning_starts"]
    first = rollout * (starts // rollout + 1)
    if first > recipe.total_steps:
        raise UserError(
            f"the first update would come after {first} steps (a multiple of train_freq x num_envs, above "
            f"learning_starts), past total_steps {recipe.total_steps}; lower "
            "hyperparameters.learning_starts or train_freq"
        )


def build_policy(
    recipe: AgentRecipe, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> BasePolicy:
    """Return the policy of a recipe without algorithm and optimizer, ready to load weights."""
    if recipe.algorithm == Q_LEARNING:
        return make_table(recipe, observation_space, action_space)
    algorithm = find_algorithm(recipe.algorithm)
    policy = find_policy(recipe.policy, algorithm)
    arguments: dict[str, Any] = {"optimizer_class": _no_optimizer, **recipe.policy_kwargs}
    try:
        return policy(observation_space, action_space, lambda _: 0.0, **arguments)
    except UserError:
        raise
    except BUILD_ERRORS as error:
        raise UserError(f"policy_kwargs: {recipe.policy} does not take these ({error})") from None


def load_policy(path: Path, recipe: AgentRecipe, task: Task[Any], device: torch.device) -> BasePolicy:
    """Return the policy of a recipe with the weights of a file, ready to act on a task."""
    policy = build_policy(recipe, task.observation_space, task.action_space)
    load_weights(path, policy)
    policy.set_training_mode(False)
    return policy.to(device)


def _no_optimizer(parameters: Any, **options: Any) -> None:
    """Replace an optimizer: torch takes more than a second to make the first in a process."""


def _schedule(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith("lin_"):
        return value
    try:
        return LinearSchedule(float(value.removeprefix("lin_")), 0.0, 1.0)
    except ValueError:
        raise UserError(f"hyperparameters: {name} must be lin_NUMBER, got {value!r}") from None


def _algorithms(module: Any) -> dict[str, type[BaseAlgorithm]]:
    classes = {name.lower(): value for name, value in vars(module).items() if isinstance(value, type)}
    return {n: kind for n, kind in classes.items() if issubclass(kind, BaseAlgorithm) and kind.policy_aliases}
