"""PPO on the device beside SB3's PPO: the same rollouts, the same updates, no waiting."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from usrl.agents.device_ppo import DevicePPO
from usrl.agents.policies import ContourPolicy
from usrl.agents.recipe import AgentRecipe
from usrl.agents.training import build_untrained
from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.sb3 import TaskVecEnv
from usrl.envs.task import State
from usrl.errors import UserError
from usrl.registry import build_task

ENVS, STEPS = 3, 11
"""Episodes of four steps end within a rollout, at its end, and not all at once."""

ACTIONS = {
    "box": spaces.Box(-1, 1, (5,), np.float32),
    "discrete": spaces.Discrete(3),
    "multidiscrete": spaces.MultiDiscrete([3, 4, 2]),
    "multibinary": spaces.MultiBinary(4),
}


OWN = {"credit": "own", "policy_kwargs": {"width": 8, "layers": 2, "critic": "vertex"}}


@dataclass(frozen=True)
class DarkState(State):
    shade: Tensor


class DarkTask:
    """Paint an image in the shade that the actions sum to; the reward is how dark it is."""

    def __init__(self, bank: Bank, action_space: spaces.Space[Any]) -> None:
        self.cases, self.action_space, self.horizon = bank, action_space, 4
        self.observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)

    def reset(self, index: Tensor, keys: Tensor) -> DarkState:
        return DarkState(index, torch.zeros_like(index), keys, keys.remainder(7).float())

    def step(self, state: DarkState, action: Tensor) -> tuple[DarkState, Tensor]:
        shade = state.shade + action.float().flatten(1).sum(1) if action.dim() > 1 else state.shade + action
        return replace(state, shade=shade, elapsed=state.elapsed + 1), -shade

    def observe(self, state: DarkState) -> Tensor:
        shade = (state.shade * 20 + 100).clamp(0, 255).to(torch.uint8)
        return shade[:, None, None, None].expand(-1, 1, 36, 36).clone()

    def figures(self, state: DarkState) -> dict[str, Tensor]:
        return {"score": state.shade / 100}

    def terminated(self, state: DarkState) -> None:
        pass


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.from_samples(load_phantom(3), 64)


Make = Callable[..., PPO]


@pytest.fixture
def make(bank: Bank) -> Make:
    """Return a function that builds an algorithm over environments whose episodes end apart."""

    def build(algorithm: type[PPO], actions: str = "contour", **settings: Any) -> PPO:
        is_contour, where = actions == "contour", bank.to(settings.get("device", "cpu"))
        task = (
            build_task("usrl/ContourRefine-v0", where, {"vertices": 16}, horizon=4)
            if is_contour
            else DarkTask(where, ACTIONS[actions])
        )
        venv = TaskVecEnv(task, ENVS, seed=5)  # type: ignore[arg-type]
        defaults = {"n_steps": STEPS, "batch_size": ENVS * STEPS, "n_epochs": 3, "seed": 0, "device": "cpu"}
        if is_contour:
            defaults["policy_kwargs"] = {"width": 8, "layers": 2}
        if algorithm is DevicePPO:
            defaults["autocast"] = False
        model = algorithm(ContourPolicy if is_contour else "CnnPolicy", venv, **defaults | settings)
        model._last_obs = venv.reset()
        model._last_episode_starts = np.ones(ENVS, bool)
        venv._batch.elapsed[1] += 2
        return model

    return build


def learn(model: PPO, rollouts: int = 1, callback: BaseCallback | None = None) -> dict[str, Any]:
    """Train for some rollouts from one state of torch's generator; return what the last of them logged."""
    torch.manual_seed(0)
    model.learn(rollouts * ENVS * STEPS, callback, log_interval=None, reset_num_timesteps=False)
    return dict(model.logger.name_to_value)


@pytest.mark.parametrize("actions", ["contour", *ACTIONS])
def test_rollouts_of_one_seed_are_those_of_stock_ppo(make: Make, actions: str) -> None:
    stock, device = make(PPO, actions, n_epochs=1), make(DevicePPO, actions, n_epochs=1)
    learn(stock)
    learn(device)
    theirs, ours = stock.rollout_buffer, device.rollout_buffer

    def rows(values: np.ndarray) -> np.ndarray:
        """Undo the flattening of SB3's buffer, environment by environment."""
        return values.reshape(ENVS, STEPS, -1).swapaxes(0, 1)

    for name in ("observations", "actions", "values", "log_probs"):
        found = getattr(ours.transitions, name).reshape(STEPS, ENVS, -1).numpy()  # type: ignore[attr-defined]
        assert found == pytest.approx(rows(getattr(theirs, name)), abs=1e-5)
    for name in ("advantages", "returns"):
        assert getattr(ours, name).numpy() == pytest.approx(rows(getattr(theirs, name))[..., 0], abs=1e-5)
    assert ours.transitions.rewards.numpy() == pytest.approx(theirs.rewards, abs=1e-5)  # type: ignore[attr-defined]
    assert theirs.episode_starts.sum() > 2 * ENVS  # episodes did end inside


FAST = {"learning_rate": 0.003}


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        (FAST, {"clip_range_vf": 1e-3}),
        (FAST, {"clip_range": 0.01}),
        (FAST, {"clip_range": lambda left: 0.1 * left}),
        (FAST, {"target_kl": 1e-4}),
        ({}, {"learning_rate": lambda left: 0.01 * left}),
        ({}, {"ent_coef": 0.1}),
        ({}, {"vf_coef": 2.0}),
        ({}, {"max_grad_norm": 0.01}),
        ({}, {"normalize_advantage": False}),
        ({}, {"gamma": 0.5}),
        ({}, {"gae_lambda": 0.3}),
        ({}, {"n_epochs": 1}),
    ],
    ids=lambda settings: ",".join(settings) or "defaults",
)
def test_hyperparameters_change_two_updates_as_in_stock_ppo(
    make: Make, base: dict[str, Any], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stock PPO draws its minibatches by NumPy; the actions of the second rollout are to agree.
    monkeypatch.setattr(torch, "randperm", lambda count, device: torch.arange(count))
    stock, device, other = (
        make(PPO, **base | settings),
        make(DevicePPO, **base | settings),
        make(DevicePPO, **base),
    )
    theirs, ours, _ = learn(stock, 2), learn(device, 2), learn(other, 2)
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=1e-4), name
    weights, changed = device.policy.state_dict(), other.policy.state_dict()
    for name, value in stock.policy.state_dict().items():
        assert weights[name].numpy() == pytest.approx(value.numpy(), abs=1e-4), name
    assert max(float((weights[name] - changed[name]).abs().max()) for name in weights) > 3e-4


@pytest.mark.parametrize("actions", ACTIONS)
def test_every_action_space_learns_like_stock_ppo(make: Make, actions: str) -> None:
    theirs, ours = (learn(make(algorithm, actions)) for algorithm in (PPO, DevicePPO))
    for name in ("loss", "policy_gradient_loss", "value_loss", "entropy_loss"):
        assert ours[f"train/{name}"] == pytest.approx(theirs[f"train/{name}"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("frequency", [-1, 2])
def test_state_dependent_exploration_is_that_of_stock_ppo(make: Make, frequency: int) -> None:
    settings = {"use_sde": True, "sde_sample_freq": frequency, "policy_kwargs": {"squash_output": True}}
    theirs, ours = (learn(make(algorithm, "box", **settings)) for algorithm in (PPO, DevicePPO))
    assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3, abs=1e-4)


class Waits(TorchDispatchMode):
    """Counts the operations whose results the host reads."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in {
            "_local_scalar_dense",
            "is_nonzero",
            "nonzero",
            "equal",
        }
        return func(*args, **kwargs or {})


def waits_of(model: PPO, rollouts: int) -> int:
    learn(model)
    with Waits() as waits:
        learn(model, rollouts)
    return waits.count


@pytest.mark.parametrize("actions", ["box", "discrete", "multidiscrete"])
def test_neither_steps_nor_minibatches_wait_for_the_device(make: Make, actions: str) -> None:
    # Adam counts its steps on the host, which would be counted here.
    settings = {"policy_kwargs": {"optimizer_class": torch.optim.SGD}}
    few, many = ({"n_epochs": epochs, "batch_size": size} for epochs, size in ((1, ENVS * STEPS), (4, 11)))
    once = waits_of(make(DevicePPO, actions, **settings, **few), 1)
    assert once <= 5
    assert waits_of(make(DevicePPO, actions, **settings, **many), 1) == once
    assert waits_of(make(DevicePPO, actions, **settings, **many, n_steps=2 * STEPS), 2) == once
    assert waits_of(make(PPO, actions, **settings, **many), 1) > 20 + once


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("credit", ["shared", "own"])
def test_a_gpu_is_waited_for_as_often_whatever_the_number_of_steps_and_minibatches(
    make: Make, credit: str
) -> None:
    def waits(rollouts: int, **settings: Any) -> int:
        model = make(DevicePPO, device="cuda", **(OWN if credit == "own" else {}), **settings)
        learn(model, rollouts)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                learn(model, rollouts)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in caught)

    once = waits(1, n_epochs=1)
    assert 1 <= once <= 8
    assert waits(1, n_epochs=4, batch_size=11) == once
    assert waits(2, n_epochs=4, batch_size=11, n_steps=2 * STEPS) == once


def test_extractors_train_in_bfloat16_and_answer_in_float32(make: Make) -> None:
    exact, fast = make(DevicePPO), make(DevicePPO, autocast=True)
    seen = torch.randint(0, 256, (8, 3, 16, 40), dtype=torch.uint8)
    assert torch.equal(exact.policy.predict_values(seen), fast.policy.predict_values(seen))
    fast._form = None  # type: ignore[attr-defined]
    (rounded,) = fast._expect(seen)  # type: ignore[attr-defined]
    assert rounded.dtype == torch.float32
    wanted = exact.policy.predict_values(seen).flatten()
    assert not torch.equal(rounded, wanted)
    assert torch.allclose(rounded, wanted, atol=0.03)
    assert all(value.dtype == torch.float32 for value in fast.policy.state_dict().values())
    theirs, ours = learn(exact), learn(fast)
    assert ours["train/value_loss"] == pytest.approx(theirs["train/value_loss"], rel=0.05)


class Figures(BaseCallback):
    """Reads the infos as a callback of SB3 does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self.seen += [info for info in self.locals["infos"] if "terminal_observation" in info]
        return True


def test_callbacks_see_the_figures_of_episodes(make: Make) -> None:
    theirs, ours = Figures(), Figures()
    learn(make(PPO), callback=theirs)
    learn(make(DevicePPO), callback=ours)
    assert len(ours.seen) == len(theirs.seen) == 7
    for one, other in zip(ours.seen, theirs.seen, strict=True):
        assert set(one) == set(other)
        assert one["dice"] == pytest.approx(other["dice"], abs=1e-5)
        assert (one["terminal_observation"] == other["terminal_observation"]).all()


def test_a_callback_ends_the_training(make: Make) -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 4

    model = make(DevicePPO)
    learn(model, 3, Stop())
    assert model.num_timesteps == 4 * ENVS


@pytest.mark.parametrize("credit", ["shared", "own"])
def test_a_saved_model_goes_on(make: Make, tmp_path: Path, credit: str) -> None:
    model = make(DevicePPO, **(OWN if credit == "own" else {}))
    learn(model)
    model.save(tmp_path / "model.zip")
    loaded = DevicePPO.load(tmp_path / "model.zip", env=model.env, device="cpu")
    for name, value in model.policy.state_dict().items():
        assert torch.equal(value, loaded.policy.state_dict()[name])
    loaded.learn(ENVS * STEPS)
    assert loaded.num_timesteps == ENVS * STEPS


def test_each_number_is_paid_its_own_part_of_the_reward(make: Make) -> None:
    model, asked = make(DevicePPO, **OWN, gamma=0.0), []  # nothing follows
    record_credit(model, asked)
    learn(model)
    kept = model.rollout_buffer.transitions
    assert kept.rewards.shape == kept.values.shape == kept.log_probs.shape == (STEPS, ENVS, 16)
    assert torch.allclose(kept.rewards, 16 * torch.stack(asked))


def test_each_number_is_paid_the_value_of_what_the_step_limit_cuts_off(make: Make) -> None:
    model, asked = make(DevicePPO, **OWN, gamma=0.5, n_epochs=1, learning_rate=0.0), []
    record_credit(model, asked)
    callback = Figures()
    learn(model, callback=callback)
    followed = (model.rollout_buffer.transitions.rewards - 16 * torch.stack(asked)) / 0.5  # (T, B, A)
    cut = followed.flatten(0, 1)[followed.flatten(0, 1).abs().sum(dim=1) > 1e-6]
    last = torch.as_tensor(np.stack([info["terminal_observation"] for info in callback.seen]))
    assert torch.allclose(cut, model._judge(last)[1], atol=1e-5)


def record_credit(model: PPO, asked: list[Tensor]) -> None:
    env: Any = model.env
    credit = env.credit
    env.credit = lambda actions: asked.append(credit(actions)) or asked[-1]


def test_probabilities_and_entropies_of_numbers_are_together_those_of_the_action(make: Make) -> None:
    model = make(DevicePPO, **OWN)
    learn(model)
    kept = model.rollout_buffer.transitions
    seen, actions = kept.observations.flatten(0, 1), kept.actions.flatten(0, 1)
    distribution, values = model._judge(seen)
    assert values.shape == (STEPS * ENVS, 16)
    whole = model.policy.get_distribution(seen)
    assert torch.allclose(distribution.log_prob(actions).sum(dim=1), whole.log_prob(actions), rtol=1e-4)
    assert torch.allclose(distribution.entropy().sum(dim=1), whole.entropy(), rtol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(values.mean(dim=1), model.policy.predict_values(seen).flatten(), atol=1e-5)


def test_own_credit_learns_from_a_few_hundred_steps_what_shared_credit_does_not(bank: Bank) -> None:
    def train(**settings: Any) -> float:
        task = build_task("usrl/ContourRefine-v0", bank, {"vertices": 32, "observation": "profile+start"})
        model = DevicePPO(
            ContourPolicy, TaskVecEnv(task, 8), n_steps=20, batch_size=80, gamma=0.5, seed=0, **settings
        )
        torch.manual_seed(0)
        model.learn(1920)
        index = torch.arange(len(bank))
        state = task.reset(index, index)
        for _ in range(task.horizon):
            action, _ = model.predict(np.asarray(task.observe(state)), deterministic=True)
            state, _ = task.step(state, torch.from_numpy(action))
        return float((state.dice - state.initial_dice).mean())

    arguments = {"width": 32, "layers": 3}
    own = train(credit="own", policy_kwargs=arguments | {"critic": "vertex"})
    shared = train(policy_kwargs=arguments)
    assert own > 0.06
    assert own > shared + 0.02


def test_own_credit_wants_a_task_and_a_critic_that_tell_it(make: Make) -> None:
    with pytest.raises(UserError, match="credit: unknown value 'owned'; did you mean 'own'"):
        make(DevicePPO, credit="owned")
    for actions in ("contour", "box"):
        with pytest.raises(
            UserError, match=r"credit: own needs a value of each number .* \{critic: vertex\}"
        ):
            make(DevicePPO, actions, credit="own")
    env: Any = make(DevicePPO, "box").env
    for call in (env.check_credit, lambda: env.credit(torch.zeros(ENVS, 5))):
        with pytest.raises(UserError, match="DarkTask does not tell what each number of an action earns"):
            call()


def test_credit_of_another_shape_is_refused_before_the_training(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = build_task("usrl/ContourRefine-v0", bank, {"vertices": 16})
    monkeypatch.setattr(type(task), "credit", lambda _, state, action: state.dice)
    message = r"credit\(\) of ContourTask must return .*, \(1, 16\) for one episode, got \(1,\)"
    with pytest.raises(UserError, match=message):
        DevicePPO(ContourPolicy, TaskVecEnv(task, 2), n_steps=4, batch_size=4, device="cpu", **OWN)


def test_a_recipe_whose_reward_has_no_parts_is_refused_before_its_training() -> None:
    recipe = AgentRecipe(
        algorithm="ppo-device",
        env={"kwargs": {"reward": "iou"}},
        policy_kwargs={"critic": "vertex"},
        hyperparameters={"credit": "own", "n_steps": 4, "batch_size": 16},
    )
    with pytest.raises(UserError, match="only moves of vertices are credited with parts of a change of Dice"):
        build_untrained(recipe)


def test_a_policy_that_diverged_is_reported(make: Make) -> None:
    model = make(DevicePPO)
    torch.nn.init.constant_(model.policy.log_std, torch.nan)
    with pytest.raises(UserError, match="has diverged: its actions are nan or inf; lower learning_rate"):
        learn(model)


def test_other_environments_are_refused(make: Make) -> None:
    import gymnasium as gym

    single = DummyVecEnv([lambda: gym.make("usrl/ContourRefine-v0")])
    with pytest.raises(UserError, match="needs a TaskVecEnv as it is, got DummyVecEnv; use ppo"):
        DevicePPO(ContourPolicy, single, n_steps=4, batch_size=4, device="cpu").learn(4)
