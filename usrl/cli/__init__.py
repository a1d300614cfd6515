"""The command line. Heavy modules are imported inside the commands, so that help comes at once."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from usrl.cli.data import data_app
from usrl.cli.options import Device, Method, Starts
from usrl.cli.reports import compare, evaluate
from usrl.cli.training import ablate, proposals, train, tune
from usrl.errors import UserError


class _Group(TyperGroup):
    """Says in words what a user can fix, and ends with status 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
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
            how = "train, tune and proposals go on with --resume, ablate with the same command"
            typer.echo(f"usrl: interrupted; {how}", err=True)
            raise typer.Exit(130) from None


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show what users are warned of without the place in the code; what developers are stays as it is."""
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
app.add_typer(data_app, name="data")


@app.command()
def envs() -> None:
    """List the registered environments."""
    from usrl.registry import REGISTRY

    for env_id, row in REGISTRY.items():
        typer.echo(f"{env_id:<24} {row.max_episode_steps:>4} steps  {row.summary}")


for command in (train, tune, ablate, proposals, evaluate, compare):
    app.command()(command)


@app.command()
def segment(
    run: Method,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlays and JSON.")],
    box: Annotated[
        list[str] | None, typer.Option(metavar="X0,Y0,X1,Y1", help="A lesion's box in pixels; repeatable.")
    ] = None,
    spacing_mm: Annotated[
        str | None, typer.Option(metavar="ROW,COLUMN", help="Pixel size in mm; areas are in px without.")
    ] = None,
    device: Device = "auto",
    starts: Starts = 1,
) -> None:
    """Segment images: a mask, an overlay and a JSON with area and perimeter for each."""
    from usrl.data.prompts import parse_box
    from usrl.devices import select_device
    from usrl.evaluation.segmentation import segment_files
    from usrl.evaluation.segmenter import open_segmenter

    prompt = tuple(parse_box(text) for text in box or ()) or None
    spacing = None if spacing_mm is None else _parse_spacing(spacing_mm)
    segmenter = open_segmenter(run, select_device(device), starts)
    if prompt and segmenter.track == "automatic":
        raise UserError(
            f"{segmenter.name} finds lesions by itself and takes no box, got {len(prompt)}; leave --box out"
        )
    for row in segment_files(segmenter, images, prompt, out, spacing):
        figures = [f"{key} {value:g}" for key, value in row.items() if key.startswith(("area", "perimeter"))]
        typer.echo(f"{row['image']}: {', '.join(figures)}")
    typer.echo(f"wrote mask, overlay and JSON of {len(images)} images to {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="New folder to write.")] = Path("demo"), device: Device = "auto"
) -> None:
    """Train a U-Net and an agent on the phantom and compare them: minutes on two cores."""
    from usrl.demo.pipeline import run_demo
    from usrl.devices import select_device

    run_demo(out, select_device(device))


def _parse_spacing(text: str) -> tuple[float, float]:
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--spacing-mm wants ROW,COLUMN in mm, got {text!r}; such as 0.1,0.1") from None
    return row, column
