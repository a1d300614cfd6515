"""The policy for clips, and REINFORCE."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from summary_builders import LENGTHS, begin, make_clips, make_task

from usrl.agents.clips import ClipPolicy
from usrl.agents.cloning import Cloning
from usrl.agents.players import PolicyPlayer, begin_evaluation, play
from usrl.agents.recipe import AgentRecipe
from usrl.agents.reinforce import Reinforce
from usrl.agents.training import build_model
from usrl.data.clips.clips import Clips
from usrl.data.recipe import DataRecipe
from usrl.envs.sb3 import TaskVecEnv
from usrl.envs.summary.rules import count_kept
from usrl.envs.summary.task import SummaryTask
from usrl.errors import UserError

SMALL = {"width": 12}


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


def make_policy(task: SummaryTask, **kwargs: Any) -> ClipPolicy:
    torch.manual_seed(0)
    return ClipPolicy(task.observation_space, task.action_space, lambda _: 1e-3, **SMALL | kwargs)


def make_model(task: SummaryTask, algorithm: Any = Reinforce, envs: int = 6, **settings: Any) -> Any:
    model = algorithm(
        ClipPolicy, TaskVecEnv(task, envs, seed=0), seed=0, device="cpu", policy_kwargs=SMALL, **settings
    )
    model.set_logger(configure(None, []))
    return model


@pytest.mark.parametrize("kwargs", [{}, {"attention": False}, {"kinds": 1}])
def test_the_scores_of_a_clip_depend_neither_on_padding_nor_on_its_batch(clips: Clips, kwargs: Any) -> None:
    short, long = make_task(clips), make_task(clips, frames=40)
    policy = make_policy(short, **kwargs)
    together = policy.score(short.observe(begin(short)))
    padded = policy.score(long.observe(begin(long)))
    for row, length in enumerate(LENGTHS):
        alone = policy.score(short.observe(begin(short, row)))[0]
        torch.testing.assert_close(alone, together[row], atol=1e-6, rtol=0)
        torch.testing.assert_close(padded[row, :24], together[row], atol=1e-6, rtol=0)
        assert together[row, length:].max() < 1e-6
        assert together[row, :length].std() > 0


def test_a_frame_is_scored_by_what_comes_before_and_after_it(clips: Clips) -> None:
    task = make_task(clips)
    policy = make_policy(task)
    seen = task.observe(begin(task, 2))
    changed = seen.clone()
    changed[0, 10, :-1] *= -1
    moved = (policy.score(seen) != policy.score(changed))[0, :20]
    assert moved[9]
    assert moved[11]


def test_the_policy_of_stable_baselines_and_its_scores_agree(clips: Clips) -> None:
    task = make_task(clips)
    policy = make_policy(task)
    seen = task.observe(begin(task))
    probability = policy.get_distribution(seen).distribution.probs
    torch.testing.assert_close(probability, policy.score(seen))
    actions, values, log_probs = policy(seen)
    assert actions.shape == (3, 24)
    assert values.shape == (3, 1)
    assert log_probs.exp().min() > 0  # padding adds nothing
    for row, length in enumerate(LENGTHS):
        assert not actions[row, length:].any()


@pytest.mark.parametrize(
    ("seen", "action", "kwargs", "message"),
    [
        (
            (24, 99),
            spaces.Discrete(2),
            {},
            "one decision for each frame, got observations .24, 99. and actions Dis",
        ),
        (
            (24, 99),
            spaces.MultiBinary(24),
            {"kinds": 5},
            "kinds must divide 96 features, got width 12 and kinds 5",
        ),
        ((24, 99), spaces.MultiBinary(24), {"use_sde": True}, "use_sde: ClipPolicy decides yes or no"),
        ((24, 64, 64), spaces.MultiBinary(24), {}, "set env.kwargs.action=frames and observation=features"),
    ],
)
def test_spaces_that_are_not_those_of_frames_are_refused(
    seen: Any, action: Any, kwargs: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ClipPolicy(spaces.Box(-1, 1, seen), action, lambda _: 1e-3, **SMALL | kwargs)


def test_a_player_with_scores_keeps_what_the_rule_of_the_task_makes_of_them(clips: Clips) -> None:
    task = make_task(clips, share=0.3)
    policy = make_policy(task)
    played = play(task, PolicyPlayer(policy, task), begin_evaluation(task))
    wanted = task.summarise(torch.arange(3), policy.score(task.observe(begin(task))))
    assert played.states[-1].kept.equal(wanted)
    assert wanted.sum(dim=1).tolist() == count_kept(clips.lengths, 0.3).tolist()


def test_the_baseline_of_a_clip_is_the_moving_average_of_its_mean_rewards(clips: Clips) -> None:
    model = make_model(make_task(clips), momentum=0.75, episodes=2)
    wanted = [None, None, None]
    for steps in (12, 24, 36):
        model.learn(12, reset_num_timesteps=False)
        assert model.num_timesteps == steps
        assert model._rewards.shape == (2, 6)
        for clip in set(model._index.tolist()):
            mean = float(model._rewards[:, model._index == clip].mean())
            wanted[clip] = mean if wanted[clip] is None else 0.75 * wanted[clip] + 0.25 * mean
    assert model.baseline.tolist() == pytest.approx([value or 0 for value in wanted], abs=1e-6)
    assert model.is_begun.tolist() == [value is not None for value in wanted]


def test_a_gradient_step_follows_the_formula(clips: Clips) -> None:
    task = make_task(clips)
    settings = {"episodes": 3, "length_penalty": 0.3, "length_share": 0.2, "max_grad_norm": 1e9}
    model = make_model(task, learning_rate=0.0, **settings)
    model.learn(1)
    first = torch.stack([model._rewards[:, model._index == clip].mean() for clip in range(3)])
    grads = [parameter.grad for parameter in model.policy.action_net.parameters()]
    policy = model.policy
    distribution = torch.distributions.Bernoulli(logits=policy.rate(model._seen))
    lengths = task.lengths(model._index)
    loss = torch.zeros(())
    for drawn, rewards in zip(model._drawn, model._rewards, strict=True):
        per_frame = distribution.log_prob(drawn).sum(dim=1) / lengths  # padding adds nothing
        loss = loss - ((rewards - first[model._index]) * per_frame).mean() / 3
    share = distribution.probs.sum(dim=1) / lengths
    loss = loss + 0.3 * (share - 0.2).square().mean()
    wanted = torch.autograd.grad(loss, list(policy.action_net.parameters()))
    for one, other in zip(grads, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_reinforce_learns_to_keep_what_is_rewarded() -> None:
    # The sharpest frames are the last ones, and the reward is nearly all sharpness.
    task = make_task(make_clips(), sharpness=50.0, share=0.25)
    model = make_model(task, envs=12, learning_rate=2e-2, length_share=0.25)

    def reach() -> float:
        last = play(task, PolicyPlayer(model.policy, task), begin_evaluation(task)).states[-1]
        return float(task.figures(last)["sharpness"].mean())

    before = reach()
    model.learn(12 * 5 * 60)
    assert reach() > max(before, 0.75)


def test_the_supervised_control_learns_the_known_frames(clips: Clips) -> None:
    task = make_task(clips, share=0.25)
    settings = {"n_steps": 1, "batch_size": 12, "learning_rate": 2e-2, "vf_coef": 0.0}
    model = make_model(task, Cloning, envs=12, **settings)
    model.learn(12 * 120)
    known = task.known(torch.arange(3))
    scores = model.policy.score(task.observe(begin(task)))
    assert scores[known].mean() > scores[:, :9][~known[:, :9]].mean() + 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes": 0}, "hyperparameters: episodes must be a whole number from 1 on, got 0"),
        ({"momentum": 1.5}, "hyperparameters: momentum must be from 0 to 1, got 1.5"),
        ({"length_penalty": -1.0}, "hyperparameters: length_penalty must be from 0 to 1e.06, got -1"),
        ({"length_share": 2.0}, "hyperparameters: length_share must be from 0 to 1, got 2"),
    ],
)
def test_numbers_out_of_range_are_refused(clips: Clips, settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_model(make_task(clips), **settings)


def test_reinforce_wants_its_policy_and_episodes_of_one_step(clips: Clips) -> None:
    with pytest.raises(UserError, match="reinforce trains a ClipPolicy, got ActorCriticPolicy"):
        Reinforce("MlpPolicy", TaskVecEnv(make_task(clips), 2), device="cpu")
    stepwise = make_task(clips, action="sequential")
    recipe = AgentRecipe(
        kind="agent", algorithm="reinforce", policy="ClipPolicy", data=DataRecipe(name="lung")
    )
    with pytest.raises(UserError, match="one decision for each frame"):
        build_model(recipe, TaskVecEnv(stepwise, 2), torch.device("cpu"))


def test_a_checkpoint_holds_the_baselines(clips: Clips, tmp_path: Path) -> None:
    from usrl.agents.training import _parts
    from usrl.runs.checkpoints import load_checkpoint, save_checkpoint

    model = make_model(make_task(clips))
    model.learn(60)
    save_checkpoint(tmp_path / "checkpoint.safetensors", _parts(model), {})
    other = make_model(make_task(clips))
    assert not other.baseline.any()
    load_checkpoint(tmp_path / "checkpoint.safetensors", _parts(other))
    assert other.baseline.equal(model.baseline)
