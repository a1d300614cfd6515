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
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from usrl.data.components import remove_specks
from usrl.data.duplicates import average_hash, cluster_names, duplicate_pairs
from usrl.data.files import list_images, read_gray, read_mask
from usrl.data.reports import DataReport
from usrl.data.sample import BoolMask, GrayImage, Sample
from usrl.errors import UserError

CLASSES = ("benign", "malignant", "normal")
MIN_LESION_PX = 10
"""Mask components of fewer native px than this are strokes of the pen, not lesions."""

_FOLDER = "Dataset_BUSI_with_GT"
_MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")


@dataclass(frozen=True)
class _Entry:
    """An image file and its mask files."""

    label: str
    image: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class _Case:
    """What an entry holds."""

    image: GrayImage
    target: BoolMask
    specks: int


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
            a mask has no image, or a file is damaged; the message lists every fault found.
    """
    entries, cases, faults = _read(_locate(Path(root)), show_progress)
    if faults:
        more = f"\n... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UserError("\n".join(faults[:10]) + more)
    names = [entry.image.stem for entry in entries]
    groups = cluster_names(names, _pairs(cases))
    return [
        Sample(case.image, case.target, None, name, group, f"busi/{entry.label}")
        for entry, case, name, group in zip(entries, cases, names, groups, strict=True)
    ]


def check_busi(root: Path | str, show_progress: bool = False) -> DataReport:
    """Check a copy of BUSI without stopping at its faults.

    Args:
        root: The folder that contains ``Dataset_BUSI_with_GT``, or that folder itself.
        show_progress: Show a progress bar.

    Returns:
        Counts per class, images of several masks, specks, near-duplicates and faults. Damaged images
        are faults and take no part in the other numbers.

    Raises:
        UserError: If the folder is absent or empty.
    """
    folder = _locate(Path(root))
    entries, cases, faults = _read(folder, show_progress)
    names = [entry.image.stem for entry in entries]
    pairs = _pairs(cases)
    groups = cluster_names(names, pairs)
    linked = [(names[i], names[j]) for i, j in pairs]
    crossing = [(names[i], names[j]) for i, j in pairs if entries[i].label != entries[j].label]
    return DataReport(
        name="busi",
        root=str(folder),
        counts={f"busi/{label}": sum(entry.label == label for entry in entries) for label in CLASSES},
        groups=len(set(groups)),
        facts={
            "images with several masks": sum(len(entry.masks) > 1 for entry in entries),
            "images with an empty target": sum(not case.target.any() for case in cases),
            f"specks removed (< {MIN_LESION_PX} px)": sum(case.specks for case in cases),
            "near-duplicate pairs": len(linked),
            "near-duplicate pairs across classes": len(crossing),
            "near-duplicate groups": sum(groups.count(group) > 1 for group in set(groups)),
        },
        duplicate_pairs=tuple(linked),
        cross_pairs=tuple(crossing),
        faults=tuple(faults),
    )


def _locate(root: Path) -> Path:
    """Return the folder that holds the classes."""
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    if not any((folder / label).is_dir() for label in CLASSES):
        raise UserError(
            f"{root}: no BUSI found; wanted {_FOLDER}/ with the folders {', '.join(CLASSES)}; "
            "unpack Dataset_BUSI_with_GT.zip there, or name the folder that holds it"
        )
    return folder


def _read(folder: Path, show_progress: bool) -> tuple[list[_Entry], list[_Case], list[str]]:
    """Read every entry that can be read, and say what is wrong with the others."""
    entries, faults = _list_entries(folder)
    with ThreadPoolExecutor() as pool:  # decoding a PNG releases the interpreter
        results: Iterable[_Case | UserError] = pool.map(_try_read, entries)
        if show_progress:
            results = track(results, description="Reading BUSI", total=len(entries))
        outcomes = list(zip(entries, results, strict=True))
    good = [(entry, case) for entry, case in outcomes if isinstance(case, _Case)]
    faults += [str(error) for _, error in outcomes if isinstance(error, UserError)]
    return [entry for entry, _ in good], [case for _, case in good], faults


def _list_entries(folder: Path) -> tuple[list[_Entry], list[str]]:
    """Match the images of all classes with their masks; return unmatched files as faults."""
    entries: list[_Entry] = []
    faults: list[str] = []
    for label in CLASSES:
        files = list_images(folder / label) if (folder / label).is_dir() else []
        masks: dict[str, list[Path]] = {}
        for path in files:
            if match := _MASK_STEM.fullmatch(path.stem):
                masks.setdefault(match["image"], []).append(path)
        for path in sorted((p for p in files if not _MASK_STEM.fullmatch(p.stem)), key=_number):
            own = masks.pop(path.stem, None)
            if own is None:
                faults.append(f"{path}: has no mask {path.stem}_mask.png; restore it or remove the image")
            else:
                entries.append(_Entry(label, path, tuple(own)))
        for path in (path for orphans in masks.values() for path in orphans):
            faults.append(f"{path}: has no image; restore the image or remove the mask")
    if not entries and not faults:
        raise UserError(f"{folder}: holds no images; unpack Dataset_BUSI_with_GT.zip again")
    return entries, faults


def _number(path: Path) -> tuple[int, str]:
    """Sort ``benign (2)`` before ``benign (10)``."""
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else 0), path.stem


def _try_read(entry: _Entry) -> _Case | UserError:
    """Return the case, or the error that reading it met."""
    try:
        image = read_gray(entry.image)
        target = np.zeros(image.shape, np.bool_)
        for path in entry.masks:
            target |= _read_matching_mask(path, image.shape)
    except UserError as error:
        return error
    clean, specks = remove_specks(target, MIN_LESION_PX)
    return _Case(image, clean, specks)


def _read_matching_mask(path: Path, shape: tuple[int, ...]) -> BoolMask:
    """Return the mask; raise if its shape differs from its image's."""
    mask = read_mask(path)
    if mask.shape != shape:
        raise UserError(
            f"{path}: the mask is {mask.shape[1]} x {mask.shape[0]} px and its image "
            f"{shape[1]} x {shape[0]} px; restore the original pair"
        )
    return mask


def _pairs(cases: list[_Case]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the near-duplicate pairs among the images."""
    hashes = [average_hash(case.image) for case in cases]
    return duplicate_pairs(np.stack(hashes) if hashes else np.zeros((0, 256), np.uint8))
