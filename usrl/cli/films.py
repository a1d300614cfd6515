"""The command that films an episode."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.cli.options import Count, Data, Device, Root, Seed, Split, SplitSeed, Structure, Variety
from usrl.cli.reports import open_runs, open_stage


def film(
    player: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_PLAYER",
            help="A run's folder, a name that `usrl agents` lists, or a player such as random or teacher.",
        ),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Film to write: .mp4, .gif or .webp.")],
    case: Annotated[
        str | None, typer.Option(metavar="NAME", help="Case of the episode; the first one if not given.")
    ] = None,
    env: Annotated[
        str | None, typer.Option(metavar="ID", help="Environment to play in; a run names its own.")
    ] = None,
    root: Root = None,
    structure: Structure = None,
    split: Split = "test",
    device: Device = "auto",
    split_seed: SplitSeed = 0,
    count: Count = 200,
    seed: Seed = 0,
    variety: Variety = 0.0,
) -> None:
    """Film the episode that a player plays on one case of a data set."""
    from usrl.agents.recipe import AgentRecipe
    from usrl.compute.devices import select_device
    from usrl.data.catalogue import kind_of
    from usrl.data.clips.clips import CLIPS
    from usrl.data.recipe import DataRecipe
    from usrl.evaluation.episodes import choose_environment
    from usrl.evaluation.report.films import check_film, film_episode, write_film
    from usrl.registry import IMAGES
    from usrl.strict import check

    check_film(out)
    where = {"name": data, "root": None if root is None else str(root), "split_seed": split_seed}
    which = {"structure": structure, "count": count, "seed": seed, "variety": variety}
    recipe = check(DataRecipe, where | which, "options of the data set")
    runs = open_runs([player])
    recipes = [run.recipe_as(AgentRecipe) for run in runs.values()]
    chosen = choose_environment([each.env for each in recipes], env)
    if recipes and kind_of(data) in (IMAGES, CLIPS):  # at the size that the agent has learned
        recipe = recipe.model_copy(update={"size": recipes[0].data.size})
    task, players = open_stage([player], runs, chosen, recipe, split, select_device(device))
    frames = film_episode(task, players[0], case)
    write_film(frames, out)
    typer.echo(f"wrote {len(frames) - 1} steps to {out}")
