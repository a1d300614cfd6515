"""The commands about summaries of clips."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.cli.options import Device


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
