"""What happens beside an agent's learning: evaluation, best weights, checkpoints, log, a progress bar."""

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.policies import BasePolicy

from usrl.agents.rollout import evaluate_policy
from usrl.checkpoints import Record
from usrl.envs.task import Task
from usrl.errors import UserError
from usrl.progress import TrainingBar
from usrl.recipes import AgentRecipe


class Keeper:
    """Evaluates, logs and writes checkpoints at a recipe's intervals, at the start and at the end.

    Args:
        record: What the training writes; begun.
        recipe: How often, and for how long.
        policy: In training.
        validation: Task over the validation bank.

    Attributes:
        bar: To enter as a context around the training, so that an error or an interrupt ends it too.
    """

    def __init__(
        self, record: Record, recipe: AgentRecipe, policy: BasePolicy, validation: Task[Any]
    ) -> None:
        self._record, self._recipe, self._policy, self._validation = record, recipe, policy, validation
        # Step and seconds of the last row of the log: a checkpoint between two rows moves neither.
        self._logged = (record.step, record.seconds)
        self._next_evaluation = record.step + (recipe.evaluate_every if record.step else 0)
        self._next_checkpoint = record.step + (recipe.checkpoint_every if record.step else 0)
        self.bar = TrainingBar(record.name, "steps", recipe.total_steps, record.step, ("steps", 1))

    def show(self, step: int) -> None:
        """Move the progress bar."""
        self.bar.show(step)

    def visit(self, step: int, more: Callable[[], dict[str, float]] = dict) -> dict[str, float]:
        """Do what is due.

        Args:
            step: Environment steps so far.
            more: Returns further figures to log; called only where an evaluation is due.

        Returns:
            The figures of the evaluation; empty where none was due.
        """
        self.show(step)
        self._record.step = step
        figures, is_last = {}, step >= self._recipe.total_steps
        if step >= self._next_evaluation or is_last:
            self._next_evaluation = step + self._recipe.evaluate_every
            figures = self._evaluate(more)
        if step >= self._next_checkpoint or is_last:
            self._next_checkpoint = step + self._recipe.checkpoint_every
            self._record.checkpoint()
        return figures

    def _evaluate(self, more: Callable[[], dict[str, float]]) -> dict[str, float]:
        if not all(torch.isfinite(parameter).all() for parameter in self._policy.parameters()):
            raise diverged(self._record.step)
        found = evaluate_policy(self._validation, self._policy)
        figures = {f"val_{name}": value for name, value in found.items()} | more()
        step, seconds = self._record.step, self._record.seconds
        done, spent = step - self._logged[0], seconds - self._logged[1]
        self._logged = (step, seconds)
        if done:
            figures["steps_per_second"] = done / max(spent, 1e-9)
        self._record.log(figures)
        self.bar.evaluated(figures["val_dice"], self._record.best)
        return figures


def diverged(step: int) -> UserError:
    """Return the error of a training whose weights have left all bounds."""
    return UserError(f"training diverged before step {step}; choose a smaller learning_rate")
