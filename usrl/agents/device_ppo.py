"""Stable-Baselines3's PPO with rollouts and updates that stay on the device."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

from usrl.agents.tensor_rollout import Minibatch, TensorRollout, Transitions
from usrl.compute.devices import has_bfloat16
from usrl.compute.recording import Recorded
from usrl.envs.batch import send
from usrl.envs.sb3 import StepInfos, TaskVecEnv, TensorStep
from usrl.envs.task import tensors_of
from usrl.errors import UserError

_LOGGED = ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "approx_kl", "loss")


class DevicePPO(PPO):
    """PPO that neither copies to NumPy nor waits for the device in a step or a minibatch.

    Hyperparameters, defaults, losses and checkpoints are those of SB3's PPO, from which it differs so:
    the environment must be a `TaskVecEnv`; the values that follow on the ends of episodes are computed in
    one batch; minibatches are drawn by torch's generator; and the features extractors may compute in
    bfloat16, while weights, heads, distributions and losses stay in float32. ``target_kl``, where it is
    set, has the host read one number in each minibatch. On a GPU policy and loss are replayed as CUDA graphs
    (`usrl.compute.recording`).

    Args:
        arguments: Those of PPO.
        autocast: Whether rollouts and updates run the features extractors in bfloat16; where the device
            has instructions for it if None.
        hyperparameters: Those of PPO. A ``rollout_buffer_class`` must derive from `TensorRollout`.

    Raises:
        UserError: If the rollout buffer is of another kind; in `learn`, if the environment is, or if the
            policy diverges.
    """

    rollout_buffer: TensorRollout  # type: ignore[assignment]

    def __init__(self, *arguments: Any, autocast: bool | None = None, **hyperparameters: Any) -> None:
        self.autocast = autocast
        self._is_computing_fast = False
        super().__init__(*arguments, **hyperparameters)

    def _setup_model(self) -> None:
        self.rollout_buffer_class = self.rollout_buffer_class or TensorRollout  # type: ignore[assignment]
        if not issubclass(self.rollout_buffer_class, TensorRollout):  # type: ignore[arg-type]
            raise UserError(
                f"rollout_buffer_class must derive from TensorRollout, got {self.rollout_buffer_class}; "
                "leave it out"
            )
        super()._setup_model()
        if has_bfloat16(self.device) if self.autocast is None else self.autocast:
            for extractor in {self.policy.pi_features_extractor, self.policy.vf_features_extractor}:
                extractor.forward = self._in_bfloat16(extractor.forward)
        space = self.action_space
        if isinstance(space, spaces.Box):
            self._bounds = [torch.from_numpy(bound).to(self.device) for bound in (space.low, space.high)]
        # Noise that depends on the state is drawn into new tensors, which a graph would not read.
        self._act = self._draw if self.use_sde else Recorded(self._draw)
        self._value = Recorded(self._expect)
        self._recorded_for: Any = None

    def _in_bfloat16(self, extract: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return an extractor's function in bfloat16 for training; elsewhere it is what it was."""

        def extract_fast(observations: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_computing_fast):
                return extract(observations).float()

        return extract_fast

    @contextmanager
    def _fast(self) -> Iterator[None]:
        """Extract features fast, and leave distributions unchecked: a check would wait for the device."""
        before = Distribution._validate_args
        self._is_computing_fast = True
        Distribution.set_default_validate_args(False)
        try:
            yield
        finally:
            self._is_computing_fast = False
            Distribution.set_default_validate_args(before)

    def collect_rollouts(  # type: ignore[override]
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: TensorRollout, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer; return whether the callbacks want to go on. See SB3's method."""
        if not isinstance(env, TaskVecEnv):
            raise UserError(f"ppo-device needs a TaskVecEnv as it is, got {type(env).__name__}; use ppo")
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()
        obs = torch.as_tensor(self._last_obs, device=self.device)
        for n_steps in range(n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            actions, values, log_probs = self._act(obs)
            step = env.step_tensors(self._bounded(actions))
            self.num_timesteps += env.num_envs
            # SB3's callbacks look into the local variables, under these names.
            rewards, new_obs, infos = step.rewards, step.observations.to(self.device), StepInfos(step)
            dones = np.isin(np.arange(env.num_envs), step.ended)
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            total = self._with_what_follows(step)
            starts: NDArray[np.bool_] = self._last_episode_starts  # type: ignore[assignment]
            rollout_buffer.add(Transitions(obs, actions, values.flatten(), log_probs, total), starts)
            obs = self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones
        rollout_buffer.finish(self._value(obs)[0], dones)
        _check_rollout(rollout_buffer)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _draw(self, observations: Tensor) -> Sequence[Tensor]:
        """Return actions (B, ...), values (B, 1) and logarithms of the actions' probabilities (B,)."""
        with torch.no_grad(), self._fast():
            drawn: Sequence[Tensor] = self.policy(observations)
            return drawn

    def _expect(self, observations: Tensor) -> Sequence[Tensor]:
        """Return only the values, (B,)."""
        with torch.no_grad(), self._fast():
            return [self.policy.predict_values(observations).flatten()]

    def _bounded(self, actions: Tensor) -> Tensor:
        """Return the actions that the environment is to play, (B, ...)."""
        if not isinstance(self.action_space, spaces.Box):
            return actions
        low, high = self._bounds
        if self.policy.squash_output:
            return low + 0.5 * (actions + 1) * (high - low)
        # A policy that has diverged is reported after the rollout; until then tasks get finite actions.
        return actions.nan_to_num().clamp(low, high)

    def _with_what_follows(self, step: TensorStep) -> Tensor:
        """Return the rewards, (B,), with the value of what the step limit cut off."""
        rewards = step.rewards.to(self.device)
        if not len(step.ended):
            return rewards
        # Of a part of the environments there are too many sizes to keep a graph of each.
        value = self._value if len(step.ended) == len(rewards) else self._expect
        values = value(step.last_observations.to(self.device))[0]
        rows = send(torch.from_numpy(step.ended), self.device)
        return rewards.index_add(0, rows, values, alpha=self.gamma)

    def train(self) -> None:
        """Update the policy from the rollout; see SB3's method."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        parameters = {name: each for name, each in self.policy.named_parameters() if each.requires_grad}
        # What the loss depends on besides tensors: where a callback changes it, older records are void.
        depends_on = list(parameters), self.ent_coef, self.vf_coef, self.normalize_advantage
        if self._recorded_for != depends_on:
            self._recorded_for, self._gradients = depends_on, Recorded(self._differentiate)
        ranges = [torch.tensor(clip, dtype=torch.float64) for clip in self._clip_ranges() if clip is not None]
        clip_ranges = [send(clip, self.device) for clip in ranges]
        figures: list[Tensor] = []
        for _ in range(self.n_epochs):
            epoch_began, is_too_far = len(figures), False
            for batch in self.rollout_buffer.minibatches(self.batch_size):
                found, *gradients = self._gradients(*tensors_of(batch), *clip_ranges)
                figures.append(found.clone())
                is_too_far = self.target_kl is not None and float(found[4]) > 1.5 * self.target_kl
                if is_too_far:
                    break
                self.policy.optimizer.zero_grad()
                for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                    parameter.grad = gradient
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
            self._n_updates += 1
            if is_too_far:
                break
        self._log_update(torch.stack(figures).cpu().numpy(), epoch_began)

    def _differentiate(self, *tensors: Tensor) -> Sequence[Tensor | None]:
        """Return what `_LOGGED` names, and the gradients of the parameters in training.

        Args:
            tensors: The fields of a `Minibatch`, the clip range and, where there is one, that of the values.
        """
        batch, clip_ranges = Minibatch(*tensors[:6]), tensors[6:]
        with self._fast():
            loss, figures = self._loss(batch, *clip_ranges)
        trained = [each for each in self.policy.parameters() if each.requires_grad]
        return [figures, *torch.autograd.grad(loss, trained, allow_unused=True)]

    def _loss(self, batch: Minibatch, clip: Tensor, clip_vf: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss of a minibatch, and what `_LOGGED` names."""
        values, log_prob, entropy = self.policy.evaluate_actions(batch.observations, batch.actions)
        values, advantages = values.flatten(), batch.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = log_prob - batch.log_probs
        ratio = log_ratio.exp()
        policy_loss = -torch.minimum(advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)).mean()
        if clip_vf is not None:
            values = batch.values + (values - batch.values).clamp(-clip_vf, clip_vf)
        value_loss = F.mse_loss(batch.returns, values)
        # Without a closed form the entropy is estimated from the actions.
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        with torch.no_grad():
            clipped = ((ratio - 1).abs() > clip).float().mean()
            kl = (ratio - 1 - log_ratio).mean()
            return loss, torch.stack([policy_loss, value_loss, entropy_loss, clipped, kl, loss])

    def _clip_ranges(self) -> tuple[float, float | None]:
        left = self._current_progress_remaining
        clip_range_vf = None if self.clip_range_vf is None else self.clip_range_vf(left)  # type: ignore[operator]
        return self.clip_range(left), clip_range_vf  # type: ignore[operator]

    def _excluded_save_params(self) -> list[str]:
        """Leave out of a saved model what `_setup_model` makes."""
        return [*super()._excluded_save_params(), "_act", "_value", "_gradients", "_bounds", "_recorded_for"]

    def _log_update(self, figures: NDArray[np.float32], last_epoch: int) -> None:
        """Record what SB3's PPO records, from the figures (minibatches, 6) of an update."""
        for name, mean in zip(_LOGGED[:4], figures[:, :4].mean(axis=0), strict=True):
            self.logger.record(f"train/{name}", float(mean))
        self.logger.record("train/approx_kl", float(figures[last_epoch:, 4].mean()))
        self.logger.record("train/loss", float(figures[-1, 5]))
        rollout = self.rollout_buffer
        errors, spread = (
            float(x.var(correction=0))
            for x in (rollout.returns - rollout.transitions.values, rollout.returns)
        )
        self.logger.record("train/explained_variance", 1 - errors / spread if spread else float("nan"))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        clip_range, clip_range_vf = self._clip_ranges()
        self.logger.record("train/clip_range", clip_range)
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)


def _signature() -> inspect.Signature:
    """Return PPO's signature with ours, so that recipes are checked against all names."""
    ours = inspect.Parameter("autocast", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=bool | None)
    stock = inspect.signature(PPO)
    return stock.replace(parameters=[*stock.parameters.values(), ours])


DevicePPO.__signature__ = _signature()  # type: ignore[attr-defined]


def _check_rollout(rollout: TensorRollout) -> None:
    """Raise a `UserError` if an action is nan or inf; once per rollout, as it waits for the device."""
    if not bool(torch.isfinite(rollout.transitions.actions).all()):
        raise UserError("the policy has diverged: its actions are nan or inf; lower learning_rate")
