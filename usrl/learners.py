"""The one table of what can be trained: agents, networks, judges, and networks of features.

Each kind is imported when it is asked for: an agent needs no MONAI, and a network no Stable-Baselines3.
"""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usrl.errors import UserError, brief, suggest
from usrl.files import locked, writing_to

if TYPE_CHECKING:
    import torch

    from usrl.runs.recipe import Recipe
    from usrl.runs.run import Run
    from usrl.segmenter import Segmenter
    from usrl.session import Interactive


@dataclass(frozen=True)
class Learner:
    """A kind of training, as import paths ``module:name``."""

    recipe: str  # model of its recipes, a `usrl.runs.recipe.Recipe`
    build: str  # build(recipe) checks a recipe and returns its untrained model
    train: str  # train(run, device, resume=...)
    segmenter: str  # segmenter(run, device, proposer=..., starts=...) opens a trained run
    interactive: str | None = None  # interactive(run, device) opens one that takes corrections


LEARNERS = {
    "agent": Learner(
        recipe="usrl.agents.recipe:AgentRecipe",
        build="usrl.agents.training:build_untrained",
        train="usrl.agents.training:train_agent",
        segmenter="usrl.agents.segmenter:AgentSegmenter",
        interactive="usrl.agents.correcting:open_correcting_agent",
    ),
    "network": Learner(
        recipe="usrl.networks.recipe:NetworkRecipe",
        build="usrl.networks.training:build_untrained_network",
        train="usrl.networks.training:train_network",
        segmenter="usrl.networks.segmenter:open_network",
        interactive="usrl.networks.clicks:open_clicked_network",
    ),
    "judge": Learner(
        recipe="usrl.judging.recipe:JudgeRecipe",
        build="usrl.judging.training:build_untrained_judge",
        train="usrl.judging.training:train_judge",
        segmenter="usrl.judging.segmenter:JudgedSegmenter",
    ),
    "features": Learner(
        recipe="usrl.features.recipe:FeatureRecipe",
        build="usrl.networks.features:build_untrained_features",
        train="usrl.networks.features:train_features",
        segmenter="usrl.networks.features:refuse_features",
    ),
}
"""By the ``kind`` of a recipe."""


def find_learner(kind: object, source: str) -> Learner:
    """Return the learner of a recipe's ``kind``. An error names the recipe's source and suggests a kind."""
    if not isinstance(kind, str) or kind not in LEARNERS:
        hint = suggest(str(kind), LEARNERS)
        raise UserError(f"{source}: kind must be one of {', '.join(LEARNERS)}, got {brief(kind)}; {hint}")
    return LEARNERS[kind]


def check_recipe(recipe: "Recipe") -> "torch.nn.Module":
    """Refuse a wrong recipe before its images are read and its run is made; return the untrained model.

    The data set is looked for, the model is built, and what it starts from is opened. The training checks
    which images that start has learned from, because only the training knows the split.
    """
    from usrl.data.catalogue import require_dataset

    require_dataset(recipe.data)
    with warnings.catch_warnings(), _enough_memory():
        warnings.simplefilter("ignore")  # the training gives the same
        model: torch.nn.Module = load_object(LEARNERS[recipe.kind].build)(recipe)
        return model


def train_run(run: "Run", device: "torch.device", *, resume: bool = False) -> None:
    """Train a run of any kind from its recipe; to resume is to go on from its checkpoint if there is one."""
    with _enough_memory():
        load_object(LEARNERS[run.recipe.kind].train)(run, device, resume=resume)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Say in words that a recipe wants more memory than there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and "memory" not in told:
            raise
        raise UserError(
            f"the recipe wants more memory than there is ({told}); lower its sizes, such as batch_size, "
            "num_envs, channels or data.size"
        ) from None


def train_folder(recipe: "Recipe", folder: Path, device: "torch.device", *, resume: bool = False) -> "Run":
    """Train a recipe in a folder that no other process writes into meanwhile.

    If the training is to resume, the folder may hold a run of this recipe; it is refused if it holds anything
    else.
    """
    with locked(folder), writing_to(folder):
        run: Run = load_object("usrl.runs.run:create_run")(folder, recipe, resume=resume)
        train_run(run, device, resume=resume)
    return run


def open_run_segmenter(
    run: "Run", device: "torch.device", proposer: "Segmenter | None" = None, starts: int = 1
) -> "Segmenter":
    """Return a trained run as a segmenter that starts from a proposer's masks, ``starts`` times an image."""
    open_segmenter = load_object(LEARNERS[run.recipe.kind].segmenter)
    segmenter: Segmenter = open_segmenter(run, device, proposer=proposer, starts=starts)
    return segmenter


def open_run_interactive(run: "Run", device: "torch.device") -> "Interactive[Any]":
    """Return a trained run as a method that takes corrections.

    Raises:
        UserError: If the run takes no corrections.
    """
    path = LEARNERS[run.recipe.kind].interactive
    if path is None:
        raise UserError(f"{run.path}: a run of kind {run.recipe.kind!r} takes no corrections; name another")
    method: Interactive[Any] = load_object(path)(run, device)
    return method


def load_object(path: Any) -> Any:
    """Return the object of an import path ``module:name``. An object itself is returned unchanged."""
    if not isinstance(path, str):
        return path
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
