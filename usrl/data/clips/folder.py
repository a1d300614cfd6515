"""A folder of clips of any kind.

Origin, licence and citation are the owner's. Layout: ``clips/NAME.EXT``, or a folder ``clips/NAME/`` of
numbered images; `usrl.data.clips.reading` says which files are read. A folder without ``clips/`` is taken to
hold the clips itself. Names are those of the files without their suffix. Optional are:

- ``masks/NAME/``: a numbered mask for each frame, in the order of the frames; then every clip has masks.
- ``groups.csv`` with the header ``name,group``: the patient or exam of each clip, which splits keep together.
  Without it a DICOM clip's group is its patient, and any other clip is a group of its own.
- ``labels.csv`` with the header ``name`` and a column for each label: whole numbers, a row for each clip.
- ``informative.csv`` with the header ``name,frame``: a row for each frame that a summary should keep; frames
  count from 0.

Expected counts: at least two frames in each clip.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from usrl.data.clips.clips import Clip
from usrl.data.clips.files import Entry, Listed, clip_files
from usrl.data.clips.reading import list_clips, open_clip, write_clip
from usrl.data.reading.dicom import is_dicom
from usrl.data.reading.files import check_name
from usrl.data.reading.pairs import listed
from usrl.data.reading.tables import clean, read_header, read_rows
from usrl.data.sets.folder import notes_on_groups, read_groups
from usrl.data.splits import Member
from usrl.errors import UserError
from usrl.files import make_empty_folder, write_atomically, writing_to

CLIPS, MASKS = "clips", "masks"
_MOST_LABEL = 10**6
_T = TypeVar("_T")


def write_clips(clips: Iterable[Clip], out: Path) -> list[Path]:
    """Write clips into a new or empty folder of the layout above; return the paths of their videos.

    Masks, labels and informative frames are written of the clips that have them; either all or none should. A
    video is mp4, which loses a little of every frame.
    """
    out = make_empty_folder(out)
    paths: list[Path] = []
    tables: dict[str, list[str]] = {"groups.csv": ["name,group\n"], "labels.csv": [], "informative.csv": []}
    with writing_to(out):
        for clip in clips:
            paths.append(out / CLIPS / f"{clip.name}.mp4")
            write_clip(paths[-1], clip.frames, clip.fps)
            for number, mask in enumerate(() if clip.masks is None else clip.masks):
                path = out / MASKS / clip.name / f"{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * np.uint8(255))[1].tobytes())
            tables["groups.csv"].append(f"{clip.name},{clip.group}\n")
            if clip.labels:
                header = ",".join(["name", *clip.labels]) + "\n"
                tables["labels.csv"] = tables["labels.csv"] or [header]
                tables["labels.csv"].append(",".join([clip.name, *map(str, clip.labels.values())]) + "\n")
            if clip.informative is not None:
                tables["informative.csv"] = tables["informative.csv"] or ["name,frame\n"]
                kept = np.flatnonzero(clip.informative).tolist()
                tables["informative.csv"] += [f"{clip.name},{frame}\n" for frame in kept]
        for name, lines in tables.items():
            if lines:
                write_atomically(out / name, "".join(lines).encode())
    return paths


def _find(root: Path) -> Path:
    folder = root / CLIPS if (root / CLIPS).is_dir() else root
    if not list_clips(folder):
        raise UserError(
            f"{folder}: holds no clips; put mp4, mov, avi, mpeg or DICOM files there, or folders of "
            "numbered images"
        )
    return root


def _list(root: Path) -> Listed:
    """List the clips of a folder, of source ``"clips"``."""
    is_own = (root / CLIPS).is_dir()
    faults: list[str] = []
    files: dict[str, Path] = {}
    for path in list_clips(root / CLIPS if is_own else root):
        if not is_own and path.name == MASKS:
            continue
        name = clean(path.name if path.is_dir() else path.stem)
        try:
            check_name(path)
        except UserError as error:
            faults.append(str(error))
            continue
        if name in files:
            faults.append(f"{path}: the name {name!r} occurs twice in its folder; rename or remove one")
        files.setdefault(name, path)

    def attempt(read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except UserError as error:
            faults.append(str(error))
            return None

    table = root / "groups.csv"
    groups = attempt(lambda: read_groups(table, list(files), "clip") if table.exists() else _patients(files))
    groups = groups or {}
    labels = attempt(lambda: _read_labels(root / "labels.csv", files)) or {}
    known = attempt(lambda: _read_informative(root / "informative.csv", files))
    masks = attempt(lambda: _find_masks(root / MASKS, files)) or {}
    entries = [
        Entry(
            path,
            Member(name, groups.get(name, name), "clips"),
            labels.get(name, {}),
            masks.get(name),
            None if known is None else tuple(known[name]),
        )
        for name, path in sorted(files.items())
    ]
    return Listed(entries, faults, notes_on_groups(groups.values()))


def _patients(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the patient of each clip whose file tells; a file that cannot be read tells when it is read."""
    found: dict[str, str] = {}
    for name, path in files.items():
        if path.is_file() and is_dicom(path):
            with suppress(UserError):
                found[name] = open_clip(path).patient or name
    return found


def _read_labels(path: Path, names: Collection[str]) -> dict[str, dict[str, int]]:
    """Return the labels of every clip by name; empty if there is no table."""
    if not path.exists():
        return {}
    header = read_header(path)
    titles = header[1:]
    if header[:1] != ["name"] or not titles or not all(titles) or len(set(titles)) < len(titles):
        raise UserError(
            f"{path}: line 1 must be name and then a title for each label, such as name,severity, got "
            f"{','.join(header)[:200]!r}; fix it"
        )
    labels: dict[str, dict[str, int]] = {}
    for line, (name, *cells) in read_rows(path, header):
        is_number = [cell.isascii() and cell.isdigit() and int(cell[:9]) <= _MOST_LABEL for cell in cells]
        if not name or name in labels or not all(is_number):
            raise UserError(
                f"{path}: line {line} must give a new name and whole numbers from 0 to {_MOST_LABEL}; fix it"
            )
        labels[name] = dict(zip(titles, map(int, cells), strict=True))
    _check_names(path, labels, names)
    return labels


def _read_informative(path: Path, names: Collection[str]) -> dict[str, list[int]] | None:
    """Return the frames to keep of every clip by name; None if there is no table."""
    if not path.exists():
        return None
    known: dict[str, list[int]] = defaultdict(list)
    for line, (name, frame) in read_rows(path, ("name", "frame")):
        if not name or not (frame.isascii() and frame.isdigit() and len(frame) <= 9):
            raise UserError(
                f"{path}: line {line} must give the name of a clip and the number of a frame; fix it"
            )
        known[name].append(int(frame))
    _check_names(path, known, names)
    return known


def _check_names(path: Path, given: Collection[str], names: Collection[str]) -> None:
    if unmatched := sorted(set(names) ^ set(given)):
        raise UserError(f"{path}: must name every clip and nothing else; see {listed(unmatched)}")


def _find_masks(folder: Path, names: Collection[str]) -> dict[str, Path]:
    """Return the folder of masks of every clip by name; empty if there are none."""
    if not folder.is_dir():
        return {}
    found = {clean(path.name): path for path in folder.iterdir() if path.is_dir() and path.name[:1] != "."}
    if unmatched := sorted(set(names) ^ found.keys()):
        raise UserError(
            f"{folder}: must hold a folder of masks for every clip and nothing else; see {listed(unmatched)}"
        )
    return found


CLIP_FOLDER = clip_files(_find, _list)
