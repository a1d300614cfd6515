"""The command that serves the page where a person segments images."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.cli.options import Device, WindowOption
from usrl.cli.segmentation import parse_spacing
from usrl.errors import UserError


def annotate(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of images, or a data set's folder.")
    ],
    method: Annotated[
        str,
        typer.Option(
            metavar="RUN_OR_METHOD",
            help="What segments: a run's folder, a name that `usrl agents` lists or a classical method; or "
            "METHOD+pull, whose masks you correct by points.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, made if absent; a folder of before goes on.")],
    structure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="What is segmented, such as nerve; repeatable. Lesions if not given."
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="RUN_OR_METHOD", help="Method without boxes, such as unet-phantom, to start images from."
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Masks, named as their images, to start images from."),
    ] = None,
    spacing_mm: Annotated[
        str | None,
        typer.Option(
            metavar="ROW,COLUMN",
            help="Height and width of a pixel in mm; else what the file says, or sizes are in px.",
        ),
    ] = None,
    window: WindowOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than the default let other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; any free one if 0.")] = 0,
    learn: Annotated[
        bool, typer.Option("--learn", help="Let the agent learn from every accepted mask, image by image.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Segment images in the browser: draw boxes, correct what the method says, accept.

    Accepted masks are a data set at once: --data folder --root OUT. Stop with Ctrl+C and go on with the same
    command; nothing is lost.
    """
    from usrl.data.reading.windows import parse_window

    spacing = None if spacing_mm is None else parse_spacing(spacing_mm)
    levels = None if window is None else parse_window(window)
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        told = f'usrl annotate needs {error.name}, which is absent; run `pip install "usrl[page]"`'
        raise UserError(told) from None
    import secrets

    from usrl.compute.devices import select_device
    from usrl.page.methods import open_learning, open_method, open_network
    from usrl.page.server import address_of, build_app, is_loopback, listen, serve
    from usrl.page.sessions import Desk
    from usrl.page.storage import ImageFolder, LabelFolder

    images, labels = ImageFolder(folder, masks, spacing, levels), LabelFolder(out, structure or ())
    if out.resolve() in (images.root.resolve(), images.path.resolve()):
        raise UserError(f"{out} holds the images themselves; choose another --out")
    chosen = select_device(device)
    opened = open_learning(method, chosen) if learn else open_method(method, chosen)
    finder = None if network is None else open_network(network, chosen)
    with labels.open(), listen(host, port) as own:
        token = secrets.token_urlsafe(24)
        desk = Desk(images, labels, opened, finder)
        desk.warm_up()
        if count := desk.learn_again():
            typer.echo(f"{opened.name} has learned again from {count} accepted images")
        app = build_app(desk, token, host)
        typer.echo(f"{len(images.sources)} images; open {address_of(own, token)}")
        if not is_loopback(own):
            typer.echo("usrl: whoever sees this address can see the images, and so can the network", err=True)
        typer.echo(f"masks are written to {out}; stop with Ctrl+C")
        serve(app, own)
