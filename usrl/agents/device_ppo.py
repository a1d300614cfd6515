"""Stable-Baselines3's PPO with rollouts and updates that stay on the device.

Read from the top: a rollout of tensors, the distributions of a policy, and the algorithm that fills the one
from the other and learns from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal
from torch.nn import functional as F

from usrl.compute.devices import has_bfloat16
from usrl.compute.recording import Recorded
from usrl.compute.trees import Tree, list_leaves, map_tree, replace_leaves
from usrl.envs.batch import Step, send
from usrl.envs.sb3 import StepInfos, TaskVecEnv
from usrl.errors import UserError, suggest

_LOGGED = ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "approx_kl", "loss")

CREDITS = ("shared", "own")
"""What each number of an action learns from: the reward of the step, or its own part of it."""
Ends = NDArray[np.bool_] | Tensor
"""Which episodes end with a step, (B,): on the host where it knows, else on the device."""


@runtime_checkable
class ListsValues(Protocol):
    """A critic's head that knows the value of each number of an action."""

    def list_values(self, features: Tensor) -> Tensor:
        """Return the values of features, (B, A)."""


@dataclass(frozen=True)
class Transitions:
    """One step of B environments, each tensor (B, ...), or a whole rollout, (T, B, ...).

    Attributes:
        observations: What the policy saw; a tree for dictionary observations.
        actions: What it drew, before clipping.
        values: What its critic expected, float32, (B,); of each number of an action, (B, A), with
            ``credit="own"``.
        log_probs: Of the actions, float32, shaped like the values.
        rewards: float32, shaped like the values; where the step limit cut an episode with the discounted
            value of what would have followed.
    """

    observations: Tree
    actions: Tensor
    values: Tensor
    log_probs: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class Minibatch:
    """Rows of a rollout in no order, each tensor (M, ...); see `Transitions`."""

    observations: Tree
    actions: Tensor
    values: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor


class TensorRollout:
    """A rollout of T steps of B environments on one device.

    It takes the place of SB3's `RolloutBuffer`, is made like it and computes the same advantages.

    Args:
        buffer_size: T.
        observation_space: Of one environment; the tensors that are added tell their own shapes.
        action_space: Of one environment; likewise.
        device: Where the tensors are.
        gae_lambda: Weight of longer estimates of an advantage.
        gamma: Discount.
        n_envs: B.

    Attributes:
        transitions: All that was added, (T, B, ...).
        advantages: float32, (T, B) or (T, B, A), shaped like the values.
        returns: What the critic is to expect: advantages plus values.
    """

    transitions: Transitions
    advantages: Tensor
    returns: Tensor

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device,
        gae_lambda: float,
        gamma: float,
        n_envs: int,
    ) -> None:
        self.device, self.gae_lambda, self.gamma = device, gae_lambda, gamma
        self._size, self._is_allocated = buffer_size, False
        self._ends: list[Ends] = []

    def reset(self) -> None:
        """Begin another rollout in the memory of the last."""
        self._ends = []

    def add(self, step: Transitions, ends: Ends) -> None:
        """Copy one step.

        Args:
            step: Its tensors, (B, ...).
            ends: Whether an episode ends with it, bool, (B,).
        """
        if not self._is_allocated:
            self.transitions = map_tree(lambda part: part.new_empty((self._size, *part.shape)), step)
            self._is_allocated = True
        for whole, part in zip(list_leaves(self.transitions), list_leaves(step), strict=True):
            whole[len(self._ends)] = part
        self._ends.append(ends)

    def finish(self, last_values: Tensor) -> None:
        """Compute advantages and returns by generalised advantage estimation.

        Args:
            last_values: What the critic expects of the observations after the last step, (B,) or (B, A).

        Source:
            Schulman et al. (2016), arXiv:1506.02438.
        """
        values, rewards = self.transitions.values, self.transitions.rewards
        goes_on = _spread(1 - self._stack_ends().float(), values)
        following = torch.cat([values[1:], last_values[None]])
        surprise = rewards + self.gamma * following * goes_on - values
        decay = self.gamma * self.gae_lambda * goes_on
        self.advantages = surprise
        for step in range(self._size - 2, -1, -1):
            self.advantages[step] += decay[step] * self.advantages[step + 1]
        self.returns = self.advantages + values

    def minibatches(self, size: int) -> Iterator[Minibatch]:
        """Yield all transitions once, in an order drawn by torch's generator; the last may be smaller."""
        kept = self.transitions
        whole = Minibatch(
            kept.observations, kept.actions, kept.values, kept.log_probs, self.advantages, self.returns
        )
        flat = map_tree(lambda part: part.flatten(0, 1), whole)
        for rows in torch.randperm(len(flat.values), device=self.device).split(size):
            yield map_tree(lambda part, rows=rows: part[rows], flat)

    def _stack_ends(self) -> Tensor:
        """Return which steps end an episode, bool (T, B); what the host knows is sent in one piece."""
        if all(isinstance(ends, Tensor) for ends in self._ends):
            return torch.stack(self._ends)  # type: ignore[arg-type]
        return send(torch.from_numpy(np.stack(self._ends)), self.device)


class ActionDistribution:
    """What a policy draws actions from, as SB3's own distributions do.

    Those check their parameters and actions, for which the host would wait for the device in every step.

    Args:
        policy: Whose action space it is, and whose standard deviation.
        parameters: Means or logits, (B, P).
        each: Whether probabilities and entropies are those of each number of a continuous action, (B, A),
            instead of the whole action's, (B,).
    """

    def __init__(self, policy: ActorCriticPolicy, parameters: Tensor, *, each: bool = False) -> None:
        space, self._is_split = policy.action_space, False
        self._parts: list[Distribution]
        if isinstance(space, spaces.Box):
            std = policy.log_std.exp().expand_as(parameters)
            numbers = Normal(parameters, std, validate_args=False)
            self._parts = [numbers if each else Independent(numbers, 1, validate_args=False)]
        elif isinstance(space, spaces.MultiBinary):
            bits = Bernoulli(logits=parameters, validate_args=False)
            self._parts = [Independent(bits, 1, validate_args=False)]
        else:
            self._is_split = isinstance(space, spaces.MultiDiscrete)
            sizes = space.nvec.tolist() if self._is_split else [space.n]  # type: ignore[attr-defined]
            logits = parameters.split(sizes, dim=1)
            self._parts = [Categorical(logits=part, validate_args=False) for part in logits]

    def sample(self) -> Tensor:
        """Return actions (B, ...)."""
        drawn = [part.rsample() if part.has_rsample else part.sample() for part in self._parts]
        return torch.stack(drawn, dim=1) if self._is_split else drawn[0]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the logarithm of the probability of actions (B, ...), float32 (B,) or (B, A)."""
        parts = actions.unbind(dim=1) if self._is_split else [actions]
        return torch.stack([own.log_prob(part) for own, part in zip(self._parts, parts, strict=True)]).sum(0)

    def entropy(self) -> Tensor:
        """Return the entropy, float32 (B,) or (B, A)."""
        return torch.stack([part.entropy() for part in self._parts]).sum(0)


class DevicePPO(PPO):
    """PPO that neither copies to NumPy nor waits for the device in a step or a minibatch.

    Hyperparameters, defaults, losses and checkpoints are those of SB3's PPO, from which it differs so:
    the environment must be a `TaskVecEnv`; the values that follow on the ends of episodes are computed in
    one batch; minibatches are drawn by torch's generator; and the features extractors may compute in
    bfloat16, while weights, heads, distributions and losses stay in float32. ``target_kl``, where it is
    set, has the host read one number in each minibatch. On a GPU policy and loss are replayed as CUDA graphs
    (`usrl.compute.recording`).

    A policy is used by its parts (features extractor, `mlp_extractor`, `action_net`, `value_net`), as SB3's
    actor-critic policies have them; only with ``use_sde`` by its own functions.

    With ``credit="own"`` each number of an action is its own player: it has a value, an advantage and a ratio
    of probabilities of its own, and learns from the part of the reward that it has earned
    (`usrl.envs.task.Credited`) times the count of numbers. All share the weights. PPO instead credits each
    number with what all have earned together, so that what the others have tried is noise to it.
    ``target_kl`` is then that of a number.

    Args:
        credit: ``"shared"``, as in PPO, or ``"own"``.
        autocast: Whether rollouts and updates run the features extractors in bfloat16; where the device
            has instructions for it if None. The other arguments are those of PPO.

    Raises:
        UserError: If ``credit`` is unknown, or the policy has no value for each number of an action. In
            `learn`, if the environment is of another kind, or the policy diverges.

    Source:
        Schulman et al. (2017), arXiv:1707.06347; de Witt et al. (2020), arXiv:2011.09533, for independent
        players that share their weights.
    """

    rollout_buffer: TensorRollout  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        autocast: bool | None = None,
        credit: str = "shared",
        _init_setup_model: bool = True,
    ) -> None:
        if credit not in CREDITS:
            raise UserError(f"hyperparameters: credit: unknown value {credit!r}; {suggest(credit, CREDITS)}")
        self.autocast, self.credit = autocast, credit
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=TensorRollout,  # type: ignore[arg-type]
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        super()._setup_model()
        self._is_fast = has_bfloat16(self.device) if self.autocast is None else self.autocast
        space = self.action_space
        if self.credit == "own":
            has_values = isinstance(self.policy.value_net, ListsValues) and isinstance(space, spaces.Box)
            if self.use_sde or not has_values:
                raise UserError(
                    "credit: own needs a value of each number of a continuous action, and no use_sde; set "
                    "policy: ContourPolicy and policy_kwargs: {critic: vertex}"
                )
            if isinstance(self.env, TaskVecEnv):
                self.env.check_credit()
        if isinstance(space, spaces.Box):
            self._bounds = [torch.from_numpy(bound).to(self.device) for bound in (space.low, space.high)]
        # Noise that depends on the state is drawn into new tensors, which a graph would not read.
        self._act = self._draw if self.use_sde else Recorded(self._draw)
        self._value = Recorded(self._expect)
        self._recorded_for: Any = None

    # Rollout.

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
        obs = map_tree(lambda part: torch.as_tensor(part, device=self.device), self._last_obs)
        for n_steps in range(n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            self._form = map_tree(lambda _: None, obs)
            actions, values, log_probs = self._act(*list_leaves(obs))
            played = self._bounded(actions)
            own = None if self.credit == "shared" else env.credit(played).to(self.device)
            step = env.step_tensors(played)
            self.num_timesteps += env.num_envs
            # SB3's callbacks look into the local variables, under these names.
            rewards, infos, dones = step.rewards, StepInfos(step), _ends_of(step)
            new_obs = map_tree(lambda part: part.to(self.device), step.observations)
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            earned = step.rewards.to(self.device) if own is None else own * own.shape[1]
            paid = self._with_what_follows(earned, step)
            rollout_buffer.add(Transitions(obs, actions, values, log_probs, paid), dones)
            obs = self._last_obs = new_obs
            self._last_episode_starts = dones  # type: ignore[assignment]
        rollout_buffer.finish(self._value(*list_leaves(obs))[0])
        _check_rollout(rollout_buffer)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _draw(self, *observations: Tensor) -> Sequence[Tensor]:
        """Return actions (B, ...), values and logarithms of the actions' probabilities; see `Transitions`."""
        with torch.no_grad():
            seen = replace_leaves(self._form, observations)
            if self.use_sde:
                actions, values, log_probs = self.policy(seen)
                return actions, values.flatten(), log_probs
            distribution, values = self._judge(seen)
            actions = distribution.sample()
            return actions, values, distribution.log_prob(actions)

    def _expect(self, *observations: Tensor) -> Sequence[Tensor]:
        """Return only the values."""
        with torch.no_grad():
            return [self._appraise(self._extract(replace_leaves(self._form, observations))[1])]

    def _judge(self, seen: Tree) -> tuple[ActionDistribution, Tensor]:
        """Return what the policy draws actions from, and what its critic expects."""
        policy, (for_actor, for_critic) = self.policy, self._extract(seen)
        latent = policy.mlp_extractor.forward_actor(for_actor)
        drawn_from = ActionDistribution(policy, policy.action_net(latent), each=self.credit == "own")
        return drawn_from, self._appraise(for_critic)

    def _appraise(self, features: Tensor) -> Tensor:
        """Return the values of features, (B,), or of each number of an action, (B, A)."""
        latent, head = self.policy.mlp_extractor.forward_critic(features), self.policy.value_net
        if isinstance(head, ListsValues) and self.credit == "own":
            return head.list_values(latent)
        values: Tensor = head(latent)
        return values.flatten()

    def _extract(self, seen: Tree) -> tuple[Tensor, Tensor]:
        """Return the features of actor and critic, float32, computed in bfloat16 where that is fast."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_fast):
            features = self.policy.extract_features(seen)
        if isinstance(features, tuple):
            return features[0].float(), features[1].float()
        shared = features.float()
        return shared, shared

    def _bounded(self, actions: Tensor) -> Tensor:
        """Return the actions that the environment is to play, (B, ...)."""
        if not isinstance(self.action_space, spaces.Box):
            return actions
        low, high = self._bounds
        if self.policy.squash_output:
            return low + 0.5 * (actions + 1) * (high - low)
        # A policy that has diverged is reported after the rollout; until then tasks get finite actions.
        return actions.nan_to_num().clamp(low, high)

    def _with_what_follows(self, rewards: Tensor, step: Step) -> Tensor:
        """Return rewards, (B,) or (B, A), with the value of what the step limit cut off."""
        if step.last_observations is None:
            return rewards
        last = map_tree(lambda part: part.to(self.device), step.last_observations)
        if isinstance(step.ended, Tensor):
            cut = step.ended & ~torch.as_tensor(step.terminated)
            return rewards + self.gamma * self._value(*list_leaves(last))[0] * _spread(cut, rewards)
        # Of a part of the environments there are too many sizes to keep a graph of each.
        value = self._value if len(step.ended) == len(rewards) else self._expect
        cut = send(torch.from_numpy(~step.terminated), self.device)
        rows = send(torch.from_numpy(step.ended), self.device)
        followed = value(*list_leaves(last))[0] * _spread(cut, rewards)
        return rewards.index_add(0, rows, followed, alpha=self.gamma)

    # Update.

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
                found, *gradients = self._gradients(*list_leaves(batch), *clip_ranges)
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
            tensors: The leaves of a `Minibatch`, the clip range and, where there is one, that of the values.
        """
        form = Minibatch(self._form, *[None] * 5)  # type: ignore[arg-type]
        count = len(list_leaves(form))
        batch, clip_ranges = replace_leaves(form, tensors[:count]), tensors[count:]
        loss, figures = self._loss(batch, *clip_ranges)
        trained = [each for each in self.policy.parameters() if each.requires_grad]
        return [figures, *torch.autograd.grad(loss, trained, allow_unused=True)]

    def _loss(self, batch: Minibatch, clip: Tensor, clip_vf: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss of a minibatch, and what `_LOGGED` names."""
        values, log_prob, entropy = self._evaluate(batch)
        advantages = batch.advantages
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

    def _evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, log-probabilities of the actions and entropies, all of one shape."""
        if self.use_sde:
            values, log_prob, entropy = self.policy.evaluate_actions(batch.observations, batch.actions)
            return values.flatten(), log_prob, entropy
        distribution, values = self._judge(batch.observations)
        return values, distribution.log_prob(batch.actions), distribution.entropy()

    def _clip_ranges(self) -> tuple[float, float | None]:
        left = self._current_progress_remaining
        clip_range_vf = None if self.clip_range_vf is None else self.clip_range_vf(left)  # type: ignore[operator]
        return self.clip_range(left), clip_range_vf  # type: ignore[operator]

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

    def _excluded_save_params(self) -> list[str]:
        """Leave out of a saved model what `_setup_model` makes."""
        made = ["_act", "_value", "_gradients", "_bounds", "_recorded_for", "_form"]
        return [*super()._excluded_save_params(), *made]


def _spread(each: Tensor, like: Tensor) -> Tensor:
    """Return a number of each environment, (..., B), for tensors that may have more, (..., B, A)."""
    return each.view(*each.shape, *(1,) * (like.ndim - each.ndim))


def _ends_of(step: Step) -> Ends:
    """Return which episodes ended with a step, (B,)."""
    if isinstance(step.ended, Tensor):
        return step.ended
    ends = np.zeros(len(step.rewards), bool)
    ends[step.ended] = True
    return ends


def _check_rollout(rollout: TensorRollout) -> None:
    """Raise a `UserError` if an action is nan or inf; once per rollout, as it waits for the device."""
    if not bool(torch.isfinite(rollout.transitions.actions).all()):
        raise UserError("the policy has diverged: its actions are nan or inf; lower learning_rate")
