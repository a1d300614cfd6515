"""Segmentation over time: comparing methods on clips with masks, and segmenting clips in files."""

import json
import secrets
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from usrl.data.clips.clips import Clips
from usrl.data.clips.reading import ClipFile, open_clip, write_clip
from usrl.data.reading.files import check_name
from usrl.data.reading.frames import Frame
from usrl.data.sample import GrayImage
from usrl.errors import UserError
from usrl.evaluation.compare import claimed, describe_comparison, name_methods, write_report
from usrl.evaluation.report.columns import print_figures, tabulate_figures
from usrl.evaluation.report.figures import encode_film, plot_curves, plot_scores
from usrl.evaluation.report.gallery import Shown, pick
from usrl.evaluation.report.html import list_curves, render
from usrl.evaluation.report.overlay import Picture, fit_scale, overlay
from usrl.evaluation.report.sheets import format_csv
from usrl.evaluation.statistics.summary import (
    Case,
    average_runs,
    compare_figures,
    group_cases,
    summarise_figures,
)
from usrl.files import check_path, make_folder, write_together, writing_to
from usrl.metrics.clips import BoolMasks, clip_dice, false_frames, flicker
from usrl.metrics.size import measure_area
from usrl.progress import show_progress
from usrl.segmenter import Method, Segmenter, answer_frames

TESTED = ("dice", "flicker")
"""Figures that are tested between methods and shown with their intervals."""
_PICTURE_PX = 384


def compare_clips(
    segmenters: Sequence[Method | Sequence[Method]],
    clips: Clips,
    out: Path | str,
    *,
    dataset: str,
    split: str,
    seed: int = 0,
    curves: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """Score methods on the masks of clips and write the report.

    Writes ``cases.csv`` (a row per clip and method), ``results.json`` and ``report.html``. The figures are
    those of `usrl.metrics.clips`, at the size of the clips' frames, and the seconds for each frame. A clip
    without a target in any frame is left out, and named in the results.

    Args:
        segmenters: Automatic methods in the order of the tables; equal names get numbers. A sequence among
            them holds several runs of one method, whose mean, clip by clip, replaces them in the tests.
        clips: Clips with masks.
        out: Folder to write: absent, empty, or that of a comparison that was killed.
        dataset: Name of the data set, for the report.
        split: Name of the split, for the report.
        seed: Seed of the bootstrap, which draws groups.
        curves: Log rows with ``seconds`` and ``val_score`` by method, drawn as learning curves.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: If there is no method or no clip with a target, a method needs boxes or is a ceiling, or
            the folder holds other files or cannot be written.
    """
    if clips.masks is None:
        raise UserError(
            f"{dataset}: a comparison needs masks, and the clips have none; add masks/ for every clip"
        )
    methods, runs = name_methods(segmenters)
    for name, method in methods.items():
        if not isinstance(method, Segmenter) or method.track != "automatic":
            raise UserError(
                f"{name} needs a box or the target; on clips, only automatic methods are compared"
            )
    rows = [row for row in range(len(clips)) if _masks_of(clips, row).any()]
    if not methods or not rows:
        raise UserError(
            f"a comparison needs a method and a clip with a target, got {len(methods)} methods and "
            f"{len(rows)} such clips; choose another split"
        )
    with claimed(Path(out)) as folder:
        found: dict[tuple[str, int], BoolMasks] = {}
        cases: list[Case] = []
        with show_progress(len(methods) * len(rows), "clips") as progress:
            for name, method in methods.items():
                progress.start(name)
                for row in rows:
                    began = time.perf_counter()
                    found[name, row] = _segment(method, clips, row)
                    seconds = (time.perf_counter() - began) / len(found[name, row])
                    scores = score_clip(found[name, row], _masks_of(clips, row))
                    labels = {"case": clips.names[row], "group": clips.groups[row], "method": name}
                    cases.append(labels | scores | {"seconds_per_frame": seconds})
                    progress.advance()
        cases += [row for name, members in runs.items() for row in average_runs(cases, name, members)]
        groups = [clips.groups[row] for row in rows]
        left_out = [name for row, name in enumerate(clips.names) if row not in set(rows)]
        results = describe_comparison(dataset, split, seed, groups) | {
            "clips": len(rows),
            "without_target": left_out,
            "size_px": int(clips.frames.shape[-1]),
            "rows": [summarise_figures(own, seed) for own in group_cases(cases, "method").values()],
            "tests": compare_figures(cases, set().union(*runs.values()), TESTED),
        }
        page = _format_report(results, cases, clips, rows, found, curves or {})
        write_report(folder, results, page, {"cases.csv": cases})
    return results


def score_clip(pred: BoolMasks, target: BoolMasks) -> dict[str, float]:
    """Return every figure of one clip's masks, bool, (T, H, W), by column name."""
    return {
        "dice": clip_dice(pred, target),
        "flicker": flicker(pred, target),
        "false_frames": false_frames(pred, target),
    }


def print_clips(results: Mapping[str, Any]) -> None:
    """Print the rows of ``results.json`` of a comparison on clips."""
    print_figures(results, "method", TESTED)
    if results["without_target"]:
        print(f"left out, as no frame has a target: {', '.join(results['without_target'])}")


def _masks_of(clips: Clips, row: int) -> BoolMasks:
    first, length = int(clips.first[row]), int(clips.lengths[row])
    assert clips.masks is not None
    masks: BoolMasks = clips.masks[first : first + length].cpu().numpy()
    return masks


def _frames_of(clips: Clips, row: int) -> Any:
    first, length = int(clips.first[row]), int(clips.lengths[row])
    return clips.frames[first : first + length].cpu().numpy()


def _segment(method: Method, clips: Clips, row: int) -> BoolMasks:
    assert isinstance(method, Segmenter)
    frames = _frames_of(clips, row)
    masks = np.stack([answer.mask for answer in answer_frames(method, frames)])
    if masks.shape != frames.shape or masks.dtype != bool:
        raise UserError(
            f"{method.name} gave masks of {masks.dtype} {masks.shape} for {clips.names[row]}, whose frames "
            f"are {frames.shape}; a segmenter returns a bool mask for each frame"
        )
    return masks


def _format_report(
    results: Mapping[str, Any],
    cases: Sequence[Case],
    clips: Clips,
    rows: Sequence[int],
    found: Mapping[tuple[str, int], BoolMasks],
    logs: Mapping[str, Sequence[Mapping[str, float]]],
) -> str:
    """Return the HTML page of a comparison on clips."""
    head, body = tabulate_figures(results["rows"], "method", TESTED)
    by_method = group_cases(cases, "method")
    curves = list_curves(logs)
    return render(
        "clips.html",
        title=f"Segmentation over time of {results['dataset']}, {results['split']}",
        facts={
            key: results[key] for key in ("dataset", "split", "clips", "groups", "size_px", "seed", "date")
        },
        results=results,
        table={"head": head, "body": body},
        plots={
            title: plot_scores({name: [case[key] for case in own] for name, own in by_method.items()}, title)
            for key, title in (("dice", "Dice"), ("flicker", "flicker"))
        },
        curves_plot=plot_curves(curves, "Dice") if curves else "",
        films=_show_films(by_method, clips, rows, found),
    )


def _show_films(
    cases: Mapping[str, Sequence[Case]],
    clips: Clips,
    rows: Sequence[int],
    found: Mapping[tuple[str, int], BoolMasks],
) -> dict[str, list[Shown]]:
    """Return the best, median and worst clip of each method that is no mean."""
    films: dict[str, list[Shown]] = {}
    for name in dict.fromkeys(method for method, _ in found):
        scores = [case["dice"] for case in cases[name]]
        for label, place in pick(scores, ("best", "median", "worst")).items():
            row = rows[place]
            pairs = zip(_masks_of(clips, row), found[name, row], strict=True)
            masks = ({"target": target, "pred": pred} for target, pred in pairs)
            frames = _frames_of(clips, row)
            pictures = [overlay(frame, both) for frame, both in zip(frames, masks, strict=True)]
            text = f"Dice {scores[place]:.3f}, flicker {cases[name][place]['flicker']:.3f}"
            shown = Shown(encode_film(pictures), f"{label} clip of {name}", label, clips.names[row], text)
            films.setdefault(name, []).append(shown)
    return films


def segment_clips(method: Method, paths: Sequence[Path], out: Path | str) -> list[dict[str, Any]]:
    """Segment clips in files; see `segment_clip`.

    Raises:
        UserError: If the method is a ceiling or needs boxes; before any file is written, if a clip cannot be
            opened or two results would have the same names; or as `segment_clip`.
    """
    if not isinstance(method, Segmenter) or method.track != "automatic":
        raise UserError(
            f"{method.name} needs a box or the target; clips are for automatic methods: segment single "
            "frames as images, with a box each"
        )
    opened = [open_clip(path) for path in paths]
    stems: dict[str, ClipFile] = {}
    for clip in opened:
        check_name(clip.path)
        other = stems.setdefault(clip.name.casefold(), clip)
        if other is not clip:
            raise UserError(
                f"{other.path} and {clip.path} would be written to the same names; segment one at a time"
            )
        _check_free(clip, Path(out))
    return [segment_clip(method, clip, out) for clip in opened]


def segment_clip(method: Segmenter, clip: ClipFile, out: Path | str) -> dict[str, Any]:
    """Segment one clip.

    Writes ``<name>_masks/0000.png`` and so on (size of the file's frames, 0 and 255), ``<name>_overlay.mp4``,
    ``<name>.csv`` (the area of each frame's mask, in px, and mm2 if the pixel size is known) and
    ``<name>.json``. Of DICOM, the method and the overlay see the region of the image alone. Frames are read,
    segmented and written one after the other. All appears when it is whole.

    Returns:
        What the JSON holds: clip, size, frames, rate, method, pixel size, the number of frames in which
        something is found, and the names of the files.

    Raises:
        UserError: If the clip cannot be read to its end, a file of that name is there already, or the folder
            cannot be written.
    """
    out = Path(out)
    folder, film, table, facts = _check_free(clip, out)
    if clip.frame is not None and clip.frame.note:
        warnings.warn(f"{clip.path}: {clip.frame.note}", stacklevel=2)
    make_folder(out)
    part = out / f".{folder.name}.{secrets.token_hex(4)}"
    rows: list[Case] = []
    try:
        with writing_to(out):
            part.mkdir()
            write_clip(film, _draw_frames(method, clip, part, rows), clip.fps)
            part.replace(folder)
        whole = clip.frame or Frame(clip.shape)
        result = {
            "clip": clip.path.name,
            "width_px": whole.shape[1],
            "height_px": whole.shape[0],
            **({} if whole.region is None else {"region_px": list(whole.region)}),
            "frames": len(rows),
            "fps": clip.fps,
            "method": method.name,
            **({} if clip.spacing_mm is None else {"spacing_mm": list(clip.spacing_mm)}),
            "frames_found": sum(row["area_px"] > 0 for row in rows),
            "masks": folder.name,
            "overlay": film.name,
            "areas": table.name,
        }
        with writing_to(out):
            content = json.dumps(result, indent=2, allow_nan=False).encode()
            write_together({table: format_csv(rows), facts: content})
    except BaseException:
        film.unlink(missing_ok=True)
        for path in (part, folder):
            shutil.rmtree(path, ignore_errors=True)
        raise
    return result


def _draw_frames(method: Segmenter, clip: ClipFile, folder: Path, rows: list[Case]) -> Iterator[Picture]:
    """Yield frames with the outlines of their masks; write the masks, and add their areas to the rows."""
    waiting: list[GrayImage] = []  # what the method has read, and not answered yet

    def remember() -> Iterator[GrayImage]:
        for frame in clip.frames(show_progress=True):
            waiting.append(frame)
            yield frame

    for number, answer in enumerate(answer_frames(method, remember())):
        frame, mask = waiting.pop(0), answer.mask
        placed = mask if clip.frame is None else clip.frame.place(mask)
        content = cv2.imencode(".png", placed.astype(np.uint8) * np.uint8(255))[1].tobytes()
        (folder / f"{number:04d}.png").write_bytes(content)
        row: Case = {"frame": number, "area_px": int(measure_area(mask))}
        if clip.spacing_mm is not None:
            row["area_mm2"] = measure_area(mask, clip.spacing_mm)
        rows.append(row)
        yield overlay(frame, {"pred": mask}, scale=fit_scale(frame, _PICTURE_PX))


def _check_free(clip: ClipFile, out: Path) -> tuple[Path, Path, Path, Path]:
    """Return the paths of masks, overlay, table and JSON. Raise if one exists: nothing is overwritten."""
    names = (f"{clip.name}_masks", f"{clip.name}_overlay.mp4", f"{clip.name}.csv", f"{clip.name}.json")
    paths = tuple(out / name for name in names)
    for path in paths:
        if check_path(path).exists():
            raise UserError(f"{path} is there already; choose another --out, or move it away")
    return paths[0], paths[1], paths[2], paths[3]
