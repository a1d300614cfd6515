"""Segmenting image files without a target: mask, overlay and measurements."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from usrl.data.components import label_components
from usrl.data.prompts import check_prompt
from usrl.data.reading.files import check_name
from usrl.data.reading.images import open_image, read_image
from usrl.data.reading.nifti import stem_of
from usrl.data.reading.tables import clean
from usrl.data.reading.windows import Window
from usrl.data.sample import BoolMask, GrayImage, Prompt, Spacing
from usrl.errors import UserError
from usrl.evaluation.report.overlay import overlay
from usrl.files import check_path, write_together, writing_to
from usrl.metrics.size import measure_area, measure_perimeter
from usrl.progress import show_progress
from usrl.segmenter import Answer, Method, Segmenter


def segment_files(
    segmenter: Method,
    paths: Sequence[Path | str],
    prompts: Mapping[str, Prompt],
    out: Path | str,
    spacing_mm: Spacing | None = None,
    window: Window | None = None,
) -> list[dict[str, Any]]:
    """Segment several files with boxes by the name of the file; see `segment_file`.

    Raises:
        UserError: If the method is a ceiling; before any file is written, if an image or its boxes cannot be
            used, boxes are missing or belong to no image, or two results would have the same names; or as
            `segment_file`.
    """
    if not isinstance(segmenter, Segmenter):
        raise UserError(f"{segmenter.name} chooses with the target, which only `usrl compare` has")
    files, results = [Path(path) for path in paths], []
    prompts = {clean(name): prompt for name, prompt in prompts.items()}
    stems: dict[str, Path] = {}
    for path in files:
        other = stems.setdefault(stem_of(path).casefold(), path)
        if other is not path:
            raise UserError(f"{other} and {path} would be written to the same names; segment one at a time")
        _check_free(path, Path(out))
    _check_prompts(segmenter, files, prompts)
    with show_progress(len(files)) as progress:
        for path in files:
            progress.start(path.name)
            prompt = prompts.get(clean(path.name))
            results.append(segment_file(segmenter, path, prompt, out, spacing_mm, window))
            progress.advance()
    return results


def segment_file(
    segmenter: Segmenter,
    path: Path | str,
    prompt: Prompt | None,
    out: Path | str,
    spacing_mm: Spacing | None = None,
    window: Window | None = None,
) -> dict[str, Any]:
    """Segment one image file.

    Writes ``<stem>_mask.png`` (size of the picture in the file, 0 and 255), ``<stem>_overlay.png`` and
    ``<stem>.json``. The image of a DICOM frame is its two-dimensional region: the method sees nothing else,
    nor does the overlay. Boxes, mask and JSON have the coordinates of the whole frame.

    The pixel size is that of the argument, or else that of the file. ``window`` is as in
    `usrl.data.reading.images.read_image`.

    Returns what the JSON holds: image, size, method, boxes, pixel size (row, column), measurements (see
    `measure_mask`) and uncertainty of the whole mask and of each of its ``lesions`` (see `measure_lesions`),
    and the names of the files.

    Raises:
        UserError: If the image cannot be read, the prompt does not fit it, a file of that name is there
            already, or the folder cannot be written.
    """
    path, out = Path(path), Path(out)
    mask_path, overlay_path, json_path = _check_free(path, out)
    image, file = read_image(path, window)
    if file.frame.note:
        warnings.warn(f"{path}: {file.frame.note}", stacklevel=2)
    spacing_mm = spacing_mm or file.spacing_mm
    prompt = None if prompt is None else tuple(map(file.frame.into_image, prompt))
    answer = segmenter.segment(image, prompt)
    proposal = {} if answer.proposal is None else {"proposal": answer.proposal}
    boxes = prompt if segmenter.track == "prompted" else None
    result = {
        "image": path.name,
        "width_px": file.frame.shape[1],
        "height_px": file.frame.shape[0],
        **({} if file.frame.region is None else {"region_px": list(file.frame.region)}),
        "method": segmenter.name,
        "boxes": [file.frame.into_frame(box) for box in boxes or ()],
        **({} if spacing_mm is None else {"spacing_mm": list(spacing_mm)}),
        **_describe(answer, spacing_mm),
        "lesions": [
            lesion | {"box": file.frame.into_frame(lesion["box"])}
            for lesion in measure_lesions(segmenter, image, boxes, answer, spacing_mm)
        ],
        "mask": mask_path.name,
        "overlay": overlay_path.name,
    }
    picture = overlay(image, proposal | {"pred": answer.mask}, boxes)
    contents = {
        mask_path: _encode_png(file.frame.place(answer.mask).astype(np.uint8) * np.uint8(255)),
        overlay_path: _encode_png(picture[..., ::-1]),
        json_path: json.dumps(result, indent=2, allow_nan=False).encode(),
    }
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        write_together(contents)
    return result


def measure_lesions(
    segmenter: Segmenter,
    image: GrayImage,
    boxes: Prompt | None,
    whole: Answer,
    spacing_mm: Spacing | None = None,
) -> list[dict[str, Any]]:
    """Return the size of each lesion: of the mask of each box alone, or of each component without boxes.

    Each has its ``box``, what `measure_mask` gives, and the uncertainty if the method gives one.

    Pixels that two boxes share count for both lesions, and once in the whole mask. The lesions together may
    differ from the whole mask, the answer for all boxes, by some pixels: several starts vote on the union of
    their boxes, and a network rounds differently with another number of boxes.
    """
    if boxes is None:
        labels, areas = label_components(whole.mask)
        places = ndimage.find_objects(labels, len(areas) - 1)
        return [  # boxes as in `usrl.data.prompts`
            {"box": [columns.start - 0.5, rows.start - 0.5, columns.stop - 0.5, rows.stop - 0.5]}
            | measure_mask(labels[rows, columns] == number, spacing_mm)
            for number, (rows, columns) in enumerate(places, 1)
        ]
    parts = [whole] if len(boxes) == 1 else [segmenter.segment(image, (box,)) for box in boxes]
    return [{"box": list(box), **_describe(part, spacing_mm)} for box, part in zip(boxes, parts, strict=True)]


def measure_mask(mask: BoolMask, spacing_mm: Spacing | None = None) -> dict[str, Any]:
    """Return the size of a mask, bool, (H, W); see `usrl.metrics.size`.

    The keys are ``components`` (8-connected), ``area_px``, ``perimeter_px`` (of all outlines, with holes),
    and with a spacing ``area_mm2`` and ``perimeter_mm``.
    """
    size: dict[str, Any] = {"components": len(label_components(mask)[1]) - 1}
    size |= {"area_px": int(measure_area(mask)), "perimeter_px": measure_perimeter(mask)}
    if spacing_mm is not None:
        size["area_mm2"] = measure_area(mask, spacing_mm)
        size["perimeter_mm"] = measure_perimeter(mask, spacing_mm)
    return size


def _describe(answer: Answer, spacing_mm: Spacing | None) -> dict[str, Any]:
    known = {} if answer.uncertainty is None else {"uncertainty": answer.uncertainty}
    return measure_mask(answer.mask, spacing_mm) | known


def _check_prompts(segmenter: Segmenter, files: Sequence[Path], prompts: Mapping[str, Prompt]) -> None:
    """Raise if boxes do not fit the method or the files, or a file is not an image."""
    if prompts and segmenter.track == "automatic":
        count = sum(len(prompt) for prompt in prompts.values())
        raise UserError(
            f"{segmenter.name} finds lesions by itself and takes no box, got {count}; leave --box out"
        )
    names = [clean(path.name) for path in files]
    if strange := [name for name in prompts if name not in names]:
        raise UserError(
            f"boxes are given for {strange[0]!r}, which is not among the {len(files)} images; name a file "
            "without its folder, or remove its rows"
        )
    for path in files:
        check_name(path)
        file = open_image(path)
        if segmenter.track == "prompted":
            try:
                given = prompts.get(clean(path.name))
                check_prompt(given and tuple(map(file.frame.into_image, given)), file.shape)
            except UserError as error:
                x, y = (file.frame.region or (0, 0))[:2]
                moved = f"counted from the region of the image, which begins at {x},{y}: " if x or y else ""
                raise UserError(f"{path}: {moved}{error}") from None


def _check_free(path: Path, out: Path) -> tuple[Path, Path, Path]:
    """Return the paths of mask, overlay and JSON. Raise if one exists: nothing is overwritten."""
    stem = stem_of(path)
    names = (f"{stem}_mask.png", f"{stem}_overlay.png", f"{stem}.json")
    for name in names:
        if check_path(out / name).exists():
            raise UserError(f"{out / name} is there already; choose another --out, or move it away")
    return out / names[0], out / names[1], out / names[2]


def _encode_png(picture: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])
