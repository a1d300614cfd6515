"""The command line. Heavy modules are imported inside the commands, so that help comes at once."""

import importlib.metadata
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from usrl.cli.data import data_app
from usrl.cli.options import Device
from usrl.cli.reports import compare
from usrl.cli.segmentation import segment
from usrl.cli.training import ablate, proposals, train, tune
from usrl.errors import UserError


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
            how = "train, tune and proposals go on with --resume, ablate with the same command"
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
app.add_typer(data_app, name="data")


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


for command in (train, tune, ablate, proposals, compare, segment):
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
