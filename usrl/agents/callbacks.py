"""A `Keeper` as a callback of Stable-Baselines3, with the figures of training episodes."""

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from usrl.agents.keeper import Keeper
from usrl.agents.vec_env import EPISODE_FIGURES, StepInfos
from usrl.envs.batch import to_numpy


class TrainingCallback(BaseCallback):
    """Lets a keeper do what is due between rollouts, and writes TensorBoard scalars.

    Args:
        keeper: Of the training.
    """

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._keeper = keeper
        self._episodes: dict[str, list[Tensor]] = {name: [] for name in EPISODE_FIGURES}

    def _on_rollout_start(self) -> None:
        self._visit()

    def _on_step(self) -> bool:
        self._gather(self.locals["infos"])
        self._keeper.show(self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        self._visit()

    def _gather(self, infos: Sequence[dict[str, Any]]) -> None:
        """Keep the figures of the episodes that ended; those on a device stay there until they are logged."""
        if isinstance(infos, StepInfos):
            for name, figures in self._episodes.items():
                figures.append(infos.step.figures[name])
            return
        ended = [info for info in infos if "terminal_observation" in info]
        for name, figures in self._episodes.items():
            figures.append(torch.tensor([info[name] for info in ended]))

    def _visit(self) -> None:
        figures = self._keeper.visit(self.num_timesteps, self._take_episodes)
        for name, value in figures.items():
            self.logger.record(f"usrl/{name}", value)
        if figures:
            self.logger.dump(self.num_timesteps)

    def _take_episodes(self) -> dict[str, float]:
        """Return the figures of the episodes that ended since the last evaluation; none if none did."""
        initial, final = (
            to_numpy(torch.cat(self._episodes[name] or [torch.zeros(0)])) for name in EPISODE_FIGURES
        )
        self._episodes = {name: [] for name in EPISODE_FIGURES}
        if not len(final):
            return {}
        figures = {"train_initial_dice": float(initial.mean()), "train_dice": float(final.mean())}
        return figures | {"train_worsened": float((final < initial).mean())}
