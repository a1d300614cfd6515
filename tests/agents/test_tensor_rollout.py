"""Advantages of a rollout of tensors, beside SB3's and by hand."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from usrl.agents.device_ppo import TensorRollout, Transitions

CPU = torch.device("cpu")
SEEN, ACTION = spaces.Box(0, 255, (1, 2, 2), np.uint8), spaces.Box(-1, 1, (3,), np.float32)


def fill(steps: int, envs: int, lam: float, gamma: float) -> tuple[TensorRollout, RolloutBuffer]:
    """Return the same random rollout, with episodes that end inside and at its end, in both buffers."""
    draw = np.random.default_rng(0)
    ours = TensorRollout(steps, SEEN, ACTION, CPU, lam, gamma, envs)
    theirs = RolloutBuffer(steps, SEEN, ACTION, "cpu", lam, gamma, envs)
    starts = draw.random((steps + 1, envs)) < 0.3
    starts[-1, 0], starts[-1, 1] = True, False
    for step in range(steps):
        seen = draw.integers(0, 256, (envs, 1, 2, 2)).astype(np.uint8)
        actions = draw.normal(size=(envs, 3)).astype(np.float32)
        reward, value, log_prob = draw.normal(size=(3, envs)).astype(np.float32)
        theirs.add(seen, actions, reward, starts[step], torch.tensor(value), torch.tensor(log_prob))
        parts = (torch.from_numpy(part) for part in (seen, actions, value, log_prob, reward))
        ours.add(Transitions(*parts), starts[step + 1])
    last = torch.from_numpy(draw.normal(size=envs).astype(np.float32))
    ours.finish(last)
    theirs.compute_returns_and_advantage(last, starts[-1])
    return ours, theirs


@pytest.mark.parametrize(("lam", "gamma"), [(0.95, 0.99), (0.0, 0.5), (1.0, 1.0)])
def test_advantages_and_returns_are_those_of_sb3(lam: float, gamma: float) -> None:
    ours, theirs = fill(50, 4, lam, gamma)
    assert ours.advantages.numpy() == pytest.approx(theirs.advantages, abs=1e-5)
    assert ours.returns.numpy() == pytest.approx(theirs.returns, abs=1e-5)


def test_advantages_by_hand() -> None:
    rollout = TensorRollout(3, SEEN, ACTION, CPU, gae_lambda=0.5, gamma=0.5, n_envs=1)
    for reward, value, ends in ((1.0, 2.0, False), (2.0, 4.0, True), (3.0, 8.0, False)):
        one = torch.tensor([reward])
        rollout.add(Transitions(one, one, torch.tensor([value]), one, one), np.array([ends]))
    rollout.finish(torch.tensor([16.0]))
    # 3 + 16 / 2 - 8 = 3; an episode ends before it: 2 - 4 = -2; 1 + 4 / 2 - 2 = 1, and 1 - 2 / 4 = 1 / 2.
    assert rollout.advantages.flatten().tolist() == [0.5, -2.0, 3.0]
    assert rollout.returns.flatten().tolist() == [2.5, 2.0, 11.0]


def test_each_number_of_an_action_has_advantages_of_its_own() -> None:
    draw = torch.Generator().manual_seed(0)
    ends = torch.rand(9, 2, generator=draw) < 0.3
    rewards, values = torch.randn(2, 9, 2, 3, generator=draw)
    last = torch.randn(2, 3, generator=draw)

    def finish(part: slice | int) -> TensorRollout:
        rollout = TensorRollout(9, SEEN, ACTION, CPU, gae_lambda=0.9, gamma=0.7, n_envs=2)
        for step in range(9):
            paid, value = rewards[step][:, part], values[step][:, part]
            rollout.add(Transitions(paid, paid, value, paid, paid), ends[step].numpy())
        rollout.finish(last[:, part])
        return rollout

    whole = finish(slice(None))
    for number in range(3):
        assert torch.allclose(whole.advantages[..., number], finish(number).advantages)
        assert torch.allclose(whole.returns[..., number], finish(number).returns)


def test_minibatches_hold_every_transition_once_and_keep_its_parts_together() -> None:
    rollout, _ = fill(7, 3, 0.95, 0.99)
    torch.manual_seed(0)
    batches = list(rollout.minibatches(8))
    assert [len(batch.actions) for batch in batches] == [8, 8, 5]
    values = torch.cat([batch.values for batch in batches])
    order = [int((rollout.transitions.values.flatten() == value).nonzero()) for value in values]
    assert sorted(order) == list(range(21))
    assert order != sorted(order)
    for name in ("observations", "actions", "log_probs"):
        found = torch.cat([getattr(batch, name) for batch in batches])
        assert torch.equal(found, getattr(rollout.transitions, name).flatten(0, 1)[order])
    for name in ("advantages", "returns"):
        found = torch.cat([getattr(batch, name) for batch in batches])
        assert torch.equal(found, getattr(rollout, name).flatten()[order])


def test_a_second_rollout_replaces_the_first() -> None:
    rollout, _ = fill(5, 2, 0.95, 0.99)
    before, memory = rollout.advantages.clone(), rollout.transitions.observations.data_ptr()
    rollout.reset()
    for step in range(5):
        zero = torch.zeros(2)
        parts = (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, 3), zero, zero, torch.ones(2))
        rollout.add(Transitions(*parts), np.full(2, step == 4))
    rollout.finish(torch.zeros(2))
    assert rollout.transitions.observations.data_ptr() == memory
    assert not torch.equal(rollout.advantages, before)
    assert rollout.advantages[-1].tolist() == [1.0, 1.0]
