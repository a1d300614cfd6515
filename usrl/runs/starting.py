"""Starting a training from the weights of another run: of fewer labels, of simulated images, or a clone."""

from torch import nn

from usrl.agents.recipe import AgentRecipe
from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.leaks import check_source, keep_source
from usrl.runs.run import Run, open_run
from usrl.runs.tensors import load_weights


def load_start(run: Run, recipe: AgentRecipe | NetworkRecipe, model: nn.Module) -> None:
    """Load the weights of the run that a recipe's ``init_from`` names into the model built from the recipe.

    That run may have learned from other images, such as simulated ones, but not from labels of the same
    data set that this run must not see (`usrl.runs.leaks.check_source`). What it has seen is kept in the run.

    Raises:
        UserError: As `open_start`, or if the run has learned from labels that it must not.
    """
    source = open_start(recipe, model)
    check_source("init_from", source, run)
    keep_source(source, run)


def open_start(recipe: AgentRecipe | NetworkRecipe, model: nn.Module) -> Run:
    """Load the weights of the run that a recipe's ``init_from`` names into a model, and return the run.

    Raises:
        UserError: If there is no such run of an agent or of a network, as the recipe is, its weights are
            those of another model, or it was shown boxes in another way.
    """
    wanted = "policy and env" if isinstance(recipe, AgentRecipe) else "network, channels and prompt"
    try:
        source = open_run(str(recipe.init_from))
    except UserError as error:
        raise UserError(f"init_from: {error}") from None
    try:
        before = source.recipe_as(type(recipe))
        if isinstance(before, NetworkRecipe) and isinstance(recipe, NetworkRecipe):
            _check_prompts(before, recipe, source)
        load_weights(source.weights_path, model)
    except UserError as error:
        raise UserError(f"init_from: {error}; both recipes want the same {wanted}") from None
    return source


def _check_prompts(before: NetworkRecipe, recipe: NetworkRecipe, source: Run) -> None:
    """Refuse weights that learned from what this network will not see: their shapes may be the same."""
    if before.prompt != recipe.prompt:
        raise UserError(f"{source.path} has prompt {before.prompt!r}, this recipe {recipe.prompt!r}")
