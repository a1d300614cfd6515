"""Training an agent with a Stable-Baselines3 algorithm, killable and resumable."""

from operator import attrgetter
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from usrl.agents.algorithms import BUILD_ERRORS, check_hyperparameters, find_algorithm, find_policy
from usrl.agents.cases import load_training_cases, make_example
from usrl.agents.keeper import Keeper, TrainingCallback, ValueWarmup, diverged
from usrl.agents.players import PLAYED_FIGURES
from usrl.agents.qlearning import Q_LEARNING, build_table, train_table
from usrl.agents.recipe import AgentRecipe
from usrl.envs.sb3 import TaskVecEnv
from usrl.envs.task import Masked, Task
from usrl.errors import UserError, suggest
from usrl.registry import build_task, drop_training_only
from usrl.runs.checkpoints import Parts, Record
from usrl.runs.run import Run
from usrl.runs.starting import load_start, open_start


def train_agent(run: Run, device: torch.device, *, resume: bool = False) -> None:
    """Train the agent of a run's recipe and write weights, checkpoint, log and TensorBoard scalars.

    The weights are those of the evaluation with the best mean score over the validation cases. ``resume``
    goes on from the run's checkpoint if it has one. `q-learning` writes no scalars.

    Raises:
        UserError: If the recipe, its data set or the checkpoint is unusable.
    """
    recipe = run.recipe_as(AgentRecipe)
    train, val = load_training_cases(recipe, run)
    if recipe.algorithm == Q_LEARNING:  # a table gains nothing from a GPU
        cpu = torch.device("cpu")
        train_table(run, _task(recipe, train, cpu), _validation(recipe, val, cpu), resume=resume)
        return
    validation = _validation(recipe, val, device)
    model = build_model(recipe, TaskVecEnv(_task(recipe, train, device), recipe.num_envs), device)
    record = Record(run, model.policy, _parts(model))
    if record.begin(resume=resume):
        model.num_timesteps = record.step
        # All generators go on from numbers that the training has not used. NumPy's takes 32 bits.
        model.set_random_seed((recipe.seed + record.step) % 2**32)
    elif recipe.init_from:
        start_policy(run, model.policy)
    keeper = Keeper(record, recipe, model.policy, validation)
    callbacks: list[BaseCallback] = [TrainingCallback(keeper)]
    if recipe.value_warmup_steps:
        callbacks.append(ValueWarmup(model.policy, recipe.value_warmup_steps))
    remaining = recipe.total_steps - record.step
    if remaining > 0:
        folder = str(run.path / "tb")
        model.set_logger(Logger(folder, [_Board(folder, record.step + 1 if record.step else 0)]))
        with keeper.bar:
            _learn(model, remaining, callbacks)


class _Board(TensorBoardOutputFormat):
    """TensorBoard's scalars from a step on. It hides those that a killed training wrote after that step."""

    def __init__(self, folder: str, first_step: int) -> None:
        self.writer = SummaryWriter(log_dir=folder, purge_step=first_step)
        self._is_closed = False


def _learn(model: BaseAlgorithm, steps: int, callbacks: list[BaseCallback]) -> None:
    """Go on for some steps; raise a `UserError` if the policy has diverged."""
    try:
        model.learn(steps, callback=callbacks, reset_num_timesteps=False)
    except ValueError as error:
        # Torch refuses means that are not finite with this text. The weights may still be finite.
        if "of distribution" in str(error):
            raise diverged(model.num_timesteps) from None
        raise


def start_policy(run: Run, policy: BasePolicy) -> None:
    """Load the weights of the run that a recipe's ``init_from`` names into its policy (`usrl.runs.starting`).

    The run must have its ``split.tsv``. The standard deviation of the actions starts at
    ``policy_kwargs.log_std_init`` if the recipe has it: cloning does not train it, and its value may be too
    much noise for a clone.
    """
    recipe = run.recipe_as(AgentRecipe)
    load_start(run, recipe, policy)
    initial, log_std = recipe.policy_kwargs.get("log_std_init"), getattr(policy, "log_std", None)
    if isinstance(initial, int | float) and isinstance(log_std, nn.Parameter):
        with torch.no_grad():
            log_std.fill_(initial)


def build_untrained(recipe: AgentRecipe) -> BasePolicy:
    """Return the policy that a recipe trains, before its first step.

    This finds mistakes in a recipe before its training begins. It reads the run that the recipe starts from,
    but not the data set.
    """
    task = _task(recipe, make_example(recipe), torch.device("cpu"))
    if recipe.algorithm == Q_LEARNING:
        policy: BasePolicy = build_table(recipe, task)[0]
    else:
        policy = build_model(recipe, TaskVecEnv(task, recipe.num_envs), torch.device("cpu")).policy
    zero = torch.zeros(1, dtype=torch.int64)
    known = [*task.figures(task.reset(zero, zero)), *PLAYED_FIGURES]
    if recipe.select_by not in known:
        raise UserError(f"select_by: unknown figure {recipe.select_by!r}; {suggest(recipe.select_by, known)}")
    if recipe.value_warmup_steps:
        ValueWarmup(policy, recipe.value_warmup_steps)
    if recipe.init_from:
        open_start(recipe, policy)
    return policy


def _task(recipe: AgentRecipe, cases: Any, device: torch.device) -> Task[Any]:
    env = recipe.env
    return build_task(env.id, cases.to(device), env.kwargs, env.max_episode_steps)


def _validation(recipe: AgentRecipe, cases: Any, device: torch.device) -> Task[Any]:
    """Return a task that ends no episode on what only the target tells."""
    env = recipe.env
    kwargs = drop_training_only(env.id, env.kwargs)
    return build_task(env.id, cases.to(device), kwargs, env.max_episode_steps)


def build_model(recipe: AgentRecipe, venv: TaskVecEnv, device: torch.device) -> BaseAlgorithm:
    """Return the untrained algorithm of a recipe with its environments."""
    algorithm = find_algorithm(recipe.algorithm)
    hyperparameters = check_hyperparameters(recipe, algorithm)
    try:
        model = algorithm(
            find_policy(recipe.policy, algorithm),
            venv,
            seed=recipe.seed,
            device=device,
            policy_kwargs=dict(recipe.policy_kwargs),
            **hyperparameters,
        )
    except UserError:
        raise
    except BUILD_ERRORS as error:
        raise UserError(
            f"{recipe.algorithm} with {recipe.policy} cannot be built for {recipe.env.id}: "
            f"{str(error)[:500]}; check algorithm, policy, policy_kwargs and hyperparameters"
        ) from None
    if algorithm.__name__ == "MaskablePPO" and not isinstance(venv.task, Masked):
        raise UserError(
            f"{recipe.algorithm} needs an environment that masks actions, got {recipe.env.id}; choose ppo"
        )
    # An on-policy algorithm would collect one rollout past the end and learn nothing before it.
    rollout = model.n_steps * recipe.num_envs if isinstance(model, OnPolicyAlgorithm) else 0
    if rollout > recipe.total_steps:
        raise UserError(
            f"one rollout of {rollout} steps (n_steps x num_envs) exceeds total_steps {recipe.total_steps}; "
            "set hyperparameters.n_steps or num_envs lower"
        )
    return model


def _parts(model: BaseAlgorithm) -> Parts:
    """Return what a checkpoint of an algorithm holds."""
    modules, variables = model._get_torch_save_params()
    parts: dict[str, nn.Module | Optimizer] = {}
    for name in modules:
        part = attrgetter(name)(model)
        parts[f"{name}/" if isinstance(part, nn.Module) else f"{name}/optimizer."] = part
    if variables:  # such as SAC's temperature. As parameters they share memory with the model's tensors
        parts["variables/"] = nn.ParameterDict({name: attrgetter(name)(model) for name in variables})
    return parts
