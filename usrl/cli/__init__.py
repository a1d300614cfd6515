"""The command line. Heavy modules are imported inside the commands, so that help comes at once."""

import importlib.metadata
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from usrl.cli.annotation import annotate
from usrl.cli.films import film
from usrl.cli.options import Count, Device, Root, Seed, SplitSeed, Variety, WindowOption
from usrl.cli.reports import compare
from usrl.cli.segmentation import segment
from usrl.cli.summaries import diagnose, summarize
from usrl.cli.training import ablate, crossval, proposals, train, tune
from usrl.errors import UserError

if TYPE_CHECKING:
    from usrl.data.clips.clips import Clip


class _Group(TyperGroup):
    """Says in words what a user can fix, and ends with status 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _plain_warnings():
                return super().invoke(ctx)
        except UserError as error:
            typer.echo(f"usrl: {error}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"usrl: {where}{error.strerror or error}; check path, permissions and space", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            how = "train, tune, crossval and proposals go on with --resume, ablate with the same command"
            typer.echo(f"usrl: interrupted; {how}", err=True)
            raise typer.Exit(130) from None


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings for users without their place in the code; those for developers keep it."""
    usual = warnings.formatwarning

    def show(message: Any, category: type[Warning], *place: Any) -> str:
        return f"usrl: {message}\n" if category is UserWarning else usual(message, category, *place)

    warnings.formatwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning = usual


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reinforcement-learning environments for ultrasound segmentation.",
)
data_app = typer.Typer(no_args_is_help=True, help="Check a data set, or write a synthetic one.")
app.add_typer(data_app, name="data")
splits_app = typer.Typer(no_args_is_help=True, help="Publish which images train, validate and test.")
app.add_typer(splits_app, name="splits")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"usrl {importlib.metadata.version('usrl')}")
        raise typer.Exit


@app.callback()
def _options(
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module first, such as one that registers environments; repeatable.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    for name in modules or ():
        sys.path.insert(0, "")  # an installed command does not look in the working folder by itself
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(f"--import {name}: {error}; it must be installed or in this folder") from None


@app.command()
def envs(
    env_id: Annotated[str | None, typer.Argument(metavar="ID", help="Show its arguments.")] = None,
) -> None:
    """List the registered environments, or the arguments of one."""
    from usrl.registry import REGISTRY, describe_arguments

    if env_id is not None:
        typer.echo(describe_arguments(env_id))
        return
    for env_id, row in REGISTRY.items():
        typer.echo(f"{env_id:<24} {row.max_episode_steps:>4} steps  {row.summary}")


@app.command()
def agents() -> None:
    """List the agents, networks and judges that come with usrl: names for every command."""
    from usrl.runs.shipped import describe_shipped

    typer.echo("\n".join(describe_shipped()))


@data_app.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    root: Root = None,
    window: WindowOption = None,
) -> None:
    """Count images, groups and duplicates, and name faults; status 1 if there are any."""
    from usrl.data.catalogue import check_dataset
    from usrl.data.reading.windows import parse_window
    from usrl.data.recipe import DataRecipe
    from usrl.strict import check

    where: dict[str, Any] = {"root": None if root is None else str(root)}
    where |= {"window": None if window is None else parse_window(window)}
    report = check_dataset(check(DataRecipe, {"name": name, **where}, "options of the data set"))
    typer.echo("\n".join(report.lines()))
    if not report.is_sound:
        raise typer.Exit(1)


@data_app.command("import")
def import_data(
    kind: Annotated[str, typer.Argument(metavar="FORMAT", help="coco, labelme, cvat or voc.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="COCO's JSON, CVAT's XML (CVAT for images), or the folder of LabelMe or VOC.",
        ),
    ],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images, with its subfolders.")],
    out: Annotated[Path, typer.Option(help="New folder to write: a data set for --data folder.")],
    empty: Annotated[
        str | None,
        typer.Option(
            metavar="keep|leave-out",
            help="What becomes of images without an annotation: images without a lesion, or left out.",
        ),
    ] = None,
    overlap: Annotated[
        str | None,
        typer.Option(metavar="later", help="Where structures overlap, the later one keeps the pixels."),
    ] = None,
    window: WindowOption = None,
) -> None:
    """Make a data set of images that were annotated with other tools."""
    from usrl.data.importing.folder import import_annotations
    from usrl.data.reading.windows import parse_window

    levels = None if window is None else parse_window(window)
    done = import_annotations(kind, source, images, out, empty=empty, overlap=overlap, window=levels)
    found = ", ".join(f"{name} in {count}" for name, count in done.structures.items())
    typer.echo(f"wrote {done.images} images to {out}: {found}; nothing in {done.empty}")
    for note in done.notes:
        typer.echo(f"  {note}")
    which = " --structure NAME" if len(done.structures) > 1 else ""
    typer.echo(f"use them with --data folder --root {out}{which}")


@splits_app.command("export")
def export_splits(
    name: Annotated[str, typer.Argument(metavar="DATA", help="Name of the data set.")],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="New file to write.")],
    root: Root = None,
    split_seed: SplitSeed = 0,
    window: WindowOption = None,
    count: Count = 200,
    seed: Seed = 0,
    variety: Variety = 0.0,
) -> None:
    """Write the part of each image with its group and the hash of its pixels.

    Others give the file as --split-file, or as data.split_file in a recipe.
    """
    from usrl.data.catalogue import export_split
    from usrl.data.reading.windows import parse_window
    from usrl.data.recipe import DataRecipe
    from usrl.strict import check

    where: dict[str, Any] = {"root": None if root is None else str(root), "split_seed": split_seed}
    which = {"window": None if window is None else parse_window(window), "count": count, "seed": seed}
    tree = {"name": name, "variety": variety} | where | which
    parts = export_split(check(DataRecipe, tree, "options of the data set"), out)
    sizes = ", ".join(f"{count} {part}" for part, count in parts.items())
    typer.echo(f"wrote {out}: {sizes}; use it with --split-file {out}")


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
    what = "1 image with its mask" if len(paths) == 1 else f"{len(paths)} images with masks"
    typer.echo(f"wrote {what} to {out}; use them with --data folder --root {out}")


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
    what = "1 body" if len(paths) == 1 else f"{len(paths)} bodies"
    typer.echo(f"wrote {what} to {out}; use them with --data volumes --root {out}")


@data_app.command("lung")
def write_lung_data(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    count: Count = 8,
    seed: Seed = 0,
    variety: Variety = 0.0,
) -> None:
    """Write simulated lung clips as mp4, with masks as PNG."""
    from usrl.data.clips.lung import make_lung

    _write_clips("Writing clips", (make_lung(seed, index, variety) for index in range(count)), count, out)


@data_app.command("sweeps")
def write_sweeps_data(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    count: Count = 8,
    seed: Seed = 0,
    variety: Variety = 0.0,
) -> None:
    """Write sweeps over simulated bodies as mp4, with masks as PNG."""
    from usrl.data.clips.sweeps import make_sweep

    _write_clips("Writing sweeps", (make_sweep(seed, index, variety) for index in range(count)), count, out)


def _write_clips(what: str, clips: "Iterable[Clip]", count: int, out: Path) -> None:
    from usrl.data.clips.folder import write_clips
    from usrl.progress import track

    paths = write_clips(track(clips, what, count, "clips"), out)
    written = "1 clip" if len(paths) == 1 else f"{len(paths)} clips"
    typer.echo(f"wrote {written} to {out}; use them with --data clips --root {out}")


for command in (
    train,
    tune,
    ablate,
    crossval,
    proposals,
    compare,
    film,
    segment,
    summarize,
    diagnose,
    annotate,
):
    app.command()(command)
app.command("evaluate", short_help="Score one run: `usrl compare` with the report inside the run.")(compare)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="New folder to write.")] = Path("demo"), device: Device = "auto"
) -> None:
    """Train a U-Net and an agent on the phantom and compare them: minutes on two cores."""
    from usrl.compute.devices import select_device
    from usrl.demo.pipeline import run_demo

    run_demo(out, select_device(device))
