"""The command that segments images and clips without a target."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usrl.cli.options import Device, Method, Starts, WindowOption
from usrl.errors import UserError

if TYPE_CHECKING:
    from usrl.data.sample import Prompt

_UNITS = {"area_px": "px", "perimeter_px": "px", "area_mm2": "mm2", "perimeter_mm": "mm"}


def segment(
    run: Method,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Image files, clips, or folders of a clip's frames.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlays and JSON, made if absent.")],
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="Box around a lesion of the one image, in px; repeatable."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Boxes of several images: a row image,x0,y0,x1,y1 per lesion."),
    ] = None,
    spacing_mm: Annotated[
        str | None,
        typer.Option(
            metavar="ROW,COLUMN",
            help="Height and width of a pixel in mm; else what the file says, or sizes are in px.",
        ),
    ] = None,
    window: WindowOption = None,
    device: Device = "auto",
    starts: Starts = 1,
) -> None:
    """Segment images: a mask, an overlay and a JSON with the area and perimeter of each lesion.

    Images are PNG, TIFF, BMP, JPEG, DICOM, NIfTI, NRRD or MHA files. Sizes are in mm if the file says how
    large a pixel is.

    Every frame of a clip is segmented (mp4, mov, avi, mpeg, DICOM, or a folder of numbered images): a folder
    of masks, an overlay clip, a CSV of areas and a JSON.

    Prompted methods (agents) need a box around every lesion of an image; others take none.
    """
    # What the options say comes first: methods take seconds to import.
    prompts = _read_prompts(images, box or (), boxes)
    spacing = None if spacing_mm is None else parse_spacing(spacing_mm)
    from usrl.compute.devices import select_device
    from usrl.data.clips.reading import is_clip
    from usrl.data.reading.files import kind_of
    from usrl.data.reading.images import open_image
    from usrl.data.reading.windows import parse_window
    from usrl.evaluation.methods import open_segmenter
    from usrl.evaluation.segmentation import segment_files

    levels = None if window is None else parse_window(window)
    clips = [path for path in images if is_clip(path)]
    method = open_segmenter(run, select_device(device), starts)
    if clips:
        if len(clips) < len(images) or prompts or spacing or levels:
            raise UserError(
                "clips are segmented without images, boxes, --spacing-mm and --window; the pixel size comes "
                "from DICOM"
            )
        from usrl.evaluation.clips import segment_clips

        for result in segment_clips(method, clips, out):
            found = f"something found in {result['frames_found']} of {result['frames']} frames"
            typer.echo(f"{result['clip']}: {found}")
        count = "1 clip" if len(clips) == 1 else f"{len(clips)} clips"
        typer.echo(f"wrote masks, overlay, areas and JSON of {count} to {out}")
        return
    results = segment_files(method, images, prompts, out, spacing, levels)
    for result in results:
        typer.echo(f"{result['image']}: {_format_size(result)}")
        for lesion in result["lesions"] if len(result["boxes"]) > 1 else ():
            typer.echo(f"  {','.join(f'{side:g}' for side in lesion['box'])}: {_format_size(lesion)}")
    if bare := sum(kind_of(path) == "dicom" and open_image(path).frame.region is None for path in images):
        typer.echo(f"{bare} DICOM images name no region; text that is burned into them is in their overlays")
    empty = sum(not result["area_px"] for result in results)
    note = f"; nothing was found in {empty} of them" if empty else ""
    count = "1 image" if len(images) == 1 else f"{len(images)} images"
    typer.echo(f"wrote mask, overlay and JSON of {count} to {out}{note}")


def _read_prompts(images: Sequence[Path], box: Sequence[str], boxes: Path | None) -> "dict[str, Prompt]":
    from usrl.data.prompts import BOX_COLUMNS, parse_box, read_boxes

    if boxes is not None:
        if box:
            raise UserError("--box and --boxes are both given; write all into the file, or give only --box")
        return read_boxes(boxes)
    if box and len(images) > 1:
        raise UserError(
            f"--box is of one image, got {len(images)} images; segment one at a time, or give --boxes "
            f"FILE.csv with the columns {','.join(BOX_COLUMNS)}"
        )
    return {images[0].name: tuple(parse_box(text) for text in box)} if box else {}


def _format_size(size: Mapping[str, Any]) -> str:
    if not size["area_px"]:
        return "nothing found"
    figures = {key: size[key] for key in _UNITS if key in size}
    return ", ".join(
        f"{key.split('_')[0]} {value if isinstance(value, int) else f'{value:.2f}'} {_UNITS[key]}"
        for key, value in figures.items()
    )


def parse_spacing(text: str) -> tuple[float, float]:
    """Return the (row, column) pixel size of a text ``ROW,COLUMN``, mm."""
    from usrl.metrics.surface import check_spacing

    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--spacing-mm wants ROW,COLUMN in mm, got {text!r}; such as 0.1,0.1") from None
    return check_spacing((row, column))
