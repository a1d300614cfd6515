"""Commands that train: a recipe once, with other values, or for each fold."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.cli.options import Device, Overrides, RecipePath, Resume
from usrl.errors import UserError


def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/NAME of the recipe if not given.")
    ] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train the agent, the network or the judge of a recipe."""
    from usrl.recipe_files import load_recipe, without_search

    loaded = load_recipe(recipe, overrides or ())  # its mistakes are reported before torch is imported
    loaded = without_search(loaded)
    from usrl.data.catalogue import require_dataset
    from usrl.devices import select_device
    from usrl.runs import create_run
    from usrl.training import train_run

    where = select_device(device)
    # Before there is a folder that a second call would find taken:
    require_dataset(loaded.data)
    if loaded.kind == "network":
        from usrl.baselines.networks import build_network

        build_network(loaded)
    run = create_run(out or Path("runs") / _name_of(recipe), loaded, resume=resume)
    train_run(run, where, resume=resume)
    typer.echo(f"wrote {run.weights_path}")


def tune(
    recipe: RecipePath,
    trials: Annotated[int, typer.Option(min=1, help="Trainings in all, those before --resume included.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; runs/NAME-tuning if not given.")] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Search the ranges of a recipe's `search` for the best validation Dice."""
    from usrl.recipe_files import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    from usrl.devices import select_device
    from usrl.tuning.trials import describe
    from usrl.tuning.trials import tune as search

    folder = out or Path("runs") / f"{_name_of(recipe)}-tuning"
    best, values = search(loaded, folder, trials, select_device(device), resume=resume)
    typer.echo(f"best val Dice {best.val_dice:.4f}, of trial {best.number:03d}: {describe(values)}")
    typer.echo(f"wrote {folder / 'best.yaml'}, with trials.csv and a run per trial in trials/ beside it")


def proposals(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    folds: Annotated[int, typer.Option(min=2, help="Number of networks to train.")] = 5,
    overrides: Overrides = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Write what networks find in training images that they did not see, for agents to start from."""
    from usrl.baselines.proposals import write_proposals
    from usrl.devices import select_device
    from usrl.recipe_files import load_recipe, without_search
    from usrl.recipes import NetworkRecipe

    loaded = without_search(load_recipe(recipe, overrides or ()))
    if not isinstance(loaded, NetworkRecipe):
        raise UserError(f"{recipe}: proposals want a recipe of kind 'network', got {loaded.kind!r}")
    write_proposals(loaded, out, folds, select_device(device), resume=resume)
    typer.echo(f"wrote {out}; train on it with --set env.proposals={out} --set env.kwargs.proposal=network")


def ablate(
    plan: Annotated[Path, typer.Argument(help="A plan's file, or a folder that holds ablation.yaml.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write or go on with; runs/FOLDER-PLAN if not given.")
    ] = None,
    device: Device = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once, each with one thread.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A group or GROUP/VARIANT; repeatable.")
    ] = None,
) -> None:
    """Train the variants of a plan over several seeds and write the table of their differences."""
    from usrl.ablation.pipeline import AblationCall, run_ablation

    table = run_ablation(AblationCall(plan, out, device, jobs, tuple(only or ())))
    typer.echo(table.read_text(encoding="utf-8"))
    typer.echo(f"wrote {table}, with ablation.csv, cases.csv and ablation.json beside it")


def _name_of(recipe: Path) -> str:
    """Return the name of a recipe: its folder's, or its own where it is not called recipe.yaml."""
    path = recipe.resolve()
    return path.parent.name if path.name == "recipe.yaml" else path.stem
