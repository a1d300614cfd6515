"""CVA-Net's breast ultrasound videos: lesions in frames, marked by boxes.

Origin: 188 videos of hospitals in China, collected for the detector CVA-Net.

Licence: for research and education only, not for commercial use; the authors give access. This package
does not redistribute the set.

Citation: Lin, Lin, Zhu, Qin et al. (2022), A new dataset and a baseline model for breast lesion detection
in ultrasound videos, MICCAI, 614-623, arXiv:2207.00141.

Expected counts: 188 videos, of which copies list 186. Other counts load.

Layout: ``rawframes/benign/VIDEO/000000.png``, ``imagenet_vid_train_15frames.json`` and
``imagenet_vid_val.json``, which are lists of images, annotations and categories as COCO has them. One of
the two is enough. The source of a frame is its category, such as ``"cva-net/benign"``.

**A box is not a mask.** The target is the filled box, and its structure is called ``box``. Dice with it
says how well boxes fit, not outlines.

This loader has met a made copy of that layout and no real files.

Known-bad cases:

- Neighbouring frames are much alike, and all of them would not fit in memory: `MOST_FRAMES` of a video,
  evenly apart, are read. The check counts the others.
- Some boxes were drawn from right to left or upwards; their width or height is negative. They are turned.
- Boxes of no area are not used, and a note counts them.
- A benign video of the first list has the frames of a malignant one of the second. The video is the group;
  near duplicates join videos. The set's own parts are not used.
- Pixel size is unknown.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from usrl.data.dataset import Found, image_files
from usrl.data.duplicates import duplicate_pairs
from usrl.data.reading.pairs import Pair, join_duplicates, read_pairs
from usrl.data.sample import BoolMask, Box, Sample
from usrl.errors import UserError, brief
from usrl.strict import read_json

MOST_FRAMES = 15
"""Frames of a video that are read, as many as the first list has."""
STRUCTURES = {"box": 1}
"""The only structure: what the boxes hold."""

_FOLDER = "Miccai 2022 BUV Dataset"
_LISTS = ("imagenet_vid_train_15frames.json", "imagenet_vid_val.json")
_LARGEST = 200_000_000  # bytes of a list
_REMEDY = "restore the list"


@dataclass
class _Listed:
    """Frames of the lists, by video, and what was wrong with boxes."""

    boxes: dict[str, list[Box]] = field(default_factory=dict)  # by the frame's path below rawframes/
    sources: dict[str, str] = field(default_factory=dict)
    videos: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    empty: int = 0
    turned: int = 0


def _find(root: Path) -> Path:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    if not (folder / "rawframes").is_dir() or not any((folder / name).is_file() for name in _LISTS):
        raise UserError(
            f"{root}: no CVA-Net videos found; wanted rawframes/ and {' or '.join(_LISTS)}; unpack the "
            "archive there, or name the folder that holds it"
        )
    return folder


def _read(folder: Path) -> Found:
    """Read samples named like ``"benign/VIDEO/000000"``, grouped by video."""
    known, faults = _Listed(), []
    for name in _LISTS:
        if (folder / name).is_file():
            try:
                _read_list(folder / name, known)
            except UserError as error:
                faults.append(str(error))
    chosen = [frame for frames in known.videos.values() for frame in _spread(sorted(frames))]
    raw = folder / "rawframes"
    pairs = [Pair(raw / frame, (), known.sources[frame], STRUCTURES, title=_title(frame)) for frame in chosen]
    boxes = {_title(frame): known.boxes[frame] for frame in chosen}
    samples, unread = read_pairs(pairs, "Reading CVA-Net", _no_mask)
    samples = [_fill(sample, boxes[sample.name]) for sample in samples]
    duplicates = duplicate_pairs(sample.image for sample in samples)
    grouped = join_duplicates(samples, [sample.name.rpartition("/")[0] for sample in samples], duplicates)
    facts: dict[str, int | str] = {
        "videos": len(known.videos),
        "frames not read": len(known.boxes) - len(chosen),
        "boxes turned": known.turned,
        "boxes of no area, not used": known.empty,
    }
    return Found(grouped, faults + unread, facts, duplicates)


def _read_list(path: Path, known: _Listed) -> None:
    """Add the frames of a list to those that are known."""
    if path.stat().st_size > _LARGEST:
        raise UserError(f"{path}: has more than {_LARGEST} bytes, far more than a list; {_REMEDY}")
    tree = read_json(path.read_bytes(), str(path), _REMEDY)
    images, notes, kinds = (_entries(path, tree, key) for key in ("images", "annotations", "categories"))
    categories = {_whole(path, kind, "id"): _word(path, kind, "name") for kind in kinds}
    frames: dict[int, str] = {}
    for image in images:
        frame = _word(path, image, "file_name").replace("\\", "/")
        parts = PurePosixPath(frame).parts
        if len(parts) != 3 or not set(parts).isdisjoint({"..", "/", "."}):
            raise UserError(f"{path}: a frame is benign/VIDEO/000000.png, got {brief(frame)}; {_REMEDY}")
        frames[_whole(path, image, "id")] = frame
        if frame not in known.boxes:
            known.videos["/".join(parts[:2])].append(frame)
        known.boxes[frame] = []
        known.sources[frame] = f"cva-net/{parts[0]}"
    for note in notes:
        number = _whole(path, note, "image_id")
        if number not in frames:
            raise UserError(f"{path}: a box is of image {number}, which is not listed; {_REMEDY}")
        frame = frames[number]
        kind = categories.get(_whole(path, note, "category_id"), frame.partition("/")[0])
        known.sources[frame] = f"cva-net/{kind}"
        _add_box(path, note.get("bbox"), frame, known)


def _add_box(path: Path, sides: Any, frame: str, known: _Listed) -> None:
    is_box = isinstance(sides, list) and len(sides) == 4 and all(type(side) in (int, float) for side in sides)
    if not is_box or not np.isfinite(sides).all() or max(map(abs, sides)) > 1e6:
        raise UserError(f"{path}: {frame}: a box is x, y, width and height, got {brief(sides)}; {_REMEDY}")
    x, y, width, height = map(float, sides)
    if not width or not height:
        known.empty += 1
        return
    known.turned += width < 0 or height < 0
    box = min(x, x + width), min(y, y + height), max(x, x + width), max(y, y + height)
    known.boxes[frame].append(box)


def _entries(path: Path, tree: Any, key: str) -> list[dict[str, Any]]:
    entries = tree.get(key) if isinstance(tree, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: wanted a list of {key}, as COCO has it; {_REMEDY}")
    return entries


def _whole(path: Path, entry: dict[str, Any], key: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise UserError(f"{path}: wanted a whole number as {key}, got {brief(value)}; {_REMEDY}")
    return value


def _word(path: Path, entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise UserError(f"{path}: wanted a text as {key}, got {brief(value)}; {_REMEDY}")
    return value


def _spread(frames: list[str]) -> list[str]:
    """Return some frames of a video, evenly apart, or all if they are few."""
    if len(frames) <= MOST_FRAMES:
        return frames
    return [frames[place] for place in np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int)]


def _title(frame: str) -> str:
    return frame.rpartition(".")[0]


def _no_mask(path: Path) -> BoolMask:
    raise AssertionError(f"{path}: boxes are not files")


def _fill(sample: Sample, boxes: list[Box]) -> Sample:
    """Return a sample whose target is what the boxes hold: pixels whose centres are inside."""
    labels = np.zeros(sample.image.shape, np.uint8)
    for x0, y0, x1, y1 in boxes:
        rows, columns = (slice(max(0, round(low)), max(0, round(high))) for low, high in ((y0, y1), (x0, x1)))
        labels[rows, columns] = 1
    return replace(sample, labels=labels)


CVA_NET = image_files(
    _find, _read, STRUCTURES, terms="is licensed for research and education only, not for commercial use"
)
