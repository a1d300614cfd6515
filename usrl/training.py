"""Checking a recipe and training its run, whatever its kind.

Each kind is imported when it is asked for: a network needs no Stable-Baselines3.
"""

import warnings
from typing import TYPE_CHECKING

from usrl.data.catalogue import require_dataset
from usrl.recipes import Recipe
from usrl.runs import Run

if TYPE_CHECKING:
    import torch


def check_recipe(recipe: Recipe) -> "torch.nn.Module":
    """Find what is wrong with a recipe before its images are read and the folder of its run is made.

    The data set is looked for, the model built, and what it starts from opened. Which images that had
    learned from is checked in the training, which knows the split.

    Args:
        recipe: Of any kind.

    Returns:
        The untrained model.

    Raises:
        UserError: If the recipe, or something that it names, is unusable.
    """
    require_dataset(recipe.data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training gives the same
        return _build_untrained(recipe)


def _build_untrained(recipe: Recipe) -> "torch.nn.Module":
    if recipe.kind == "network":
        from usrl.baselines.training import build_untrained_network

        return build_untrained_network(recipe)
    if recipe.kind == "judge":
        from usrl.judging.training import build_untrained_judge

        return build_untrained_judge(recipe)
    from usrl.agents.training import build_untrained

    return build_untrained(recipe)


def train_run(run: Run, device: "torch.device", *, resume: bool = False) -> None:
    """Train the agent, the network or the judge of a run's recipe.

    Args:
        run: A run of any recipe.
        device: Where to train.
        resume: Go on from the run's checkpoint where there is one.

    Raises:
        UserError: If the recipe, its data set or the checkpoint is unusable, or training diverges.
    """
    if run.recipe.kind == "network":
        from usrl.baselines.training import train_network

        train_network(run, device, resume=resume)
    elif run.recipe.kind == "judge":
        from usrl.judging.training import train_judge

        train_judge(run, device, resume=resume)
    else:
        from usrl.agents.training import train_agent

        train_agent(run, device, resume=resume)
