"""Training a run, whatever the kind of its recipe."""

from typing import TYPE_CHECKING

from usrl.runs import Run

if TYPE_CHECKING:
    import torch


def train_run(run: Run, device: "torch.device", *, resume: bool = False) -> None:
    """Train the agent, the network or the judge of a run's recipe.

    Each kind is imported when it is trained: a network needs no Stable-Baselines3.

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
