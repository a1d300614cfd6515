"""CAMUS: the heart in two views, at end-diastole and end-systole.

Origin: University Hospital of St Etienne, France; 500 patients; GE Vivid E95.

Licence: stated as CC BY-NC-SA 4.0, which forbids commercial use; read the terms of your copy. This package
does not redistribute the set.

Citation: Leclerc et al. (2019), Deep learning for segmentation using an open large-scale dataset in 2D
echocardiography, IEEE TMI 38(9):2198-2210, doi:10.1109/TMI.2019.2900516.

Expected counts: 2,000 images of 500 patients: two views, two instants. Other counts load.

Layout: ``database_nifti/patient0001/patient0001_2CH_ED.nii.gz`` with ``patient0001_2CH_ED_gt.nii.gz``, and
the same with ``4CH`` and ``ES``; ``Info_2CH.cfg`` and ``Info_4CH.cfg`` with a line ``ImageQuality: Good``.
Sequences are not read. The pixels of a ``_gt`` file are class numbers: 1 the left ventricle's cavity, 2
its myocardium, 3 the left atrium. Sources are the views, such as ``"camus/2CH"``.

This loader has met a made copy of that layout and no real files.

Known-bad cases:

- Spacing is of each file, in mm, and differs between rows and columns.
- The apex of the left ventricle or the atrium may be cut by the sector.
- The patient is the group. Near duplicates are not looked for: the sector makes all images alike.
"""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.data.dataset import Found, image_files
from usrl.data.reading.nifti import read_plane
from usrl.data.sample import Labels, Sample, numbers_in
from usrl.errors import UserError
from usrl.progress import track

STRUCTURES = {"ventricle": 1, "myocardium": 2, "atrium": 3}
"""Class numbers of the annotations: the left ventricle's cavity, its myocardium, the left atrium."""

_FOLDER = "database_nifti"
_PATIENT = re.compile(r"patient\d+")
_VIEWS, _INSTANTS = ("2CH", "4CH"), ("ED", "ES")
_QUALITY = re.compile(r"^\s*ImageQuality\s*:\s*(\w{1,20})\s*$", re.MULTILINE)
_LONGEST = 10_000  # bytes of a table of a view


@dataclass(frozen=True)
class _Frame:
    """The files of one image."""

    folder: Path  # of the patient
    view: str
    instant: str

    @property
    def name(self) -> str:
        return f"{self.folder.name}_{self.view}_{self.instant}"

    @property
    def image(self) -> Path:
        return self.folder / f"{self.name}.nii.gz"

    @property
    def labels(self) -> Path:
        return self.folder / f"{self.name}_gt.nii.gz"


def _find(root: Path) -> Path:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    if not any(_list_patients(folder)):
        raise UserError(
            f"{root}: no CAMUS found; wanted {_FOLDER}/patient0001/ with patient0001_2CH_ED.nii.gz; unpack "
            "the archive there, or name the folder that holds it"
        )
    return folder


def _list_patients(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if _PATIENT.fullmatch(path.name) and path.is_dir())


def _read(folder: Path) -> Found:
    """Read samples named like ``"patient0001_2CH_ED"``, grouped by patient, with pixel sizes."""
    frames, faults = _list_frames(folder)
    with ThreadPoolExecutor() as pool:
        outcomes = list(track(pool.map(_try_read, frames), "Reading CAMUS", len(frames)))
    samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    faults += [str(outcome) for outcome in outcomes if isinstance(outcome, UserError)]
    qualities = Counter(_read_quality(frame) for frame in frames)
    facts: dict[str, int | str] = {
        f"images of {name} quality": count for name, count in sorted(qualities.items())
    }
    none = np.zeros((0, 2), np.int64)
    return Found(samples, faults, facts, none, tuple(f"camus/{view}" for view in _VIEWS))


def _list_frames(folder: Path) -> tuple[list[_Frame], list[str]]:
    """Return the images with annotations, and faults."""
    frames: list[_Frame] = []
    faults: list[str] = []
    for patient in _list_patients(folder):
        for frame in (_Frame(patient, view, instant) for view in _VIEWS for instant in _INSTANTS):
            missing = [path for path in (frame.image, frame.labels) if not path.is_file()]
            if missing:
                faults.append(f"{missing[0]}: is missing; restore it, or remove the patient")
            else:
                frames.append(frame)
    return frames, faults


def _try_read(frame: _Frame) -> Sample | UserError:
    try:
        values, spacing = read_plane(frame.image)
        labels, _ = read_plane(frame.labels)
        if labels.shape != values.shape:
            raise UserError(
                f"{frame.labels}: is {labels.shape[1]} x {labels.shape[0]} px and its image "
                f"{values.shape[1]} x {values.shape[0]} px; restore the pair"
            )
        image, numbers = _as_gray(frame.image, values), _as_classes(frame.labels, labels)
        source = f"camus/{frame.view}"
        return Sample(image, numbers, spacing, frame.name, frame.folder.name, source, STRUCTURES)
    except UserError as error:
        return error


def _as_gray(path: Path, values: NDArray[Any]) -> NDArray[np.uint8]:
    if not (values >= 0).all() or not (values <= 255).all():  # refuses what is not a number too
        raise UserError(f"{path}: wanted gray levels from 0 to 255; restore the file")
    return np.rint(values).astype(np.uint8)


def _as_classes(path: Path, values: NDArray[Any]) -> Labels:
    known = {0, *STRUCTURES.values()}
    if unknown := [number for number in numbers_in(values).tolist() if number not in known]:
        raise UserError(f"{path}: holds class {unknown[0]:g}, and classes are 0, 1, 2, 3; restore the file")
    return values.astype(np.uint8)


def _read_quality(frame: _Frame) -> str:
    """Return the image quality that a view's table states, in small letters."""
    path = frame.folder / f"Info_{frame.view}.cfg"
    if not path.is_file():
        return "unknown"
    with path.open("rb") as file:
        match = _QUALITY.search(file.read(_LONGEST).decode(errors="replace"))
    return match[1].lower() if match else "unknown"


CAMUS = image_files(
    _find, _read, STRUCTURES, terms="is licensed under CC BY-NC-SA 4.0, not for commercial use"
)
