"""The commands about summaries of clips."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.cli.options import Data, Device, Root
from usrl.cli.reports import open_runs, open_stage


def summarize(
    clip: Annotated[
        Path, typer.Argument(metavar="CLIP", help="Video, DICOM file of several frames, or folder of frames.")
    ],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    share: Annotated[float, typer.Option(help="Share of the frames to keep.")] = 0.15,
    by: Annotated[
        str,
        typer.Option(
            metavar="RUN_OR_PLAYER",
            help="A run of an agent of usrl/VideoSummary-v0, or a player such as uniform or k-medoids.",
        ),
    ] = "summary-reinforce",
    device: Device = "auto",
) -> None:
    """Keep the frames of a clip that are worth keeping.

    Writes summary.mp4, a contact sheet (sheet.png), a score for each frame (scores.csv) and a plot of the
    scores over time (scores.png).
    """
    from usrl.compute.devices import select_device
    from usrl.evaluation.summarising import summarise_file

    summary = summarise_file(clip, out, by=by, share=share, device=select_device(device))
    typer.echo(f"kept {int(summary.kept.sum())} of {len(summary.kept)} frames; wrote {out / 'summary.mp4'}")


def diagnose(
    players: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_PLAYER",
            help="Runs of agents of usrl/VideoSummary-v0, or players such as uniform; RUN,RUN adds a mean.",
        ),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder for results.json and cases.csv.")],
    root: Root = None,
    label: Annotated[str, typer.Option(help="Grade of whole clips that is read.")] = "severity",
    severe: Annotated[int, typer.Option(help="Grades from this on are positive for the ROC curve.")] = 2,
    folds: Annotated[int, typer.Option(help="Parts of the patients.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the parts.")] = 0,
    device: Device = "auto",
) -> None:
    """Read the grade of clips from the frames that players keep, against all frames.

    A classifier learns the grade of whole clips and reads clips of other patients.
    """
    from usrl.agents.recipe import AgentRecipe
    from usrl.compute.devices import select_device
    from usrl.data.catalogue import describe_data
    from usrl.data.recipe import DataRecipe
    from usrl.evaluation.diagnosis import diagnose as read_grades
    from usrl.evaluation.diagnosis import print_diagnosis
    from usrl.evaluation.episodes import choose_environment
    from usrl.evaluation.methods import split_runs
    from usrl.evaluation.summarising import ENVIRONMENT
    from usrl.strict import check

    groups = [split_runs(player) for player in players]
    specs = [spec for group in groups for spec in group]
    runs = open_runs(specs)
    env = choose_environment([run.recipe_as(AgentRecipe).env for run in runs.values()], ENVIRONMENT)
    fields = {"name": data, "root": None if root is None else str(root), "size": 64}
    recipe = check(DataRecipe, fields, "options of the data set")
    task, opened = open_stage(specs, runs, env, recipe, "all", select_device(device))
    each = iter(opened)
    named = [[next(each) for _ in group] for group in groups]
    told = describe_data(recipe)
    results = read_grades(task, named, out, dataset=told, label=label, severe=severe, folds=folds, seed=seed)  # type: ignore[arg-type]
    print_diagnosis(results)
    typer.echo(f"wrote {out / 'results.json'}, with cases.csv next to it")
