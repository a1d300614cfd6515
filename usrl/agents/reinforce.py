"""REINFORCE for summaries: episodes of one step, each case with a baseline of its own."""

from typing import Any, ClassVar

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn import functional as F

from usrl.agents.clips import ClipPolicy, is_frame
from usrl.agents.recipe import check_ranges
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError


class Reinforce(OnPolicyAlgorithm):
    """REINFORCE with a moving average of each clip's rewards as its baseline.

    For each clip of a batch, ``episodes`` summaries are drawn from the policy's probabilities p_t, frame by
    frame, and rewarded. A gradient step then raises the mean of (R - b) log p over the summaries, where
    log p is the mean log-probability of its decisions over the frames of the clip, and lowers
    length_penalty * (the mean of p_t - length_share)^2. Afterwards the baseline b of each clip moves
    towards the mean of its rewards: b = momentum * b + (1 - momentum) * mean R. It begins as the mean of the
    clip's first rewards. Zhou et al. begin at 0, so that at first everything that is drawn seems good.

    Steps of the environment count every drawn summary.

    Args:
        policy: `usrl.agents.clips.ClipPolicy`.
        env: A `TaskVecEnv` of a task whose episodes have one step.
        learning_rate: Step size of the optimizer, or its schedule by remaining progress.
        episodes: Summaries of each clip between two updates.
        momentum: Of the baseline.
        length_penalty: Weight of the penalty on the share of frames that the policy would keep.
        length_share: The share without a penalty.
        max_grad_norm: Longest gradient.
        policy_kwargs: Arguments of the policy.
        seed: Seed.
        device: Where the policy computes.

    Raises:
        UserError: If the policy or the environment is another one, or a number is out of its range.

    Source:
        Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement
        learning, Machine Learning 8:229-256, doi:10.1007/BF00992696; for summaries Zhou, Qiao, Xiang (2018),
        AAAI, arXiv:1801.00054, with 5 episodes, a momentum of 0.9, and a penalty of 0.01 around a share of
        one half.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = PPO.policy_aliases

    def __init__(
        self,
        policy: str | type[ClipPolicy],
        env: GymEnv,
        learning_rate: float | Schedule = 1e-3,
        episodes: int = 5,
        momentum: float = 0.9,
        length_penalty: float = 0.01,
        length_share: float = 0.5,
        max_grad_norm: float = 5.0,
        policy_kwargs: dict[str, Any] | None = None,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,  # SB3's `load` sets up by itself
    ) -> None:
        check_ranges({"max_grad_norm": max_grad_norm})
        if not isinstance(episodes, int) or episodes < 1:
            raise UserError(f"hyperparameters: episodes must be a whole number from 1 on, got {episodes}")
        shares = {"momentum": momentum, "length_share": length_share}
        limits = {name: (value, 1.0) for name, value in shares.items()} | {
            "length_penalty": (length_penalty, 1e6)
        }
        for name, (value, most) in limits.items():
            if not 0 <= value <= most:
                raise UserError(f"hyperparameters: {name} must be from 0 to {most:g}, got {value}")
        self.episodes, self.momentum = episodes, momentum
        self.length_penalty, self.length_share = length_penalty, length_share
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=1,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=0.0,
            vf_coef=0.0,
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
        if not isinstance(self.policy, ClipPolicy):
            raise UserError(
                f"reinforce trains a ClipPolicy, got {type(self.policy).__name__}; set policy: ClipPolicy"
            )
        cases = self._tasks().task.cases
        self.baseline = torch.zeros(len(cases), device=self.device)
        self.is_begun = torch.zeros(len(cases), device=self.device)  # 1 for clips that have a baseline

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Draw summaries of the present clips and reward them; the last ones end their episodes."""
        tasks = self._tasks()
        callback.on_rollout_start()
        self.policy.set_training_mode(True)
        self._seen: Tensor = obs_as_tensor(self._last_obs, self.device)  # type: ignore[assignment, arg-type]
        self._index = tasks.state.index.to(self.device)
        # With its gradient, so that `train` need not compute it again.
        self._logits: Tensor = self.policy.rate(self._seen)  # type: ignore[operator]
        probability = torch.sigmoid(self._logits.detach())
        self._drawn = torch.bernoulli(probability.expand(self.episodes, -1, -1))  # (E, B, T)
        rewards = []
        for drawn in self._drawn:
            moved, reward = tasks.task.step(tasks.state, drawn.to(tasks.task.cases.device))
            terminated = tasks.task.terminated(moved)
            if tasks.task.horizon > 1 and (terminated is None or not bool(terminated.all())):
                raise UserError("reinforce needs episodes of one step; set env.kwargs.action=frames")
            rewards.append(reward)
        self._rewards = torch.stack(rewards).to(self.device)  # (E, B)
        seen, _, dones, infos = env.step(self._drawn[-1].cpu().numpy())
        self._last_obs = seen  # type: ignore[assignment]
        self._last_episode_starts = dones
        self.num_timesteps += self.episodes * env.num_envs
        callback.update_locals(locals())
        self._begin_baselines()
        is_going = callback.on_step()
        callback.on_rollout_end()
        return is_going

    def train(self) -> None:
        """Make a gradient step by the summaries that were drawn, and move the baselines."""
        self._update_learning_rate(self.policy.optimizer)
        logits = self._logits
        frames = is_frame(self._seen)
        count = frames.sum(dim=1)
        advantage = self._rewards - self.baseline[self._index]  # (E, B)
        chosen = -F.binary_cross_entropy_with_logits(
            logits.expand_as(self._drawn), self._drawn, reduction="none"
        )
        likelihood = (chosen * frames).sum(dim=2) / count  # (E, B)
        share = (torch.sigmoid(logits) * frames).sum(dim=1) / count
        length_loss = (share - self.length_share).square().mean()
        loss = self.length_penalty * length_loss - (advantage * likelihood).mean()
        self.policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        self._move_baselines()
        for name, value in (("reward", self._rewards.mean()), ("share", share.mean()), ("loss", loss)):
            self.logger.record(f"train/{name}", float(value.detach()))

    def _begin_baselines(self) -> None:
        means, is_there = self._mean_by_clip()
        self.baseline = torch.where(is_there & (self.is_begun == 0), means, self.baseline)
        self.is_begun = torch.maximum(self.is_begun, is_there.float())

    def _move_baselines(self) -> None:
        means, is_there = self._mean_by_clip()
        moved = self.momentum * self.baseline + (1 - self.momentum) * means
        self.baseline = torch.where(is_there, moved, self.baseline)

    def _mean_by_clip(self) -> tuple[Tensor, Tensor]:
        """Return the mean of the present rewards of each clip, and which clips have some, (M,) each."""
        mean = self._rewards.mean(dim=0)  # (B,), in which a clip may be several times
        sums = torch.zeros_like(self.baseline).index_add(0, self._index, mean)
        counts = torch.zeros_like(self.baseline).index_add(0, self._index, torch.ones_like(mean))
        return sums / counts.clamp_min(1), counts > 0

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        parts, variables = super()._get_torch_save_params()
        return parts, [*variables, "baseline", "is_begun"]

    def _tasks(self) -> TaskVecEnv:
        if not isinstance(self.env, TaskVecEnv):
            raise UserError(
                f"reinforce learns from a task, got a {type(self.env).__name__}; give a TaskVecEnv"
            )
        return self.env
