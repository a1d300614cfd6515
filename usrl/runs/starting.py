"""Starts a training from the weights of another run, such as one with simulated images."""

from torch import nn

from usrl.agents.recipe import AgentRecipe
from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.leaks import check_source, keep_source
from usrl.runs.run import Run, open_run
from usrl.runs.tensors import load_weights


def load_start(run: Run, recipe: AgentRecipe | NetworkRecipe, model: nn.Module) -> None:
    """Load the weights of the run that a recipe's ``init_from`` names into the recipe's model.

    A run that has seen labels hidden from this one is refused (`usrl.runs.leaks.check_source`). What it has
    seen is kept in this run.
    """
    source = open_start(recipe, model)
    check_source("init_from", source, run)
    keep_source(source, run)


def open_start(recipe: AgentRecipe | NetworkRecipe, model: nn.Module) -> Run:
    """Load the weights of the run that a recipe's ``init_from`` names into a model, and return the run.

    Its kind, its model and its way of showing boxes must be those of the recipe.
    """
    wanted = (
        "policy, policy_kwargs and env" if isinstance(recipe, AgentRecipe) else "network, channels and prompt"
    )
    try:
        source = open_run(str(recipe.init_from))
    except UserError as error:
        raise UserError(f"init_from: {error}") from None
    try:
        before = source.recipe_as(type(recipe))
        prompts = getattr(before, "prompt", None), getattr(recipe, "prompt", None)  # of networks
        if prompts[0] != prompts[1]:  # though the shapes of the weights may be the same
            raise UserError(f"{source.path} has prompt {prompts[0]!r}, this recipe {prompts[1]!r}")
        load_weights(source.weights_path, model)
    except UserError as error:
        raise UserError(f"init_from: {error}; both recipes want the same {wanted}") from None
    return source
