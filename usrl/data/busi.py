"""BUSI: breast ultrasound images with reference masks.

Origin: Baheya Hospital, Cairo, 2018; 600 women aged 25 to 75; LOGIQ E9 and LOGIQ E9 Agile scanners.

Licence: the dataset's page and its mirrors state different terms; read those of your copy. Meant for
research; this package does not redistribute it.

Citation: Al-Dhabyani, Gomaa, Khaled and Fahmy (2020), Dataset of breast ultrasound images, Data in Brief
28:104863, doi:10.1016/j.dib.2019.104863.

Expected counts: 780 images in the full set: 437 benign, 210 malignant, 133 normal. Other counts load, as
reduced copies are common; ``check_busi`` shows the counts.

Layout: ``Dataset_BUSI_with_GT/{benign,malignant,normal}``, with ``benign (1).png`` beside
``benign (1)_mask.png``; where an image has several lesions, ``_mask_1``, ``_mask_2`` hold the others, and
they are united here.

Known-bad cases:

- Masks are 1-bit, RGB or RGBA; foreground is where the luminance exceeds 127, never the alpha.
- Some masks carry stray specks; components of fewer than ``MIN_LESION_PX`` pixels are removed.
- There are many near-duplicate images, some across classes (one pair is pixel-identical with opposite
  labels), and there is no patient id. Groups are clusters of near-duplicates, taken over all classes.
- Burned-in text, calipers and boxes occur. Pixel size is unknown.
- Images of class ``normal`` have empty masks.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usrl.data.duplicates import cluster_names, duplicate_pairs
from usrl.data.files import list_images
from usrl.data.pairs import Pair, raise_faults, read_pairs, without_specks
from usrl.data.reports import DataReport, report_samples
from usrl.data.sample import Sample
from usrl.errors import UserError

CLASSES = ("benign", "malignant", "normal")
MIN_LESION_PX = 10
"""Mask components of fewer native px than this are slips of the pen, not lesions."""

_FOLDER = "Dataset_BUSI_with_GT"
_MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")


@dataclass(frozen=True)
class _Found:
    """What a copy of BUSI holds, and what is wrong with it."""

    samples: list[Sample]
    duplicates: NDArray[np.int64]  # (P, 2)
    specks: int
    faults: list[str]


def load_busi(root: Path | str, show_progress: bool = False) -> list[Sample]:
    """Load BUSI.

    Args:
        root: The folder that contains ``Dataset_BUSI_with_GT``, or that folder itself.
        show_progress: Show a progress bar.

    Returns:
        Samples in the order of classes and numbers, named like ``"benign (1)"``, of source
        ``"busi/benign"``, grouped by near-duplicate cluster, of unknown spacing.

    Raises:
        UserError: If the folder is absent or empty, a mask is missing or of another size than its image,
            a mask has no image, or a file is damaged; the message lists the faults.
    """
    found = _read(_locate(Path(root)), show_progress)
    raise_faults(found.faults)
    return found.samples


def check_busi(root: Path | str, show_progress: bool = False) -> DataReport:
    """Check a copy of BUSI without stopping at its faults.

    Args:
        root: The folder that contains ``Dataset_BUSI_with_GT``, or that folder itself.
        show_progress: Show a progress bar.

    Returns:
        Counts per class, near-duplicates, specks and faults. Images with a
        fault take no part in the other numbers.

    Raises:
        UserError: If the folder is absent or empty.
    """
    folder = _locate(Path(root))
    found = _read(folder, show_progress)
    report = report_samples("busi", str(folder), found.samples, found.faults, found.duplicates)
    counts = {f"busi/{label}": report.counts.get(f"busi/{label}", 0) for label in CLASSES}
    facts = report.facts | {f"specks removed (< {MIN_LESION_PX} px)": found.specks}
    return replace(report, counts=counts, facts=facts)


def _locate(root: Path) -> Path:
    """Return the folder that holds the classes."""
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    if not any((folder / label).is_dir() for label in CLASSES):
        raise UserError(
            f"{root}: no BUSI found; wanted {_FOLDER}/ with the folders {', '.join(CLASSES)}; "
            "unpack Dataset_BUSI_with_GT.zip there, or name the folder that holds it"
        )
    return folder


def _read(folder: Path, show_progress: bool) -> _Found:
    """Read every image that can be read, and say what is wrong with the others."""
    pairs, faults = _list_pairs(folder)
    outcomes = read_pairs(pairs, "Reading BUSI", show_progress)
    faults += [str(outcome) for outcome in outcomes if isinstance(outcome, UserError)]
    samples, specks = without_specks(outcomes, MIN_LESION_PX)
    duplicates = duplicate_pairs(sample.image for sample in samples)
    groups = cluster_names([sample.name for sample in samples], duplicates)
    samples = [replace(sample, group=group) for sample, group in zip(samples, groups, strict=True)]
    return _Found(samples, duplicates, specks, faults)


def _list_pairs(folder: Path) -> tuple[list[Pair], list[str]]:
    """Match the images of all classes with their masks; return unmatched files as faults."""
    pairs: list[Pair] = []
    faults: list[str] = []
    for label in CLASSES:
        files = list_images(folder / label) if (folder / label).is_dir() else []
        if not files:
            faults.append(f"{folder / label}: holds no images; unpack Dataset_BUSI_with_GT.zip again")
        masks: dict[str, list[Path]] = {}
        for path in files:
            if match := _MASK_STEM.fullmatch(path.stem):
                masks.setdefault(match["image"], []).append(path)
        for path in sorted((p for p in files if not _MASK_STEM.fullmatch(p.stem)), key=_number):
            own = masks.pop(path.stem, None)
            if own is None:
                faults.append(f"{path}: has no mask {path.stem}_mask.png; restore it or remove the image")
            else:
                pairs.append(Pair(path, tuple(own), f"busi/{label}"))
        for path in (path for orphans in masks.values() for path in orphans):
            faults.append(f"{path}: has no image; restore the image or remove the mask")
    return pairs, faults


def _number(path: Path) -> tuple[int, str]:
    """Sort ``benign (2)`` before ``benign (10)``."""
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else 0), path.stem
