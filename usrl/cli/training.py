"""Commands that train: a recipe once, with other values, or for each fold."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usrl.cli.options import Device, Overrides, RecipePath, Resume
from usrl.errors import UserError
from usrl.runs.shipped import locate

if TYPE_CHECKING:
    from usrl.runs.run import Run


def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write; runs/NAME of the recipe if not given.")
    ] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train the agent, the network or the judge of a recipe.

    Writes a run: a folder that `usrl evaluate`, `compare` and `segment` take.
    """
    from usrl.runs.recipes import load_recipe, without_search

    loaded = load_recipe(recipe, overrides or ())  # its mistakes are reported before torch is imported
    loaded = without_search(loaded)
    from usrl.compute.devices import select_device
    from usrl.learners import check_recipe, train_folder
    from usrl.runs.run import create_run

    where, folder = select_device(device), out or Path("runs") / _name_of(recipe)
    if resume and (folder / "recipe.yaml").exists():
        run = create_run(folder, loaded, resume=True)
        if run.checkpoint_path.is_file() and not run.weights_path.is_file():
            raise UserError(
                f"{run.weights_path} is missing, and the checkpoint there holds later weights than the best; "
                f"put it back, or remove {run.checkpoint_path} to train from the start"
            )
        if run.is_finished():
            typer.echo(f"{run.path} is trained to its end already, nothing is left to do; {_describe(run)}")
            return
    else:  # before there is a folder that a second call would find taken
        check_recipe(loaded)
    run = train_folder(loaded, folder, where, resume=resume)
    typer.echo(_describe(run))
    typer.echo(f"wrote {run.weights_path}; score it with `{_next_command(run)}`")


def tune(
    recipe: RecipePath,
    trials: Annotated[int, typer.Option(min=1, help="Trainings in all, those before --resume included.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; runs/NAME-tuning if not given.")] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train a recipe with several values of some keys, and find the best by validation score.

    The recipe names them: `search: {learning_rate: {low: 1.e-4, high: 1.e-2, log: true}}`.
    """
    from usrl.runs.recipes import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    from usrl.compute.devices import select_device
    from usrl.tuning.trials import describe
    from usrl.tuning.trials import tune as search

    folder = out or Path("runs") / f"{_name_of(recipe)}-tuning"
    best, values = search(loaded, folder, trials, select_device(device), resume=resume)
    typer.echo(f"best val score {best.val_score:.4f}, of trial {best.number:03d}: {describe(values)}")
    typer.echo(f"wrote {folder / 'best.yaml'}, with trials.csv and a run per trial in trials/ next to it")


def proposals(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="An automatic network's recipe, as unet.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    folds: Annotated[int, typer.Option(min=2, help="Number of networks to train.")] = 5,
    overrides: Overrides = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Write what networks find in training images that they did not see, for agents and judges.

    A network is trained for each fold of the training images, and asked about that fold.
    """
    from usrl.compute.devices import select_device
    from usrl.networks.folds import write_proposals
    from usrl.networks.recipe import NetworkRecipe
    from usrl.runs.recipes import load_recipe, without_search

    loaded = without_search(load_recipe(recipe, overrides or ()))
    if not isinstance(loaded, NetworkRecipe):
        raise UserError(f"{recipe}: proposals want a recipe of kind 'network', got {loaded.kind!r}")
    for run in write_proposals(loaded, out, folds, select_device(device), resume=resume):
        typer.echo(f"network {run.name}: {_describe(run)}")
    agent = f"--set env.proposals={out} --set env.kwargs.proposal=network"
    typer.echo(f"wrote {out}; train an agent on it with {agent}, or a judge with --set proposals={out}")


def crossval(
    recipe: RecipePath,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds, each a training.")] = 5,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; runs/NAME-crossval if not given.")
    ] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train a recipe once for each fold, and score every image by the training that has not seen it.

    Folds keep groups together. The report has one row, whose interval is over the groups of all images.
    """
    from usrl.runs.recipes import load_recipe, without_search

    loaded = without_search(load_recipe(recipe, overrides or ()))
    from usrl.compute.devices import select_device
    from usrl.evaluation.crossval import REPORT, cross_validate
    from usrl.evaluation.report.columns import print_results

    name = _name_of(recipe)
    folder = out or Path("runs") / f"{name}-crossval"
    results = cross_validate(loaded, folder, folds, select_device(device), name=name, resume=resume)
    print_results(results)
    for each in results["folds"].values():
        dice = ", ".join(f"{row['dice']:.3f}" for row in each["rows"])
        typer.echo(f"Dice by fold: {dice}; mean {each['mean']:.3f}, standard deviation {each['sd']:.3f}")
    typer.echo(f"wrote {folder / REPORT / 'report.html'}, with cases.csv and results.json next to it")


def ablate(
    plan: Annotated[Path, typer.Argument(help="A plan's file, a folder with ablation.yaml, or contour-ppo.")],
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
    typer.echo(f"wrote {table}, with ablation.csv, cases.csv and ablation.json next to it")


def _name_of(recipe: Path) -> str:
    """Return the name of a recipe: its folder's, or its own if it is not called recipe.yaml."""
    path = locate(recipe).resolve()
    if path.is_dir():
        return path.name
    return path.parent.name if path.name == "recipe.yaml" else path.stem


def _describe(run: "Run") -> str:
    """Return in words what a training reached, when, and how long it took."""
    from usrl.runs.checkpoints import read_best

    rows, kept = run.read_log(), read_best(run)
    # A kill may have cut the row of the best weights from the log; early weight files tell no step.
    best = kept.model_dump() if kept.step is not None else max(rows, key=lambda row: row["val_score"])
    last = rows[-1]
    unit = "step" if run.recipe.kind == "agent" else "epoch"
    minutes, seconds = divmod(round(last["seconds"]), 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"best val score {best['val_score']:.4f} at {unit} {best['step']} of {last['step']}, in {took}"


def _next_command(run: "Run") -> str:
    """Return the command that scores a run on the test part of its data set."""
    from usrl.data.catalogue import SIMULATED
    from usrl.data.recipe import DataRecipe

    data = run.recipe.data
    keys = ["root", "structure", "split_seed", "folds", "fold"]
    keys += ["count", "seed", "variety"] if data.name in SIMULATED else []
    given, defaults, words = data.model_dump(), DataRecipe().model_dump(), ["--data", data.name]
    for key in keys:
        if given[key] != defaults[key]:
            words += [f"--{key.replace('_', '-')}", str(given[key])]
    if run.recipe.kind == "judge":  # which judges a network
        command = ["usrl", "compare", "NETWORK", f"NETWORK+{run.path}", *words, "--out", "REPORT"]
    else:
        command = ["usrl", "evaluate", str(run.path), *words]
    return shlex.join(command)
