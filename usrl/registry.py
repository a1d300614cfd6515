"""The one table of environments, and how a foreign one joins it.

Tasks are named by import path, so that `import usrl` registers every environment and loads none of them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import gymnasium as gym
import numpy as np

from usrl.errors import UserError, suggest
from usrl.learners import load_object

if TYPE_CHECKING:
    import torch

    from usrl.data.cases import Cases
    from usrl.envs.task import Task

IMAGES = "images"
"""Kind of the cases of a `usrl.Bank`; `usrl.data.dataset.IMAGES` is the same, but loads pydantic."""


@dataclass(frozen=True)
class Row:
    """A registered environment. Each import path may be replaced by the object itself.

    Attributes:
        task: Import path ``module:name`` of the task's class; made as ``task(cases, settings, horizon)``.
        settings: Import path of its settings, a `usrl.strict.Strict`; the default has none.
        max_episode_steps: Step limit.
        summary: One line for listings.
        cases: Kind of the cases of its episodes (`usrl.data.cases.Cases`).
        default_cases: Import path of a function without arguments that makes the cases if none are given.
        placement: Import path of the class that begins episodes on a native image and brings masks back
            (`usrl.envs.placement.Placement`); None for an environment whose agents make no masks.
        players: Import paths of scripted players by name; each is made with the task.
        plots: Import path of a function that draws plots of its own for the report of players
            (`usrl.evaluation.episodes.Plots`).
        sources: Arguments that name runs whose weights the task uses, such as networks of features. The check
            for leaks treats what these have learned from as if the agent had learned from it.
    """

    task: Any
    max_episode_steps: int
    settings: Any = "usrl.strict:Strict"
    summary: str = ""
    cases: str = IMAGES
    default_cases: str | Callable[[], Any] | None = None
    placement: Any = None
    players: Mapping[str, Any] = field(default_factory=dict)
    plots: Any = None
    sources: tuple[str, ...] = ()


REGISTRY: dict[str, Row] = {}
"""All environments by id; `register` adds to it."""

_OURS = {
    "usrl/ContourRefine-v0": Row(
        task="usrl.envs.contour.task:ContourTask",
        settings="usrl.envs.contour.settings:ContourSettings",
        max_episode_steps=10,
        summary="Move the vertices of a closed contour until it fits the lesion",
        placement="usrl.envs.contour.placement:ContourPlacement",
    ),
    "usrl/ContourRefine-v1": Row(
        task="usrl.envs.contour.task:ContourTask",
        settings="usrl.envs.contour.settings:SmoothContourSettings",
        max_episode_steps=10,
        summary="The same with five smooth moves, which stock PPO learns with its defaults",
        placement="usrl.envs.contour.placement:ContourPlacement",
    ),
    "usrl/ContourCorrect-v0": Row(
        task="usrl.envs.correct.task:CorrectTask",
        settings="usrl.envs.correct.settings:CorrectSettings",
        max_episode_steps=36,
        summary="Move a contour between the corrections of a simulated user",
        placement="usrl.envs.correct.placement:CorrectPlacement",
    ),
    "usrl/ThresholdSelect-v0": Row(
        task="usrl.envs.threshold.task:ThresholdTask",
        settings="usrl.envs.threshold.settings:ThresholdSettings",
        max_episode_steps=10,
        summary="Set a threshold and an opening for every tile until the mask fits the lesion",
        placement="usrl.envs.threshold.placement:ThresholdPlacement",
    ),
    "usrl/ProbeNavigate-v0": Row(
        task="usrl.envs.probe.task:ProbeTask",
        settings="usrl.envs.probe.settings:ProbeSettings",
        max_episode_steps=60,
        summary="Move a probe over a body until its slice shows the standard plane, and stop",
        cases="volumes",
        default_cases="usrl.data.bodies.dataset:default_volumes",
        players={
            "sweep": "usrl.agents.navigation:SweepPlayer",
            "servo": "usrl.agents.navigation:ServoPlayer",
        },
        plots="usrl.evaluation.report.navigation_plots:plot_navigation",
    ),
    "usrl/VideoSummary-v0": Row(
        task="usrl.envs.summary.task:SummaryTask",
        settings="usrl.envs.summary.settings:SummarySettings",
        max_episode_steps=160,
        summary="Keep the frames of a clip that are worth keeping",
        cases="clips",
        default_cases="usrl.data.clips.lung:default_clips",
        players={
            "uniform": "usrl.agents.summaries:UniformPlayer",
            "random": "usrl.agents.summaries:RandomSummaryPlayer",
            "k-medoids": "usrl.agents.summaries:MedoidsPlayer",
            "classifier": "usrl.agents.summaries:ClassifierPlayer",
            "motion": "usrl.agents.summaries:MotionPlayer",
            "still": "usrl.agents.summaries:StillPlayer",
            "sharp": "usrl.agents.summaries:SharpPlayer",
            "known": "usrl.agents.summaries:KnownPlayer",
        },
        plots="usrl.evaluation.report.summary_plots:plot_summaries",
        sources=("features",),
    ),
}


def register(env_id: str, **row: Any) -> None:
    """Register an environment with usrl and with Gymnasium.

    Then `gymnasium.make`, `gymnasium.make_vec`, `TaskVecEnv.make`, recipes and the command line know it.

    Args:
        env_id: ``namespace/Name-vN``.
        row: What `Row` holds: ``task`` and ``max_episode_steps``, and what differs from the defaults.

    Raises:
        UserError: If the id is malformed or taken, or an argument is missing or unknown.
    """
    if not re.fullmatch(r"[\w-]+/[\w-]+-v\d+", env_id):
        raise UserError(f"an id must be namespace/Name-vN, such as mine/Toy-v0, got {env_id!r}")
    if env_id in REGISTRY:
        raise UserError(f"{env_id} is registered already; choose another name or the next version")
    try:
        entry = Row(**row)
    except TypeError as error:
        raise UserError(f"{env_id}: {error}; register() takes {', '.join(Row.__annotations__)}") from None
    gym.register(
        id=env_id,
        entry_point="usrl.envs.gymnasium:TaskEnv",
        vector_entry_point="usrl.envs.gymnasium:TaskVectorEnv",
        max_episode_steps=entry.max_episode_steps,
        kwargs={"env_id": env_id},
    )
    REGISTRY[env_id] = entry


def register_environments() -> None:
    """Register our own environments."""
    for env_id, row in _OURS.items():
        register(env_id, **vars(row))


def find_row(env_id: str) -> Row:
    """Return the row of an environment. An unknown id is refused, and the nearest one is suggested."""
    if env_id not in REGISTRY:
        raise UserError(f"unknown environment {env_id!r}; {suggest(env_id, REGISTRY)}")
    return REGISTRY[env_id]


def find_sources(env_id: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the runs whose weights a task with these settings uses, by the argument that names each."""
    from usrl.strict import check

    row = find_row(env_id)
    if not row.sources:
        return {}
    checked = check(load_object(row.settings), dict(settings), env_id)
    return {name: getattr(checked, name) for name in row.sources}


def build_task(
    env_id: str, cases: "Cases", settings: Mapping[str, Any], horizon: int | None = None
) -> "Task[Any]":
    """Build the task of an environment on the device of its cases.

    ``settings`` holds the arguments that differ from the defaults. The horizon is the registered step limit
    if it is None. In a process of `multiprocessing`, torch then uses one thread.
    """
    from usrl.compute.devices import spare_threads_in_workers
    from usrl.strict import check

    spare_threads_in_workers()
    row = find_row(env_id)
    _check_cases(env_id, row, cases)
    horizon = row.max_episode_steps if horizon is None else horizon
    if not isinstance(horizon, int | np.integer) or isinstance(horizon, bool) or not 1 <= horizon < 2**31:
        raise UserError(
            "the step limit (horizon, or max_episode_steps of a vector) must be a whole number from 1 on, "
            f"got {horizon!r}"
        )
    # Settings come from arrays too: a strict model takes Python's numbers only.
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in settings.items()}
    checked = check(load_object(row.settings), plain, env_id)
    task: Task[Any] = load_object(row.task)(cases, checked, int(horizon))
    return task


def drop_training_only(env_id: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an environment without those that only a training may have.

    A setting is one of these if its field has ``training_only`` in its ``json_schema_extra``: it tells an
    episode what is known of the target.
    """
    fields = load_object(find_row(env_id).settings).model_fields
    return {
        name: value
        for name, value in settings.items()
        if name not in fields or not (fields[name].json_schema_extra or {}).get("training_only")
    }


def make_task(
    env_id: str,
    cases: "Cases | None",
    device: "torch.device | str",
    settings: Mapping[str, Any],
    horizon: int | None,
) -> "Task[Any]":
    """Build the task of an adapter on a device such as ``auto``, with default cases if none are given."""
    from usrl.compute.devices import select_device

    row, where = find_row(env_id), select_device(str(device), "device")
    if cases is None:
        default = row.default_cases
        if default is None and row.cases == IMAGES:
            default = "usrl.data.phantom.dataset:default_bank"
        if default is None:
            raise UserError(f"{env_id} has no default cases; give it {row.cases} as cases=")
        cases = load_object(default)()
    _check_cases(env_id, row, cases)
    return build_task(env_id, cases.to(where), settings, horizon)


def describe_arguments(env_id: str) -> str:
    """Return the arguments of an environment as a Markdown table, from the fields of its settings."""
    fields = load_object(find_row(env_id).settings).model_fields
    if not fields:
        return f"{env_id} has no arguments"
    lines = ["| name | default | meaning | unit |", "| --- | --- | --- | --- |"]
    for name, info in fields.items():
        default = f'"{info.default}"' if isinstance(info.default, str) else info.default
        unit = (info.json_schema_extra or {}).get("unit", "")
        text = info.description or ""
        if (info.json_schema_extra or {}).get("training_only"):
            text += ", in training only"
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        if not all(f"`{choice}`" in text for choice in choices):
            text += ": " + ", ".join(f"`{choice}`" for choice in choices)
        lines.append(f"| `{name}` | `{default}` | {text} | {unit} |")
    return "\n".join(lines)


def _check_cases(env_id: str, row: Row, cases: Any) -> None:
    """Refuse what are not the cases of an environment."""
    from usrl.data.cases import Cases

    remedy = "Bank.from_arrays(images, targets) or Bank.from_samples(samples) makes images into cases"
    if not isinstance(cases, Cases):
        wanted = "a usrl.Bank" if row.cases == IMAGES else f"usrl.data.cases.Cases of {row.cases}"
        raise UserError(f"cases must be {wanted} or None, got a {type(cases).__name__}; {remedy}")
    if cases.kind != row.cases:
        raise UserError(f"{env_id} is about {row.cases}, got cases of {cases.kind}; choose other cases")
