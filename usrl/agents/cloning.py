"""Cloning the teacher: a policy learns by regression what the teacher of a task would do."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn import functional as F

from usrl.agents.recipe import check_ranges
from usrl.compute.trees import map_tree
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError, suggest

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "huber": F.huber_loss, "l1": F.l1_loss}
"""Losses between the policy's mean and the teacher's action."""
MIXTURES = ("episode", "step")
"""What the teacher and the policy take turns by."""


class Cloning(OnPolicyAlgorithm):
    """Behaviour cloning and DAgger as an algorithm of Stable-Baselines3.

    Rollouts are those of PPO, but the buffer holds the teacher's action of every state, and the policy's mean
    is fitted to it. Of discrete actions, the likelihood is raised. In a share of the episodes or steps,
    ``teacher_share``, the teacher acts; in the others the policy acts with its exploration noise. A share of
    1 is behaviour cloning on the teacher's states. A share that falls (``lin_1``) or is 0 is DAgger, which
    learns on the states that the policy itself reaches. Unlike DAgger as published, old rollouts are not
    kept: new ones cost less than the memory of profiles.

    The critic learns the discounted return of whoever acts, so that PPO can start from the weights. The
    standard deviation of the policy is not trained: set ``log_std_init`` in ``policy_kwargs``.

    Args:
        policy: An actor-critic policy.
        env: A `TaskVecEnv` whose task has a teacher.
        learning_rate: Step size of the optimizer, or its schedule by remaining progress.
        n_steps: Steps of each environment between two updates.
        batch_size: States of a gradient step.
        n_epochs: Number of times that an update sees each state.
        teacher_share: Probability that an episode, or a step, is the teacher's, or its schedule.
        mixed_by: ``episode``: who acts is drawn as an episode begins; ``step``: anew at each step. By steps,
            a policy that has learned little does not drift for a whole episode to states that it never
            needs, which matters where the teacher's episodes are much shorter.
        loss: One of `LOSSES`, for continuous actions; discrete ones are learned by cross-entropy.
        huber_delta: Distance at which Huber's loss turns from square to linear, in units of an action.
        gamma: Discount of the critic's return.
        gae_lambda: 1 fits the critic to whole returns, smaller values to shorter ones.
        vf_coef: Weight of the critic's loss; 0 leaves the critic untrained.
        max_grad_norm: Longest gradient.
        policy_kwargs: Arguments of the policy.
        seed: Seed.
        device: Where the policy computes.

    Raises:
        UserError: If the policy has no actor and critic, the environment has no teacher, the loss is unknown
            or a number is out of its range.

    Source:
        Ross, Gordon, Bagnell (2011), A reduction of imitation learning and structured prediction to no-regret
        online learning, AISTATS.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = PPO.policy_aliases

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int = 10,
        batch_size: int = 128,
        n_epochs: int = 1,
        teacher_share: float | Schedule = 1.0,
        mixed_by: str = "episode",
        loss: str = "huber",
        huber_delta: float = 0.5,
        gamma: float = 0.9,
        gae_lambda: float = 1.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 1.0,
        policy_kwargs: dict[str, Any] | None = None,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,  # SB3's `load` sets up by itself
    ) -> None:
        if loss not in LOSSES:
            raise UserError(f"hyperparameters: loss: unknown name {loss!r}; {suggest(loss, LOSSES)}")
        numbers = {"n_steps": n_steps, "batch_size": batch_size, "n_epochs": n_epochs, "gamma": gamma}
        numbers |= {"gae_lambda": gae_lambda, "vf_coef": vf_coef, "max_grad_norm": max_grad_norm}
        check_ranges(numbers | {"huber_delta": huber_delta})
        self.batch_size, self.n_epochs = batch_size, n_epochs
        if mixed_by not in MIXTURES:
            told = suggest(mixed_by, MIXTURES)
            raise UserError(f"hyperparameters: mixed_by: unknown value {mixed_by!r}; {told}")
        self.teacher_share, self.mixed_by = _share_schedule(teacher_share), mixed_by
        self._distance = partial(LOSSES[loss], **({"delta": huber_delta} if loss == "huber" else {}))
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=0.0,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            policy_kwargs=policy_kwargs,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        super()._setup_model()
        if not isinstance(self.policy, ActorCriticPolicy):
            raise UserError(
                f"bc needs an actor-critic policy, got {type(self.policy).__name__}; choose another policy"
            )
        self._is_taught: NDArray[np.bool_] = np.zeros(self.n_envs, np.bool_)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with states that teacher and policy reach, each with the teacher's action."""
        if not isinstance(env, TaskVecEnv):
            raise UserError(
                f"bc learns from the teacher of a task, got a {type(env).__name__}; give a TaskVecEnv"
            )
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            observations: Any = self._last_obs
            starts: Any = self._last_episode_starts
            taught = env.oracle_actions()
            with torch.no_grad():
                actions, values, log_probs = self.policy(obs_as_tensor(observations, self.device))
            is_taught = self._draw_taught(starts).reshape(-1, *(1,) * (taught.ndim - 1))
            played = np.where(is_taught, taught, actions.cpu().numpy())
            if isinstance(self.action_space, spaces.Box):
                played = played.clip(-1, 1)
            new_obs, rewards, dones, infos = env.step(played)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            rewards = rewards + self.gamma * self._values_beyond(infos)
            rollout_buffer.add(observations, taught, rewards, starts, values, log_probs)
            self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones
        with torch.no_grad():
            last = self.policy.predict_values(obs_as_tensor(new_obs, self.device))  # type: ignore[arg-type]
        rollout_buffer.compute_returns_and_advantage(last_values=last, dones=dones)
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Fit mean and critic to the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses: list[tuple[float, float]] = []
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                distribution, values = self._act(batch.observations)
                action_loss = self._action_loss(distribution, batch.actions)
                value_loss = F.mse_loss(values.flatten(), batch.returns)
                self.policy.optimizer.zero_grad()
                (action_loss + self.vf_coef * value_loss).backward()
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
                losses.append((float(action_loss.detach()), float(value_loss.detach())))
        for name, value in zip(("action_loss", "value_loss"), np.mean(losses, axis=0), strict=True):
            self.logger.record(f"train/{name}", float(value))
        self.logger.record("train/teacher_share", self._share())

    def _act(self, observations: Tensor) -> tuple[Distribution, Tensor]:
        """Return the policy's distribution and values (B, 1), which share their features if they can.

        Two calls of the policy would compute the features twice.
        """
        policy: ActorCriticPolicy = self.policy
        features = policy.extract_features(observations)
        actor, critic = features if isinstance(features, tuple) else (features, features)
        distribution = policy._get_action_dist_from_latent(policy.mlp_extractor.forward_actor(actor))
        return distribution, policy.value_net(policy.mlp_extractor.forward_critic(critic))

    def _action_loss(self, distribution: Distribution, taught: Tensor) -> Tensor:
        """Return how far a distribution is from the teacher's actions (B, A)."""
        if isinstance(self.action_space, spaces.Box):
            return self._distance(distribution.mode(), taught)
        if isinstance(self.action_space, spaces.Discrete):
            taught = taught.long().flatten()
        return -distribution.log_prob(taught).mean()

    def _share(self) -> float:
        return self.teacher_share(1 - self.num_timesteps / self._total_timesteps)

    def _draw_taught(self, starts: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return in which environments the teacher acts, (B,)."""
        drawn = torch.rand(len(starts)).numpy() < self._share()
        self._is_taught = np.where(starts, drawn, self._is_taught) if self.mixed_by == "episode" else drawn
        return self._is_taught

    def _values_beyond(self, infos: list[dict[str, Any]]) -> NDArray[np.float32]:
        """Return the critic's value after episodes that the step limit cut, zero for others, (B,)."""
        values = np.zeros(len(infos), np.float32)
        rows = [row for row, info in enumerate(infos) if info.get("TimeLimit.truncated")]
        if rows:
            seen = [infos[row]["terminal_observation"] for row in rows]
            last = map_tree(lambda *parts: np.stack(parts), *seen)
            with torch.no_grad():
                beyond = self.policy.predict_values(obs_as_tensor(last, self.device))
            values[rows] = beyond.flatten().cpu().numpy()
        return values


def _share_schedule(share: float | Schedule) -> FloatSchedule:
    """Return a share as a schedule that is in [0, 1] at the start and the end of a training."""
    is_usable = callable(share) or isinstance(share, int | float)
    schedule = FloatSchedule(share) if is_usable else None
    if schedule is None or not all(0 <= schedule(left) <= 1 for left in (1.0, 0.0)):
        raise UserError(
            f"hyperparameters: teacher_share must be from 0 to 1, or lin_X with X from 0 to 1, got {share!r}"
        )
    return schedule
