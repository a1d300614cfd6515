"""The policy that shares its head among vertices, and names of algorithms."""

import inspect
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from usrl.agents.algorithms import build_policy, check_hyperparameters, find_algorithm, find_policy
from usrl.agents.cloning import Cloning
from usrl.agents.device_ppo import DevicePPO
from usrl.agents.policies import ContourPolicy, ProfileExtractor
from usrl.agents.recipe import AgentRecipe, Ranges
from usrl.agents.training import build_untrained
from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError
from usrl.registry import build_task

PROFILES = spaces.Box(0, 255, (3, 64, 40), np.uint8)


def build(actions: int) -> ContourPolicy:
    torch.manual_seed(0)
    policy = ContourPolicy(PROFILES, spaces.Box(-1, 1, (actions,), np.float32), lambda _: 1e-3, width=16)
    torch.nn.init.normal_(policy.action_net.head.weight)  # type: ignore[union-attr, arg-type]
    return policy


def test_turning_the_contour_turns_the_actions_and_keeps_the_value() -> None:
    policy = build(64)
    seen = torch.randint(0, 256, (2, 3, 64, 40), dtype=torch.uint8)
    mean = policy.get_distribution(seen).mode()
    turned = policy.get_distribution(seen.roll(9, dims=2)).mode()
    assert torch.allclose(turned, mean.roll(9, dims=1), atol=1e-5)
    assert float(mean.detach().std()) > 0.01
    assert torch.allclose(policy.predict_values(seen), policy.predict_values(seen.roll(9, dims=2)), atol=1e-4)


def test_fourier_actions_reproduce_smooth_moves() -> None:
    from usrl.geometry.moves import fourier_basis

    projection = build(15).action_net.projection
    moves = torch.tensor([[0.3, -0.2, 0.1] + [0.0] * 12]) @ fourier_basis(15, 64)
    assert isinstance(projection, torch.Tensor)
    assert torch.allclose((moves @ projection)[0, :3], torch.tensor([0.3, -0.2, 0.1]), atol=1e-5)


def test_the_value_of_a_contour_is_the_mean_of_those_of_its_vertices() -> None:
    action_space = spaces.Box(-1, 1, (64,), np.float32)
    policy = ContourPolicy(PROFILES, action_space, lambda _: 1e-3, width=16, critic="vertex")
    seen = torch.randint(0, 256, (2, 3, 64, 40), dtype=torch.uint8)
    features = policy.mlp_extractor.forward_critic(policy.extract_features(seen))
    values = policy.value_net.list_values(features)  # type: ignore[operator]
    assert values.shape == (2, 64)
    assert torch.allclose(policy.predict_values(seen), values.mean(dim=1, keepdim=True))
    turned = policy.extract_features(seen.roll(9, dims=2))
    assert torch.allclose(policy.value_net.list_values(turned), values.roll(9, dims=1), atol=1e-4)  # type: ignore[operator]


def test_a_critic_of_vertices_needs_an_action_of_each() -> None:
    with pytest.raises(
        UserError, match="needs an action per vertex, got 15 for 64 vertices; set parametrization: vertices"
    ):
        ContourPolicy(PROFILES, spaces.Box(-1, 1, (15,), np.float32), lambda _: 1e-3, critic="vertex")


def test_all_actions_share_one_standard_deviation() -> None:
    assert build(64).log_std.shape == (1,)


def test_the_extractor_computes_what_its_layers_do_in_turn() -> None:
    extractor = build(64).features_extractor
    assert isinstance(extractor, ProfileExtractor)
    seen = torch.randint(0, 256, (2, 3, 64, 40), dtype=torch.uint8)
    profiles = (seen / 255 - 0.5).transpose(2, 3).reshape(2, 120, 64)
    expected = extractor.convolutions(profiles)  # (B, width, N)
    assert torch.allclose(extractor(seen), expected.transpose(1, 2).flatten(1), atol=1e-5)


def test_layers_that_reach_around_the_contour_are_refused() -> None:
    space = spaces.Box(0, 255, (3, 8, 40), np.uint8)
    with pytest.raises(UserError, match="a contour of 8 vertices takes 4 layers, got 6; set fewer"):
        ContourPolicy(space, spaces.Box(-1, 1, (8,), np.float32), lambda _: 1e-3, layers=6)


def test_spaces_that_are_no_contours_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"needs profiles .* got observations .3, 64, 40. and actions Discrete"
    ):
        ContourPolicy(PROFILES, spaces.Discrete(3), lambda _: 1e-3)


@pytest.mark.parametrize("parametrization", ["vertices", "fourier"])
@pytest.mark.parametrize("size", [64, 128])
def test_images_are_refused_by_their_shape(parametrization: str, size: int) -> None:
    bank = Bank.from_samples(load_phantom(1), size)
    kwargs = {"observation": "image", "parametrization": parametrization}
    env = gym.make("usrl/ContourRefine-v0", cases=bank, **kwargs)
    with pytest.raises(UserError, match=r"square like images; use CnnPolicy for images"):
        PPO(ContourPolicy, env)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "width and layers must be at least 1, got width 64 and layers 0"),
        ({"width": 0}, "width and layers must be at least 1, got width 0 and layers 3"),
        ({"use_sde": True}, "use_sde: ContourPolicy has one deviation for all actions; leave it out"),
        ({"critic": "vertices"}, "critic: unknown value 'vertices'; did you mean 'vertex'"),
        ({"net_arch": 64}, "ContourPolicy does not take these .*'net_arch'"),
        ({"activation_fn": "tanh"}, "ContourPolicy does not take these .*'activation_fn'"),
        ({"ortho_init": False}, "ContourPolicy does not take these .*'ortho_init'"),
    ],
)
def test_arguments_that_the_contour_policy_cannot_follow_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_policy(AgentRecipe(policy_kwargs=arguments), PROFILES, spaces.Box(-1, 1, (64,), np.float32))


def test_algorithms_are_found_by_lower_case_name() -> None:
    assert find_algorithm("ppo") is PPO
    assert find_algorithm("dqn") is DQN
    assert find_algorithm("ppo-device") is DevicePPO
    with pytest.raises(UserError, match="unknown name 'pppo'; did you mean 'ppo'"):
        find_algorithm("pppo")


def test_an_unknown_policy_gets_a_suggestion() -> None:
    assert find_policy("ContourPolicy", PPO) is ContourPolicy
    with pytest.raises(UserError, match="PPO has no 'CnPolicy'; did you mean 'CnnPolicy'"):
        find_policy("CnPolicy", PPO)


def test_hyperparameters_are_checked_and_schedules_fall() -> None:
    recipe = AgentRecipe(hyperparameters={"learning_rate": "lin_1e-3", "gamma": 0.5})
    checked = check_hyperparameters(recipe, PPO)
    assert checked["gamma"] == 0.5
    assert [checked["learning_rate"](left) for left in (1.0, 0.5, 0.0)] == pytest.approx([1e-3, 5e-4, 0])
    with pytest.raises(UserError, match="ppo has no 'n_step'; did you mean 'n_steps'"):
        check_hyperparameters(AgentRecipe(hyperparameters={"n_step": 3}), PPO)
    assert check_hyperparameters(AgentRecipe(hyperparameters={"autocast": True}), DevicePPO)["autocast"]
    with pytest.raises(UserError, match="learning_rate must be lin_NUMBER, got 'lin_x'"):
        check_hyperparameters(AgentRecipe(hyperparameters={"learning_rate": "lin_x"}), PPO)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_steps", 0),
        ("n_epochs", -1),
        ("batch_size", 0),
        ("train_freq", 0),
        ("gamma", 1.5),
        ("gamma", "lin_1"),
        ("learning_rate", 0),
        ("ent_coef", -0.1),
        ("ent_coef", "lin_0.1"),
        ("clip_range", 0),
        ("clip_range_vf", -0.2),
        ("target_kl", 0),
        ("tau", 1.5),
        ("tau", 0),
        ("learning_starts", -1),
        ("gradient_steps", -2),
        ("gradient_steps", 0),
        ("learning_rate", float("inf")),
        ("vf_coef", float("inf")),
        ("target_entropy", float("inf")),
        ("max_grad_norm", 0),
        ("target_update_interval", 0),
        ("exploration_fraction", 0),
        ("exploration_final_eps", 2),
        ("target_policy_noise", -0.1),
        ("policy_delay", 0),
        ("rms_prop_eps", 0),
    ],
)
def test_hyperparameters_out_of_range_are_refused_for_every_algorithm(name: str, value: float) -> None:
    algorithm = next(a for a in (DevicePPO, DQN, TD3, A2C, SAC) if name in inspect.signature(a).parameters)
    with pytest.raises(UserError, match=f"hyperparameters: {name}: Input should be .*, got {value!r}"):
        check_hyperparameters(AgentRecipe(hyperparameters={name: value}), algorithm)


def test_a_schedule_is_checked_by_the_number_it_falls_from() -> None:
    for name in ("learning_rate", "clip_range", "clip_range_vf"):
        check_hyperparameters(AgentRecipe(hyperparameters={name: "lin_0.1"}), PPO)
        with pytest.raises(UserError, match=rf"{name}: Input should be greater than 0, got 'lin_-0\.1'"):
            check_hyperparameters(AgentRecipe(hyperparameters={name: "lin_-0.1"}), PPO)


def test_text_is_taken_only_where_an_algorithm_has_it_itself() -> None:
    for value in ("auto", "auto_0.1"):
        checked = check_hyperparameters(AgentRecipe(hyperparameters={"ent_coef": value}), SAC)
        assert checked == {"ent_coef": value}
    with pytest.raises(UserError, match="ent_coef: ppo takes no text here, got 'auto'"):
        check_hyperparameters(AgentRecipe(hyperparameters={"ent_coef": "auto"}), PPO)
    with pytest.raises(UserError, match="use_sde: ppo takes no text here, got 'yes'"):
        check_hyperparameters(AgentRecipe(hyperparameters={"use_sde": "yes"}), PPO)
    with pytest.raises(
        UserError, match=r"ent_coef: Input should be greater than or equal to 0, got 'auto_-1'"
    ):
        check_hyperparameters(AgentRecipe(hyperparameters={"ent_coef": "auto_-1"}), SAC)


def test_gradients_may_be_unlimited_and_updates_as_many_as_steps() -> None:
    numbers = {"max_grad_norm": float("inf"), "gradient_steps": -1}
    assert check_hyperparameters(AgentRecipe(hyperparameters=numbers), DQN) == numbers


@pytest.mark.parametrize("name", ["_init_setup_model", "action_noise", "replay_buffer_class", "seed"])
def test_arguments_that_a_recipe_cannot_give_are_no_hyperparameters(name: str) -> None:
    with pytest.raises(UserError, match=f"ppo has no '{name}'; known names: batch_size, buffer_size"):
        check_hyperparameters(AgentRecipe(hyperparameters={name: 1}), SAC)


@pytest.mark.parametrize(
    ("starts", "freq", "first"), [(95, 1, 96), (96, 1, 100), (0, 25, 100), (100, 25, 200)]
)
def test_a_training_that_ends_before_its_first_update_is_refused(starts: int, freq: int, first: int) -> None:
    numbers = {"learning_starts": starts, "train_freq": freq}
    recipe = AgentRecipe(algorithm="dqn", num_envs=4, total_steps=first, hyperparameters=numbers)
    assert check_hyperparameters(recipe, DQN) == numbers
    short = recipe.model_copy(update={"total_steps": first - 1})
    with pytest.raises(
        UserError, match=f"update would come after {first} steps .* past total_steps {first - 1};"
    ):
        check_hyperparameters(short, DQN)


def test_a_buffer_beyond_the_memory_is_explained() -> None:
    recipe = AgentRecipe(algorithm="sac", policy="MlpPolicy", hyperparameters={"buffer_size": 10**15})
    with pytest.raises(UserError, match=r"sac with MlpPolicy cannot be built .* Unable to allocate"):
        build_untrained(recipe)


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, SAC, TD3, DDPG, DevicePPO, Cloning])
def test_the_defaults_of_every_algorithm_are_in_range(algorithm: type[BaseAlgorithm]) -> None:
    found = inspect.signature(algorithm).parameters.items()
    numbers = {name: p.default for name, p in found if name in Ranges.model_fields}
    assert check_hyperparameters(AgentRecipe(hyperparameters=numbers), algorithm) == numbers


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        ("ppo", "ContourPolicy"),
        ("bc", "ContourPolicy"),
        ("ppo-device", "MlpPolicy"),
        *((name, "MlpPolicy") for name in ("a2c", "dqn", "sac", "td3", "ddpg")),
    ],
)
def test_policies_that_only_act_have_no_optimizer_and_act_as_those_in_training(
    algorithm: str, policy: str
) -> None:
    seen = PROFILES if policy == "ContourPolicy" else spaces.Box(0, 255, (8,), np.uint8)
    actions = spaces.Discrete(3) if algorithm == "dqn" else spaces.Box(-1, 1, (64,), np.float32)
    acting = build_policy(AgentRecipe(algorithm=algorithm, policy=policy, policy_kwargs={}), seen, actions)
    assert not [m for m in acting.modules() if getattr(m, "optimizer", None) is not None]
    training = find_policy(policy, find_algorithm(algorithm))(seen, actions, lambda _: 1e-3)  # type: ignore[arg-type]
    acting.load_state_dict(training.state_dict())
    observation = seen.sample()
    expected = training.predict(observation, deterministic=True)[0]
    np.testing.assert_array_equal(acting.predict(observation, deterministic=True)[0], expected)


def test_unknown_policy_arguments_are_named() -> None:
    with pytest.raises(UserError, match=r"policy_kwargs: ContourPolicy .*widht"):
        build_policy(AgentRecipe(policy_kwargs={"widht": 3}), PROFILES, spaces.Box(-1, 1, (64,), np.float32))


def test_normalised_profiles_are_refused_as_the_policy_takes_gray_levels() -> None:
    bank = Bank.from_samples(load_phantom(1), 64)
    venv = TaskVecEnv(build_task("usrl/ContourRefine-v0", bank, {}), 2)
    with pytest.raises(
        UserError, match=r"takes gray levels, uint8, got .* float32; leave out what normalises"
    ):
        PPO(ContourPolicy, VecNormalize(venv), n_steps=10, batch_size=10)
    PPO(ContourPolicy, VecNormalize(venv, norm_obs=False), n_steps=10, batch_size=10)
