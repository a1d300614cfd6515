"""Starting from another run's weights, and warming up the value function."""

from pathlib import Path

import pytest
import torch

from usrl.agents.algorithms import build_policy
from usrl.agents.keeper import actor_parameters
from usrl.agents.recipe import AgentRecipe
from usrl.agents.training import start_policy, train_agent
from usrl.data.splits import read_parts
from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe
from usrl.registry import build_task
from usrl.runs.leaks import trace
from usrl.runs.run import Run, create_run
from usrl.runs.tensors import load_tensors, save_tensors

CPU = torch.device("cpu")


@pytest.fixture
def clone(recipe: AgentRecipe, tmp_path: Path) -> Run:
    settings = {"n_steps": 10, "batch_size": 40}
    cloning = recipe.model_copy(update={"algorithm": "bc", "hyperparameters": settings, "total_steps": 160})
    run = create_run(tmp_path / "clone", cloning)
    train_agent(run, CPU)
    return run


def continued(recipe: AgentRecipe, clone: Run, **changes: object) -> AgentRecipe:
    return recipe.model_copy(update={"init_from": str(clone.path)} | changes)


def trained(recipe: AgentRecipe, out: Path) -> dict[str, torch.Tensor]:
    run = create_run(out, recipe)
    train_agent(run, CPU)
    tensors, _ = load_tensors(run.checkpoint_path)
    return {k.removeprefix("policy/"): v for k, v in tensors.items() if k.startswith("policy/")}


def test_ppo_starts_where_its_clone_ended(recipe: AgentRecipe, clone: Run, out: Path) -> None:
    run = create_run(out, continued(recipe, clone))
    train_agent(run, CPU)
    assert [link.path for link in trace(run)] == [out, out / "source"]
    assert read_parts(out / "source" / "split.tsv") == read_parts(clone.split_path)
    best = max(row["val_score"] for row in clone.read_log())
    assert run.read_log()[0]["val_score"] == pytest.approx(best, abs=1e-6)


def test_in_the_warm_up_only_the_value_function_learns(recipe: AgentRecipe, clone: Run, out: Path) -> None:
    start, _ = load_tensors(clone.weights_path)
    after = trained(continued(recipe, clone, value_warmup_steps=320), out)
    changed = {name for name in start if not torch.equal(start[name], after[name])}
    assert changed == {"value_net.weight", "value_net.bias"}


def test_after_the_warm_up_everything_learns(recipe: AgentRecipe, clone: Run, out: Path) -> None:
    start, _ = load_tensors(clone.weights_path)
    after = trained(continued(recipe, clone, value_warmup_steps=80), out)
    assert all(not torch.equal(start[name], after[name]) for name in start)


def test_a_resumed_training_does_not_start_over(recipe: AgentRecipe, clone: Run, out: Path) -> None:
    wanted = continued(recipe, clone)
    end = trained(wanted, out)
    run = create_run(out, wanted, resume=True)
    train_agent(run, CPU, resume=True)
    tensors, _ = load_tensors(run.checkpoint_path)
    assert all(torch.equal(tensors[f"policy/{name}"], value) for name, value in end.items())


def test_the_deviation_of_the_recipe_wins_over_that_of_the_clone(recipe: AgentRecipe, clone: Run) -> None:
    quiet = continued(recipe, clone, policy_kwargs=recipe.policy_kwargs | {"log_std_init": -2.5})
    for chosen, expected in ((quiet, -2.5), (continued(recipe, clone), -1.2)):
        policy = build(chosen)
        start_policy(Run(clone.path, chosen), policy)  # its split is that of the clone
        assert policy.log_std.tolist() == pytest.approx([expected])


def build(recipe: AgentRecipe):  # type: ignore[no-untyped-def]
    from usrl.data.phantom.dataset import default_bank

    task = build_task(recipe.env.id, default_bank(64), dict(recipe.env.kwargs))
    return build_policy(recipe, task.observation_space, task.action_space)


def test_actor_parameters_are_what_actions_depend_on(recipe: AgentRecipe) -> None:
    policy = build(recipe)
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    rest = set(names.values()) - {names[id(parameter)] for parameter in actor_parameters(policy)}
    assert rest == {"value_net.weight", "value_net.bias"}


def test_a_run_of_another_architecture_is_refused(recipe: AgentRecipe, clone: Run, out: Path) -> None:
    wider = continued(recipe, clone, policy_kwargs={"width": 24, "layers": 2})
    with pytest.raises(
        UserError, match=r"init_from: .*clone.*weights of another architecture: 'action_net.head.weight'"
    ):
        train_agent(create_run(out, wider), CPU)


def test_a_start_that_is_not_there_or_not_an_agents_is_refused(recipe: AgentRecipe, tmp_path: Path) -> None:
    nowhere = recipe.model_copy(update={"init_from": str(tmp_path / "nowhere")})
    with pytest.raises(UserError, match="no such run"):
        train_agent(create_run(tmp_path / "a", nowhere), CPU)
    network = create_run(tmp_path / "net", NetworkRecipe(kind="network"))
    save_tensors(network.weights_path, {"a": torch.zeros(1)})
    from_network = recipe.model_copy(update={"init_from": str(network.path)})
    with pytest.raises(UserError, match=r"init_from: .*net: wanted a recipe of kind 'agent', got 'network'"):
        train_agent(create_run(tmp_path / "b", from_network), CPU)


def test_a_start_that_has_learned_from_images_without_labels_is_refused(
    recipe: AgentRecipe, clone: Run, out: Path
) -> None:
    few = recipe.data.model_copy(update={"labels": 0.5})
    run = create_run(out, continued(recipe, clone, data=few))
    with pytest.raises(UserError, match=r"init_from: .*clone has seen the labels of 9 others, .* unused"):
        train_agent(run, CPU)
    train_agent(create_run(out, continued(recipe, clone)), CPU)  # the folder is still free


def test_a_policy_without_a_value_function_cannot_warm_it_up(recipe: AgentRecipe, out: Path) -> None:
    sac = recipe.model_copy(
        update={
            "algorithm": "sac",
            "policy": "CnnPolicy",
            "policy_kwargs": {},
            "hyperparameters": {"buffer_size": 200},
            "value_warmup_steps": 10,
        }
    )
    with pytest.raises(UserError, match="CnnPolicy has no value function of its own"):
        train_agent(create_run(out, sac), CPU)
