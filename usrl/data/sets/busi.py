"""BUSI: breast ultrasound images with reference masks.

Origin: Baheya Hospital, Cairo, 2018; 600 women aged 25 to 75; LOGIQ E9 and LOGIQ E9 Agile scanners.

Licence: the dataset's page and its mirrors state different terms; read those of your copy. Meant for
research; this package does not redistribute it.

Citation: Al-Dhabyani, Gomaa, Khaled and Fahmy (2020), Dataset of breast ultrasound images, Data in Brief
28:104863, doi:10.1016/j.dib.2019.104863.

Expected counts: 780 images in the full set: 437 benign, 210 malignant, 133 normal. Other counts load, as
reduced copies are common; `usrl data check` shows the counts.

Layout: ``Dataset_BUSI_with_GT/{benign,malignant,normal}``, with ``benign (1).png`` and
``benign (1)_mask.png``. If an image has several lesions, ``_mask_1``, ``_mask_2`` hold the others; they are
united here.

Known-bad cases:

- Masks are 1-bit, RGB or RGBA, whose alpha does not count.
- Some masks carry stray specks; components of fewer than ``MIN_LESION_PX`` pixels are removed.
- There are many near-duplicate images, some across classes (one pair is pixel-identical with opposite
  labels), and there is no patient id. Groups are clusters of near-duplicates, taken over all classes.
- Burned-in text, calipers and boxes occur. Pixel size is unknown.
- Images of class ``normal`` have empty masks.
"""

import re
from pathlib import Path

from usrl.data.dataset import Found, image_files
from usrl.data.reading.files import list_images, read_mask
from usrl.data.reading.pairs import Pair, group_duplicates, read_pairs, remove_slips
from usrl.data.reading.tables import clean
from usrl.errors import UserError

CLASSES = ("benign", "malignant", "normal")
MIN_LESION_PX = 10
"""Mask components of fewer native px than this are slips of the pen, not lesions."""

_FOLDER = "Dataset_BUSI_with_GT"
_MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")


def _find(root: Path) -> Path:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    if not any((folder / label).is_dir() for label in CLASSES):
        raise UserError(
            f"{root}: no BUSI found; wanted {_FOLDER}/ with the folders {', '.join(CLASSES)}; "
            "unpack Dataset_BUSI_with_GT.zip there, or name the folder that holds it"
        )
    return folder


def _read(folder: Path) -> Found:
    """Read samples named like ``"benign (1)"``, of source ``"busi/benign"``, by class and number."""
    pairs, faults = _list_pairs(folder)
    read, unread = read_pairs(pairs, "Reading BUSI", read_mask)
    cleaned, specks = remove_slips(read, MIN_LESION_PX)
    samples, duplicates = group_duplicates(cleaned)
    facts: dict[str, int | str] = {f"specks removed (< {MIN_LESION_PX} px)": specks}
    return Found(samples, faults + unread, facts, duplicates, tuple(f"busi/{label}" for label in CLASSES))


def _list_pairs(folder: Path) -> tuple[list[Pair], list[str]]:
    pairs: list[Pair] = []
    faults: list[str] = []
    for label in CLASSES:
        files = list_images(folder / label) if (folder / label).is_dir() else []
        if not files:
            faults.append(f"{folder / label}: holds no images; unpack Dataset_BUSI_with_GT.zip again")
        masks: dict[str, list[Path]] = {}
        for path in files:
            if match := _MASK_STEM.fullmatch(clean(path.stem)):
                masks.setdefault(match["image"], []).append(path)
        for path in sorted((p for p in files if not _MASK_STEM.fullmatch(clean(p.stem))), key=_number):
            own = masks.pop(clean(path.stem), None)
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


BUSI = image_files(_find, _read)
