"""Q-learning with a table."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from usrl.agents.algorithms import build_policy, find_algorithm
from usrl.agents.players import PolicyPlayer, evaluate_player
from usrl.agents.qlearning import QLearningSettings, TablePolicy, _Learner, train_table
from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.agents.training import _task, _validation, train_agent
from usrl.data.bank import Bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.errors import UserError
from usrl.registry import build_task
from usrl.runs import checkpoints
from usrl.runs.recipes import dump_recipe
from usrl.runs.run import Run, create_run
from usrl.runs.tensors import load_tensors, save_tensors

CPU = torch.device("cpu")
KWARGS: dict[str, Any] = {"grid": 1, "action": "raster", "observation": "features", "boxes": 1}


@pytest.fixture
def table(recipe: AgentRecipe) -> AgentRecipe:
    """A short training of a table."""
    env = EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs=KWARGS)
    changed = {"env": env, "algorithm": "q-learning", "policy": "TablePolicy", "policy_kwargs": {}}
    return recipe.model_copy(update=changed | {"hyperparameters": {"gamma": 0.5}})


def small_policy() -> TablePolicy:
    observations = gym.spaces.Box(np.zeros(3, np.uint8), np.array([1, 4, 2], np.uint8), dtype=np.uint8)
    return TablePolicy(observations, gym.spaces.Discrete(9))


def test_every_observation_has_a_row_of_its_own() -> None:
    policy = small_policy()
    every = torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(3)).to(torch.uint8)
    assert policy.rows(every).tolist() == [[row] for row in range(30)]
    assert policy.values.shape == (30, 9)


def test_a_state_that_was_never_met_changes_nothing() -> None:
    action, _ = small_policy().predict(np.array([[1, 2, 0], [0, 0, 0]], np.uint8), deterministic=True)
    assert action.tolist() == [4, 4]


def test_the_policy_acts_by_the_highest_value() -> None:
    policy = small_policy()
    policy.values[7, 2] = 1.0
    action, _ = policy.predict(np.array([[0, 2, 1]], np.uint8), deterministic=True)
    assert action.tolist() == [2]


class Chain(TaskVecEnv):
    """Three places in a row; action 5 goes right and the last step is paid 1, every other goes left."""

    def __init__(self) -> None:
        self.num_envs = 4
        self.place = np.zeros(4, np.int64)

    def reset(self) -> np.ndarray:
        return self.place[:, None].astype(np.uint8)

    def step(self, actions: np.ndarray):  # type: ignore[no-untyped-def, override]
        right = actions == 5
        paid = (right & (self.place == 2)).astype(np.float32)
        self.place = np.where(right, np.minimum(self.place + 1, 2), np.maximum(self.place - 1, 0))
        return self.reset(), paid, np.zeros(4, bool), [{} for _ in range(4)]


def test_values_converge_to_those_of_the_bellman_equation() -> None:
    space = gym.spaces.Box(np.zeros(1, np.uint8), np.array([2], np.uint8), dtype=np.uint8)
    policy = TablePolicy(space, gym.spaces.Discrete(9))
    settings = QLearningSettings(learning_rate=0.5, gamma=0.5, epsilon_start=1.0, epsilon_end=1.0)
    learner, rng = _Learner(policy, settings, Chain()), np.random.default_rng(0)
    for _ in range(4000):
        learner.step(rng, 0.0)
    # At the end 1 / (1 - gamma) = 2; one and two steps before it half and a quarter of that.
    assert policy.values[:, 5].tolist() == pytest.approx([0.5, 1.0, 2.0], abs=0.02)
    assert policy.values[0, 0] == pytest.approx(0.25, abs=0.02)


class Coin(TaskVecEnv):
    """One place without end; action 1 is paid 1 and action 0 nothing."""

    def __init__(self) -> None:
        self.num_envs = 4

    def reset(self) -> np.ndarray:
        return np.zeros((4, 1), np.uint8)

    def step(self, actions: np.ndarray):  # type: ignore[no-untyped-def, override]
        return self.reset(), actions.astype(np.float32), np.zeros(4, bool), [{} for _ in range(4)]


@pytest.mark.parametrize(("on_policy", "wanted"), [(False, [1.0, 2.0]), (True, [0.5, 1.5])])
def test_sarsa_learns_the_values_of_the_policy_that_explores(on_policy: bool, wanted: list[float]) -> None:
    space = gym.spaces.Box(np.zeros(1, np.uint8), np.zeros(1, np.uint8), dtype=np.uint8)
    policy = TablePolicy(space, gym.spaces.Discrete(2))
    settings = QLearningSettings(
        learning_rate=0.02, gamma=0.5, epsilon_start=1.0, epsilon_end=1.0, on_policy=on_policy
    )
    learner, rng = _Learner(policy, settings, Coin()), np.random.default_rng(0)
    for _ in range(1500):
        learner.step(rng, 0.0)
    # The next action is paid 1/2 on average, so its value v = 1/2 + v/2 is 1; the best action's is 2.
    assert policy.values[0].tolist() == pytest.approx(wanted, abs=0.06)


def test_tiled_observations_share_more_rows_the_nearer_they_are() -> None:
    high = np.array([34, 34, 34, 4], np.uint8)
    space = gym.spaces.Box(np.zeros(4, np.uint8), high, dtype=np.uint8)
    policy = TablePolicy(space, gym.spaces.Discrete(6), tilings=64)
    assert policy.values.shape == (27 * 64 * 5, 6)

    def shared(one: list[int], other: list[int]) -> int:
        rows = policy.rows(torch.tensor([one, other], dtype=torch.uint8))
        assert rows.shape == (2, 64)
        assert (rows[0] != rows[0, :1]).sum() == 63  # every tiling has rows of its own
        return int((rows[0] == rows[1]).sum())

    start = [10, 20, 5, 2]
    counts = [shared(start, [10 + step, 20, 5, 2]) for step in range(0, 24, 2)]
    assert counts[0] == 64
    assert counts == sorted(counts, reverse=True)
    # Tilings end at one of 64 places of a part, which is 17.5 numbers wide: two steps cross 2 / 17.5 of them.
    assert counts[1] == pytest.approx(64 * (1 - 2 / 17.5), abs=1)
    assert counts[-1] == 0
    assert shared(start, [10, 20, 5, 3]) == 0  # the last number is not tiled
    corners = torch.cartesian_prod(*[torch.tensor([0, int(top)]) for top in high]).to(torch.uint8)
    assert 0 <= policy.rows(corners).min()
    assert policy.rows(corners).max() < len(policy.values)


def test_a_tiled_value_is_a_sum_that_learns_at_the_full_rate() -> None:
    space = gym.spaces.Box(np.zeros(2, np.uint8), np.array([9, 1], np.uint8), dtype=np.uint8)
    policy = TablePolicy(space, gym.spaces.Discrete(6), tilings=8)
    learner = _Learner.__new__(_Learner)
    learner._policy, learner._settings = policy, QLearningSettings(learning_rate=0.25)
    rows = policy.rows(torch.tensor([[3, 0]])).numpy()
    learner._learn(rows * 6 + 4, np.array([1.0]))
    assert float(policy.values[rows].sum(dim=1)[0, 4]) == pytest.approx(0.25)
    action, _ = policy.predict(np.array([[4, 0], [4, 1]], np.uint8), deterministic=True)
    assert action.tolist() == [4, 0]  # a near one knows it, and that of another place does not


def test_an_even_number_of_actions_has_no_middle() -> None:
    space = gym.spaces.Box(np.zeros(1, np.uint8), np.array([3], np.uint8), dtype=np.uint8)
    assert not TablePolicy(space, gym.spaces.Discrete(6)).values.any()


class Cut(TaskVecEnv):
    """Episodes of one step from place 0 to place 1, which the limit of steps ends."""

    def __init__(self) -> None:
        self.num_envs = 1

    def reset(self) -> np.ndarray:
        return np.zeros((1, 1), np.uint8)

    def step(self, actions: np.ndarray):  # type: ignore[no-untyped-def, override]
        info = {"terminal_observation": np.ones(1, np.uint8), "TimeLimit.truncated": True}
        return self.reset(), np.zeros(1, np.float32), np.ones(1, bool), [info]


def test_what_comes_after_the_limit_of_steps_counts() -> None:
    space = gym.spaces.Box(np.zeros(1, np.uint8), np.array([1], np.uint8), dtype=np.uint8)
    policy = TablePolicy(space, gym.spaces.Discrete(9))
    policy.values[1] = 2.0
    settings = QLearningSettings(learning_rate=0.5, gamma=0.5, epsilon_start=0.0, epsilon_end=0.0)
    learner = _Learner(policy, settings, Cut())
    for _ in range(30):
        learner.step(np.random.default_rng(0), 0.0)
    assert float(policy.values[0, 4]) == pytest.approx(1.0, abs=1e-3)


def deceptive_bank() -> Bank:
    """Return dark lesions beside a bright layer, which Otsu's threshold separates instead of the lesion."""
    rng, rows, columns = np.random.default_rng(0), *np.ogrid[:64, :64]
    targets = [np.hypot(rows - 40, columns - x) < 10 for x in (24, 30, 36, 40)]
    levels = [np.where(t, 60, np.where(rows < 32, 230, 90)) + rng.normal(0, 6, t.shape) for t in targets]
    images = torch.from_numpy(np.stack(levels).clip(1, 255).astype(np.uint8))
    return Bank(images, torch.from_numpy(np.stack(targets)), None, tuple("abcd"))


def test_a_table_learns_and_its_run_opens(table: AgentRecipe, out: Path) -> None:
    longer = table.model_copy(update={"total_steps": 8000, "evaluate_every": 2000, "num_envs": 32})
    run = create_run(out, longer)
    task = build_task(longer.env.id, deceptive_bank(), KWARGS | {"margin": 0.5, "support": "rectangle"})
    train_table(run, task, task, resume=False)
    rows = run.read_log()
    assert [row["step"] for row in rows] == [0, 2016, 4032, 6048, 8000]
    assert rows[0]["val_score"] == rows[0]["val_initial_dice"]
    policy = build_policy(longer, task.observation_space, task.action_space)
    policy.load_state_dict(load_tensors(run.weights_path)[0])
    reached = evaluate_player(task, PolicyPlayer(policy, task))
    assert reached["initial_dice"] < 0.7
    assert reached["dice"] > reached["initial_dice"] + 0.2


def test_a_tiled_table_that_learns_by_sarsa_is_rebuilt_from_its_recipe(table: AgentRecipe, out: Path) -> None:
    protocol = {"cut": "subimages", "support": "rectangle", "action": "direct", "observation": "shape"}
    changed = {
        "env": EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs=protocol | {"boxes": 1, "solved_ends": True}),
        "policy_kwargs": {"tilings": 16},
        "hyperparameters": {"on_policy": True},
    }
    run = create_run(out, table.model_copy(update=changed))
    train_agent(run, CPU)
    policy = build_policy(
        run.recipe_as(AgentRecipe),
        *(getattr(task_of(run), f"{of}_space") for of in ("observation", "action")),
    )
    policy.load_state_dict(load_tensors(run.checkpoint_path)[0])
    assert policy.values.shape == (27 * 16 * 21, 6)
    assert policy.values.any()


def task_of(run: Run) -> Any:
    """Return the task of a run, on a drawn bank."""
    env = run.recipe_as(AgentRecipe).env
    return build_task(env.id, deceptive_bank(), env.kwargs)


def test_validation_ends_no_episode_on_what_only_the_target_tells(table: AgentRecipe) -> None:
    kwargs = KWARGS | {"solved_ends": True}
    recipe = table.model_copy(update={"env": EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs=kwargs)})
    zero = torch.zeros(1, dtype=torch.int64)
    training, validation = (make(recipe, deceptive_bank(), CPU) for make in (_task, _validation))
    assert training.terminated(training.reset(zero, zero)) is not None
    assert validation.terminated(validation.reset(zero, zero)) is None


def test_two_trainings_of_one_seed_agree(table: AgentRecipe, tmp_path: Path) -> None:
    runs = [create_run(tmp_path / name, table) for name in "ab"]
    for run in runs:
        train_agent(run, CPU)
    one, other = (load_tensors(run.checkpoint_path)[0]["values"] for run in runs)
    assert torch.equal(one, other)
    assert (one != small_policy().values[0, 0]).any()


def test_a_resumed_table_goes_on_with_a_whole_log(table: AgentRecipe, out: Path) -> None:
    train_agent(create_run(out, table.model_copy(update={"total_steps": 160})), CPU)
    (out / "recipe.yaml").write_text(dump_recipe(table))
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 240, "seconds": 1.0, "val_score": 0.5}) + "\n")
    run = create_run(out, table, resume=True)
    train_agent(run, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [0, 160, 320]
    assert load_tensors(run.checkpoint_path)[1]["step"] == 320


def test_a_table_starts_from_that_of_another_run(table: AgentRecipe, tmp_path: Path) -> None:
    first = create_run(tmp_path / "first", table)
    train_agent(first, CPU)
    start = load_tensors(first.weights_path)[0]["values"]
    start[:, 0] = 100.0
    save_tensors(first.weights_path, {"values": start})
    second = create_run(tmp_path / "second", table.model_copy(update={"init_from": str(first.path)}))
    train_agent(second, CPU)
    learned = load_tensors(second.checkpoint_path)[0]["values"] != start
    assert 0 < learned.sum() <= table.total_steps  # each step changes one value; the rest is as it came


def test_a_table_does_not_start_from_a_network(table: AgentRecipe, recipe: AgentRecipe, out: Path) -> None:
    agent = create_run(out.with_name("agent"), recipe)
    train_agent(agent, CPU)
    with pytest.raises(UserError, match=r"init_from: .*another architecture: .* both recipes want the same"):
        train_agent(create_run(out, table.model_copy(update={"init_from": str(agent.path)})), CPU)


def test_checkpoints_and_evaluations_have_intervals_of_their_own(
    table: AgentRecipe, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def keep(path: Path, parts: object, facts: dict[str, int]) -> None:
        written.append(facts["step"])

    monkeypatch.setattr(checkpoints, "save_checkpoint", keep)
    run = create_run(out, table.model_copy(update={"checkpoint_every": 100, "evaluate_every": 200}))
    train_agent(run, CPU)
    # Steps go by eights: a hundred are reached after 104.
    assert written == [0, 104, 208, 312, 320]
    assert [row["step"] for row in run.read_log()] == [0, 200, 320]


def test_resuming_a_finished_table_adds_nothing(table: AgentRecipe, out: Path) -> None:
    run = create_run(out, table)
    train_agent(run, CPU)
    before = run.read_log(), run.checkpoint_path.stat().st_mtime_ns
    train_agent(create_run(out, table, resume=True), CPU, resume=True)
    assert (run.read_log(), run.checkpoint_path.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "CnnPolicy"}, "q-learning needs TablePolicy, got 'CnnPolicy'"),
        ({"policy_kwargs": {"tilings": -1}}, "policy_kwargs: tilings: .*greater than or equal to 0"),
        ({"policy_kwargs": {"net_arch": 64}}, "policy_kwargs: unknown key 'net_arch'"),
        ({"hyperparameters": {"gama": 0.5}}, "unknown key 'gama'; did you mean 'gamma'"),
        (
            {"env": EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs={"observation": "features"})},
            "needs a Discrete action, got MultiDiscrete",
        ),
        (
            {"env": EnvRecipe(id="usrl/ThresholdSelect-v0", kwargs={"action": "raster"})},
            "needs observations of at most 1000000 states",
        ),
        ({"env": EnvRecipe()}, "needs a Discrete action, got Box"),
    ],
)
def test_recipes_that_no_table_fits_are_explained(
    table: AgentRecipe, out: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train_agent(create_run(out, table.model_copy(update=change)), CPU)


def test_a_misspelt_algorithm_is_offered_the_table() -> None:
    with pytest.raises(UserError, match="unknown name 'q-lerning'; did you mean 'q-learning'"):
        find_algorithm("q-lerning")
