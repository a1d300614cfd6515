"""Comparing players on the same episodes: for environments whose agents make no masks.

Every player plays one episode for each case, by the same keys: it starts from the same state and meets the
same chance. The figures are those of the task.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from usrl.agents.algorithms import load_policy
from usrl.agents.players import PLAYERS, Played, Player, PolicyPlayer, begin_evaluation, play
from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.envs.batch import to_numpy
from usrl.envs.task import Drawn, Task
from usrl.errors import UserError, suggest
from usrl.evaluation.compare import claimed, describe_comparison, name_runs, write_report
from usrl.evaluation.report.columns import print_figures, tabulate_figures
from usrl.evaluation.report.figures import encode_film, plot_curves, plot_scores
from usrl.evaluation.report.gallery import Shown, pick
from usrl.evaluation.report.html import list_curves, render
from usrl.evaluation.statistics.summary import (
    Case,
    average_runs,
    compare_figures,
    group_cases,
    summarise_figures,
)
from usrl.learners import load_object
from usrl.progress import show_progress
from usrl.registry import find_row
from usrl.runs.run import Run

Plots = Callable[[Any, Mapping[str, Played[Any]], Mapping[str, Player]], Mapping[str, str]]
"""Takes a task, the episodes of each player, and the players; returns plots as data URIs by their titles."""
TEACHER = "teacher"
TESTED = ("score", "success", "f1")
"""Figures that are tested between players and shown with their intervals, if the task has them."""


def find_environment(specs: Sequence[str], runs: Sequence[Run], env_id: str | None) -> EnvRecipe | None:
    """Return the environment that players play in; None if methods segment images.

    Agents play if the call names an environment or a scripted player, or a run's environment makes no masks.

    Raises:
        UserError: If the runs play in different environments, or nothing names the environment.
    """
    envs = [run.recipe.env for run in runs if isinstance(run.recipe, AgentRecipe)]
    is_scripted = any(spec in PLAYERS for spec in specs)
    if not env_id and not is_scripted and all(find_row(env.id).placement for env in envs):
        return None
    return choose_environment(envs, env_id)


def choose_environment(envs: Sequence[EnvRecipe], env_id: str | None) -> EnvRecipe:
    """Return the one environment of agents, or that of an id.

    Raises:
        UserError: If there are different environments, or none.
    """
    if env_id and not envs:
        return EnvRecipe(id=env_id, max_episode_steps=find_row(env_id).max_episode_steps)
    if not envs:
        raise UserError("players play in an environment; name a run of an agent, or --env ID")
    if any(env != envs[0] for env in envs) or env_id not in (None, envs[0].id):
        named = ", ".join(dict.fromkeys([*([env_id] if env_id else []), *(env.id for env in envs)]))
        raise UserError(f"players play in one environment with the same settings, got {named}; separate them")
    return envs[0]


def open_players(
    specs: Sequence[str], runs: Mapping[str, Run], task: Task[Any], env: EnvRecipe, device: torch.device
) -> list[Player]:
    """Return the players that a command line names.

    A name is a run's, or a scripted player's: of `usrl.agents.players.PLAYERS` or of the environment's row.

    Raises:
        UserError: If a name is unknown, or a run has no agent.
    """
    scripted = PLAYERS | dict(find_row(env.id).players)
    players: list[Player] = []
    for spec in specs:
        if spec in runs:
            run = runs[spec]
            policy = load_policy(run.weights_path, run.recipe_as(AgentRecipe), task, device)
            players.append(PolicyPlayer(policy, task, run.name))
        elif spec in scripted:
            players.append(load_object(scripted[spec])(task))
        else:
            raise UserError(f"{spec!r} is neither a run nor a player; {suggest(spec, scripted)}")
    return players


def compare_players(
    task: Task[Any],
    players: Sequence[Player | Sequence[Player]],
    out: Path | str,
    env_id: str,
    *,
    dataset: str,
    split: str,
    seed: int = 0,
    curves: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """Let players play the same episodes and write the report.

    Writes ``cases.csv`` (a row per case and player), ``results.json`` and ``report.html``.

    Args:
        task: Task over the cases to play.
        players: In the order of the tables; equal names get numbers. Several runs of one method add their
            mean, episode by episode, which replaces them in the tests.
        out: Folder to write: absent or empty.
        env_id: Id of the environment, whose row may name plots.
        dataset: Name of the data set, for the report.
        split: Name of the split, for the report.
        seed: Seed of the bootstrap.
        curves: Log rows with ``seconds`` and ``val_score`` by player, drawn as learning curves.

    Returns:
        What ``results.json`` holds: facts, a row per player, paired tests.

    Raises:
        UserError: If there is no player, or the folder holds files or cannot be written.
    """
    if not players:
        raise UserError("a comparison needs a player, such as a run, random or teacher; name one")
    named, means = name_runs(players)
    with claimed(Path(out)) as folder:
        played: dict[str, Played[Any]] = {}
        with show_progress(len(named), "players") as progress:
            for name, player in named.items():
                progress.start(name)
                played[name] = play(task, player, begin_evaluation(task))
                progress.advance()
        cases = [row for name in named for row in _list_cases(task, name, played[name])]
        cases += [row for name, members in means.items() for row in average_runs(cases, name, members)]
        results = describe_comparison(dataset, split, seed, task.cases.groups) | {
            "cases": len(task.cases),
            "rows": [summarise_figures(own, seed) for own in group_cases(cases, "method").values()],
            "tests": compare_figures(cases, {TEACHER}.union(*means.values()), TESTED),
        }
        drawing = find_row(env_id).plots
        plots = load_object(drawing)(task, played, named) if drawing else {}
        page = _format_report(task, results, cases, played, curves or {}, plots)
        write_report(folder, results, page, {"cases.csv": cases})
    return results


def print_players(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the rows of ``results.json`` of players: a line for each figure, a column for each player."""
    print_figures(results, "player", TESTED, console)


def _list_cases(task: Task[Any], name: str, played: Played[Any]) -> list[Case]:
    """Return the rows of ``cases.csv`` of one player."""
    figures = {key: to_numpy(values) for key, values in task.figures(played.states[-1]).items()}
    figures |= {"return": to_numpy(played.returns), "steps": to_numpy(played.lengths)}
    labels = zip(task.cases.names, task.cases.groups, strict=True)
    return [
        {"case": case, "group": group, "method": name}
        | {key: values[row].item() for key, values in figures.items()}
        for row, (case, group) in enumerate(labels)
    ]


def _format_report(
    task: Task[Any],
    results: Mapping[str, Any],
    cases: Sequence[Case],
    played: Mapping[str, Played[Any]],
    logs: Mapping[str, Sequence[Mapping[str, float]]],
    plots: Mapping[str, str],
) -> str:
    """Return the HTML page of a comparison of players."""
    head, body = tabulate_figures(results["rows"], "player", TESTED)
    scores = {name: [case["score"] for case in own] for name, own in group_cases(cases, "method").items()}
    curves = list_curves(logs)
    return render(
        "episodes.html",
        title=f"Players of {results['dataset']}, {results['split']}",
        facts={key: results[key] for key in ("dataset", "split", "cases", "groups", "seed", "date")},
        results=results,
        table={"head": head, "body": body},
        scores_plot=plot_scores(scores, "score"),
        curves_plot=plot_curves(curves, "score") if curves else "",
        plots=plots,
        films=_show_films(task, played, scores) if isinstance(task, Drawn) else {},
    )


def _show_films(
    task: Any, played: Mapping[str, Played[Any]], scores: Mapping[str, Sequence[float]]
) -> dict[str, list[Shown]]:
    """Return each player's best, median and worst episode."""
    films: dict[str, list[Shown]] = {}
    for name, episodes in played.items():
        for label, row in pick(scores[name], ("best", "median", "worst")).items():
            states = episodes.states[: int(episodes.lengths[row]) + 1]
            film = encode_film([task.render(state, row) for state in states])
            text = f"score {scores[name][row]:.3f}, {len(states) - 1} steps"
            shown = Shown(film, f"{label} episode of {name}", label, task.cases.names[row], text)
            films.setdefault(name, []).append(shown)
    return films
