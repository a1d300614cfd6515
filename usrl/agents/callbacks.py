"""What happens beside learning: evaluation, best weights, checkpoints, scalars, a progress bar."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

import torch
from rich import progress as rich_progress
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from usrl.agents.rollout import evaluate_policy
from usrl.agents.vec_env import EPISODE_FIGURES, StepInfos
from usrl.envs.batch import to_numpy
from usrl.envs.task import Task
from usrl.recipes import AgentRecipe
from usrl.runs import Run
from usrl.tensors import optimizer_tensors, save_tensors, unique_state


@dataclass
class Progress:
    """How far a training has come; a checkpoint holds it.

    Attributes:
        step: Environment steps.
        seconds: Wall time.
        best: Best mean validation Dice so far.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -1.0


class TrainingCallback(BaseCallback):
    """Evaluates, keeps the best weights, writes checkpoints and logs, between rollouts.

    Args:
        run: Folder to write.
        recipe: How often.
        validation: Task over the validation bank.
        progress: Where the training begins.

    Attributes:
        bar: To enter as a context around the training, so that an error or an interrupt ends it too.
    """

    def __init__(self, run: Run, recipe: AgentRecipe, validation: Task[Any], progress: Progress) -> None:
        super().__init__()
        self._run, self._recipe, self._validation, self._progress = run, recipe, validation, progress
        self._began = time.monotonic() - progress.seconds
        # Step and seconds of the last row of the log: a checkpoint between two rows moves neither.
        self._logged = (progress.step, progress.seconds)
        self._next_evaluation = self._next_checkpoint = progress.step
        if progress.step:
            self._next_evaluation += recipe.evaluate_every
            self._next_checkpoint += recipe.checkpoint_every
        self._episodes: dict[str, list[Tensor]] = {name: [] for name in EPISODE_FIGURES}
        self.bar = training_bar()
        self._bar_task = self.bar.add_task("training", total=recipe.total_steps, score="")

    def _on_rollout_start(self) -> None:
        self._progress.step = self.num_timesteps
        if self.num_timesteps >= self._next_evaluation:
            self._next_evaluation = self.num_timesteps + self._recipe.evaluate_every
            self._evaluate()
        if self.num_timesteps >= self._next_checkpoint:
            self._next_checkpoint = self.num_timesteps + self._recipe.checkpoint_every
            self._checkpoint()

    def _on_step(self) -> bool:
        self._gather(self.locals["infos"])
        self.bar.update(self._bar_task, completed=self.num_timesteps)
        return True

    def _gather(self, infos: Sequence[dict[str, Any]]) -> None:
        """Keep the figures of the episodes that ended; those on a device stay there until they are logged."""
        if isinstance(infos, StepInfos):
            for name, figures in self._episodes.items():
                figures.append(infos.step.figures[name])
            return
        ended = [info for info in infos if "terminal_observation" in info]
        for name, figures in self._episodes.items():
            figures.append(torch.tensor([info[name] for info in ended]))

    def _on_training_end(self) -> None:
        self._progress.step = self.num_timesteps
        self._evaluate()
        self._checkpoint()

    def _evaluate(self) -> None:
        figures = {f"val_{k}": v for k, v in evaluate_policy(self._validation, self.model.policy).items()}
        initial, final = (
            to_numpy(torch.cat(self._episodes[name] or [torch.zeros(0)])) for name in EPISODE_FIGURES
        )
        if len(final):
            figures |= {"train_initial_dice": float(initial.mean()), "train_dice": float(final.mean())}
            figures["train_worsened"] = float((final < initial).mean())
            self._episodes = {name: [] for name in EPISODE_FIGURES}
        if figures["val_dice"] > self._progress.best:
            self._progress.best = figures["val_dice"]
            save_tensors(self._run.weights_path, unique_state(self.model.policy))
        self._log(figures)

    def _log(self, figures: dict[str, float]) -> None:
        seconds = time.monotonic() - self._began
        done, spent = self.num_timesteps - self._logged[0], seconds - self._logged[1]
        self._logged = (self.num_timesteps, seconds)
        self._progress.seconds = seconds
        if done:
            figures["steps_per_second"] = done / max(spent, 1e-9)
        for name, value in figures.items():
            self.logger.record(f"usrl/{name}", value)
        self.logger.dump(self.num_timesteps)
        self._run.append_log({"step": self.num_timesteps, "seconds": round(seconds, 1)} | figures)
        self.bar.update(self._bar_task, score=f"val Dice {self._progress.best:.3f}")

    def _checkpoint(self) -> None:
        self._progress.seconds = time.monotonic() - self._began
        save_tensors(self._run.checkpoint_path, _training_tensors(self.model), asdict(self._progress))


def _training_tensors(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """Return every tensor that a resumed training needs; see `usrl.agents.training`."""
    tensors = {"rng": torch.get_rng_state()}
    for name in model._get_torch_save_params()[0]:
        part = attrgetter(name)(model)
        found = unique_state(part) if isinstance(part, torch.nn.Module) else optimizer_tensors(part)
        tensors |= {f"{name}/{key}": value for key, value in found.items()}
    return tensors


def training_bar() -> rich_progress.Progress:
    """Return a progress bar of steps with the best validation Dice; tasks set the field ``score``."""
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.completed}/{task.total} steps"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[score]}"),
        console=Console(stderr=True),
    )
