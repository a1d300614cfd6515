"""The policy for stacked slices."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO

from usrl.agents.slices import SlicePolicy, SliceQPolicy
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.volumes import Volumes
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError

IMAGES = spaces.Box(0, 255, (4, 64, 64), np.uint8)


def build(actions: spaces.Space, **options) -> SlicePolicy:
    torch.manual_seed(0)
    return SlicePolicy(IMAGES, actions, lambda _: 1e-3, **options)


@pytest.mark.parametrize("actions", [spaces.Discrete(11), spaces.Box(-1, 1, (6,), np.float32)])
def test_it_acts_in_both_kinds_of_spaces_and_has_weights_of_less_than_3_mb(actions):
    policy = build(actions)
    action, _ = policy.predict(np.stack([IMAGES.sample() for _ in range(5)]), deterministic=True)
    assert action.shape == (5, *actions.shape)
    assert sum(weight.numel() for weight in policy.parameters()) * 4 < 3_000_000


def test_every_weight_gets_a_gradient_and_every_slice_matters():
    policy = build(spaces.Discrete(11))
    seen = torch.randint(0, 256, (3, 4, 64, 64), dtype=torch.uint8)
    values, log_prob, _ = policy.evaluate_actions(seen, torch.tensor([0, 5, 10]))
    (values.sum() + log_prob.sum()).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in policy.parameters())
    for place in range(4):
        changed = seen.clone()
        changed[:, place] = 255 - changed[:, place]
        assert (policy.predict_values(changed) != policy.predict_values(seen)).all()


def test_features_are_the_same_whatever_the_batch():
    policy = build(spaces.Discrete(11))
    seen = torch.randint(0, 256, (6, 4, 64, 64), dtype=torch.uint8)
    together, alone = policy.extract_features(seen), policy.extract_features(seen[2:3])
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=1e-4)


def test_ppo_trains_it_on_probes():
    volumes = Volumes.from_bodies([make_body(0, 0), make_body(0, 1)])
    venv = TaskVecEnv.make("usrl/ProbeNavigate-v0", num_envs=4, cases=volumes, action="continuous")
    model = PPO(
        SlicePolicy, venv, n_steps=8, batch_size=16, n_epochs=1, seed=0, policy_kwargs={"features": 32}
    )
    before = [weight.clone() for weight in model.policy.parameters()]
    model.learn(64)
    assert any((one != two).any() for one, two in zip(before, model.policy.parameters(), strict=True))


def test_dqn_trains_q_values_of_slices_whose_weights_take_less_than_3_mb():
    volumes = Volumes.from_bodies([make_body(0, 0), make_body(0, 1)])
    venv = TaskVecEnv.make("usrl/ProbeNavigate-v0", num_envs=4, cases=volumes, action="steps")
    model = DQN(SliceQPolicy, venv, buffer_size=64, learning_starts=8, train_freq=2, batch_size=8, seed=0)
    assert sum(weight.numel() for weight in model.policy.parameters()) * 4 < 3_000_000
    before = [weight.clone() for weight in model.q_net.parameters()]
    model.learn(48)
    assert all((one != two).any() for one, two in zip(before, model.q_net.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": []}, "channels and features must be at least 1"), ({"features": 0}, "at least 1")],
)
def test_sizes_that_make_no_network_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        build(spaces.Discrete(3), **options)


def test_other_observations_than_images_are_refused():
    with pytest.raises(UserError, match="policies of slices take images"):
        SlicePolicy(spaces.Box(0, 1, (4,), np.float32), spaces.Discrete(2), lambda _: 1e-3)
    with pytest.raises(UserError, match="policies of slices take images"):
        SliceQPolicy(spaces.Box(0, 1, (4,), np.float32), spaces.Discrete(2), lambda _: 1e-3)
