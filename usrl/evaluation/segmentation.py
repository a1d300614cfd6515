"""Segmenting image files without any reference: mask, overlay and measurements."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.components import label_components
from usrl.data.files import read_gray
from usrl.data.sample import BoolMask, Prompt
from usrl.errors import UserError
from usrl.evaluation.overlay import overlay
from usrl.files import write_atomically
from usrl.metrics.size import measure_area, measure_perimeter
from usrl.metrics.surface import Spacing
from usrl.progress import show_progress
from usrl.segmenter import Refiner, Segmenter, segment_with_uncertainty


def segment_files(
    segmenter: Segmenter,
    paths: Sequence[Path | str],
    prompt: Prompt | None,
    out: Path | str,
    spacing_mm: Spacing | None = None,
) -> list[dict[str, Any]]:
    """Segment several files with one prompt; see `segment_file`.

    Raises:
        UserError: If two files would be written to the same names, before any is written; or as
            `segment_file`.
    """
    files, results = [Path(path) for path in paths], []
    stems: dict[str, Path] = {}
    for path in files:
        other = stems.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise UserError(f"{other} and {path} would be written to the same names; segment one at a time")
        _check_free(path, Path(out))
    with show_progress(len(files)) as progress:
        for path in files:
            progress.start(path.name)
            results.append(segment_file(segmenter, path, prompt, out, spacing_mm))
            progress.advance()
    return results


def segment_file(
    segmenter: Segmenter,
    path: Path | str,
    prompt: Prompt | None,
    out: Path | str,
    spacing_mm: Spacing | None = None,
) -> dict[str, Any]:
    """Segment one image file.

    Writes ``<stem>_mask.png`` (native size, 0 and 255), ``<stem>_overlay.png`` and ``<stem>.json``.

    Args:
        segmenter: Any method.
        path: Image file, as `usrl.data.files.read_gray` takes it.
        prompt: Boxes in native px; None where there are none.
        out: Folder to write, made if absent.
        spacing_mm: (row, column) pixel size in mm; None where unknown.

    Returns:
        What the JSON holds: image, size, method, boxes, measurements (see `measure_mask`), the uncertainty
        where the method gives one, and the names of the files.

    Raises:
        UserError: If the image cannot be read, the prompt does not fit it, a file of that name is there
            already, or the folder cannot be written.
    """
    path, out = Path(path), Path(out)
    mask_path, overlay_path, json_path = _check_free(path, out)
    image = read_gray(path)
    mask, uncertainty = segment_with_uncertainty(segmenter, image, prompt)
    masks = {"proposal": segmenter.propose(image, prompt)} if isinstance(segmenter, Refiner) else {}
    boxes = prompt if segmenter.track == "prompted" else None
    result = {
        "image": path.name,
        "width_px": image.shape[1],
        "height_px": image.shape[0],
        "method": segmenter.name,
        "boxes": [list(box) for box in boxes or ()],
        **measure_mask(mask, spacing_mm),
        **({} if uncertainty is None else {"uncertainty": uncertainty}),
        "mask": mask_path.name,
        "overlay": overlay_path.name,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(mask_path, _encode_png(mask.astype(np.uint8) * np.uint8(255)))
        picture = overlay(image, masks | {"pred": mask}, boxes)
        write_atomically(overlay_path, _encode_png(picture[..., ::-1]))
        write_atomically(json_path, json.dumps(result, indent=2, allow_nan=False).encode())
    except OSError as error:
        raise UserError(f"{out}: cannot write here ({error.strerror}); choose another --out") from None
    return result


def measure_mask(mask: BoolMask, spacing_mm: Spacing | None = None) -> dict[str, Any]:
    """Return the size of a mask.

    Args:
        mask: Mask, bool, shape (H, W).
        spacing_mm: (row, column) pixel size in mm; None leaves millimetres out.

    Returns:
        ``components`` (8-connected), ``area_px``, ``perimeter_px`` (of all outlines, holes included), and
        with a spacing ``spacing_mm``, ``area_mm2`` and ``perimeter_mm``.

    Raises:
        UserError: If a spacing is not positive.

    Source:
        See `usrl.metrics.size`.
    """
    size = {
        "components": len(label_components(mask)[1]) - 1,
        "area_px": int(measure_area(mask)),
        "perimeter_px": measure_perimeter(mask),
    }
    if spacing_mm is None:
        return size
    return size | {
        "spacing_mm": list(spacing_mm),
        "area_mm2": measure_area(mask, spacing_mm),
        "perimeter_mm": measure_perimeter(mask, spacing_mm),
    }


def _check_free(path: Path, out: Path) -> tuple[Path, Path, Path]:
    """Return the paths of mask, overlay and JSON; nothing that exists is overwritten."""
    names = (f"{path.stem}_mask.png", f"{path.stem}_overlay.png", f"{path.stem}.json")
    for name in names:
        if (out / name).exists():
            raise UserError(f"{out / name} is there already; choose another --out, or move it away")
    return out / names[0], out / names[1], out / names[2]


def _encode_png(picture: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])
