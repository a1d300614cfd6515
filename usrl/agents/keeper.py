"""What happens while an agent learns: evaluation, best weights, checkpoints, log, a progress bar."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn

from usrl.agents.players import PolicyPlayer, evaluate_player
from usrl.agents.recipe import AgentRecipe
from usrl.envs.sb3 import StepInfos
from usrl.envs.task import Task
from usrl.errors import UserError
from usrl.progress import TrainingBar
from usrl.runs.checkpoints import Record


class Keeper:
    """Evaluates, logs and writes checkpoints at a recipe's intervals, at the start and at the end.

    The record must have begun. Enter `bar` as a context around the training, so that an error or an
    interrupt ends it too.
    """

    def __init__(self, record: Record, recipe: AgentRecipe, policy: BasePolicy, val: Task[Any]) -> None:
        self._record, self._recipe, self._policy, self._validation = record, recipe, policy, val
        # Step and seconds of the last row of the log. A checkpoint between two rows changes neither.
        self._logged = (record.step, record.seconds)
        self._next_evaluation = record.step + (recipe.evaluate_every if record.step else 0)
        self._next_checkpoint = record.step + (recipe.checkpoint_every if record.step else 0)
        self.bar = TrainingBar(record.name, "steps", recipe.total_steps, record.step, ("steps", 1))

    def show(self, step: int) -> None:
        """Move the progress bar."""
        self.bar.show(step)

    def visit(self, step: int, more: Callable[[], dict[str, float]] = dict) -> dict[str, float]:
        """Do what is due after some environment steps; return the figures of an evaluation, or nothing.

        ``more`` returns further figures to log. It is called only if an evaluation is due.
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
        found = evaluate_player(self._validation, PolicyPlayer(self._policy, self._validation))
        figures = {f"val_{name}": value for name, value in found.items()} | more()
        figures["val_score"] = found[self._recipe.select_by]
        step, seconds = self._record.step, self._record.seconds
        done, spent = step - self._logged[0], seconds - self._logged[1]
        self._logged = (step, seconds)
        if done:
            figures["steps_per_second"] = done / max(spent, 1e-9)
        self._record.log(figures)
        self.bar.evaluated(figures["val_score"], self._record.best)
        return figures


def diverged(step: int) -> UserError:
    """Return the error of a training whose weights or actions are no longer finite."""
    return UserError(f"training diverged before step {step}; choose a smaller learning_rate")


class TrainingCallback(BaseCallback):
    """Lets a keeper do what is due between rollouts, and writes TensorBoard scalars."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._keeper = keeper
        self._episodes: list[tuple[Mapping[str, Tensor], Tensor | None]] = []

    def _on_rollout_start(self) -> None:
        self._visit()

    def _on_step(self) -> bool:
        self._gather(self.locals.get("infos", ()))  # ARS has none
        self._keeper.show(self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        self._visit()

    def _gather(self, infos: Sequence[dict[str, Any]]) -> None:
        """Keep the figures of the episodes that ended, on their device until they are logged."""
        if isinstance(infos, StepInfos):
            if infos.step.figures:
                ended = infos.step.ended  # a mask of all rows, if only the device knows which
                self._episodes.append((infos.step.figures, ended if isinstance(ended, Tensor) else None))
            return
        for info in infos:
            if "terminal_observation" in info:
                figures = {name: torch.tensor([v]) for name, v in info.items() if isinstance(v, float)}
                self._episodes.append((figures, None))

    def _visit(self) -> None:
        figures = self._keeper.visit(self.num_timesteps, self._take_episodes)
        for name, value in figures.items():
            self.logger.record(f"usrl/{name}", value)
        if figures:
            self.logger.dump(self.num_timesteps)

    def _take_episodes(self) -> dict[str, float]:
        """Return the mean figures of the episodes that ended since the last evaluation."""
        episodes, self._episodes = self._episodes, []
        means = {}
        for name in episodes[0][0] if episodes else ():
            values = torch.cat([own[name] if ended is None else own[name][ended] for own, ended in episodes])
            if len(values):
                means[f"train_{name}"] = float(values.mean())
        return means


class ValueWarmup(BaseCallback):
    """Lets only the value function learn for a number of environment steps, then all of the policy.

    An untrained value function gives wrong advantages, which would spoil a policy that has been trained
    elsewhere. Features that actor and critic share do not change during that time.
    """

    def __init__(self, policy: BasePolicy, steps: int) -> None:
        super().__init__()
        if not isinstance(policy, ActorCriticPolicy):
            raise UserError(
                f"value_warmup_steps: {type(policy).__name__} has no value function of its own; leave it out"
            )
        self._steps = steps
        self._frozen = actor_parameters(policy)

    def _on_rollout_start(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(self.num_timesteps >= self._steps)

    def _on_step(self) -> bool:
        return True


def actor_parameters(policy: ActorCriticPolicy) -> list[nn.Parameter]:
    """Return all parameters that the actions depend on."""
    critic = [policy.value_net, getattr(policy.mlp_extractor, "value_net", nn.Identity())]
    if not policy.share_features_extractor:
        critic.append(policy.vf_features_extractor)
    apart = {id(parameter) for module in critic for parameter in module.parameters()}
    return [parameter for parameter in policy.parameters() if id(parameter) not in apart]
