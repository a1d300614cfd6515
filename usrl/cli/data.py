"""Commands on data sets: check one, or write a synthetic one."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.cli.options import Count, Root, Seed, Variety

data_app = typer.Typer(no_args_is_help=True, help="Check a data set, or write a synthetic one.")


@data_app.command("check")
def check_data(name: Annotated[str, typer.Argument(help="Name of the data set.")], root: Root = None) -> None:
    """Count images, groups and duplicates, and name faults; status 1 if there are any."""
    from usrl.data.catalogue import check_dataset
    from usrl.data.recipe import DataRecipe
    from usrl.strict import check

    where = None if root is None else str(root)
    report = check_dataset(check(DataRecipe, {"name": name, "root": where}, "options of the data set"))
    typer.echo("\n".join(report.lines()))
    if not report.is_sound:
        raise typer.Exit(1)


@data_app.command("phantom")
def write_phantom_data(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    count: Count = 200,
    seed: Seed = 0,
    variety: Variety = 0.0,
) -> None:
    """Write a synthetic data set as PNG."""
    from usrl.data.phantom.dataset import write_phantom

    paths = write_phantom(out, count, seed, variety, show_progress=True)
    typer.echo(f"wrote {len(paths)} images with masks to {out}; use them with --data folder --root {out}")


@data_app.command("bodies")
def write_bodies_data(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    count: Count = 8,
    seed: Seed = 0,
    variety: Variety = 0.0,
) -> None:
    """Write simulated bodies as NIfTI."""
    from usrl.data.bodies.folder import write_bodies

    paths = write_bodies(out, count, seed, variety)
    typer.echo(f"wrote {len(paths)} bodies to {out}; use them with --data volumes --root {out}")
