"""USGRA: nerves and vessels, as ultrasound-guided regional anaesthesia looks for them.

Origin: images of ultrasound-guided regional anaesthesia, with nerves and vessels outlined.

Licence: stated as CC BY 4.0, while a file in the folder has the terms of MIT; read those of your copy.
Citation: none is given with the data.

Expected counts: none are stated. Any number of images loads; names count up from ``0000`` with gaps.

Layout: ``dataset/images/0000.png`` with ``dataset/masks/0000.png``, whose pixels are class numbers:
0 background, 1 nerve, 2 vessel. They are the indices of a palette, never a luminance.

A sample has one target, and nerve and vessel often touch: united, they would be one component, one box and
one contour for two structures that look different. Two samples of one image would ask an automatic network
for two answers to one question. So the structures are two data sets that read the same files, with the same
groups and hence the same splits: ``usgra`` has nerves as targets, ``usgra-vessels`` vessels.

Known-bad cases:

- Some masks carry stray specks; components of fewer than ``MIN_STRUCTURE_PX`` pixels are removed. Vessels
  that touch are one component.
- Vessels are absent in some images, whose target in ``usgra-vessels`` is empty.
- Some frames occur twice, the second time with other margins and brightness. Groups are clusters of images
  that are near duplicates once their dark margins are cut off; there is no patient id.
- Some images carry a logo. Pixel size is unknown.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usrl.data.duplicates import cluster_names, duplicate_pairs
from usrl.data.files import list_images, read_classes
from usrl.data.pairs import Pair, raise_faults, read_pairs, without_specks
from usrl.data.reports import DataReport, report_samples
from usrl.data.sample import BoolMask, GrayImage, Sample
from usrl.errors import UserError

STRUCTURES = {"nerve": 1, "vessel": 2}
"""Class numbers of the masks."""
MIN_STRUCTURE_PX = 10
"""Mask components of fewer native px than this are slips of the pen."""
MAX_CUT_DISTANCE = 15
"""Images whose hashes without margins differ in at most this many bits show the same frame.

In 120 images the same frames differ in 2 to 11 bits, others in 19 or more."""

_DARK = 12
_LIT_SHARE = 0.1
_FOLDER = "dataset"


@dataclass(frozen=True)
class _Found:
    """What a copy of USGRA holds, and what is wrong with it."""

    samples: list[Sample]
    duplicates: NDArray[np.int64]  # (P, 2)
    specks: int
    faults: list[str]


def load_usgra(root: Path | str, show_progress: bool = False, structure: str = "nerve") -> list[Sample]:
    """Load the nerves or the vessels of USGRA.

    Args:
        root: The folder that contains ``dataset``, or that folder itself.
        show_progress: Show a progress bar.
        structure: One of ``STRUCTURES``.

    Returns:
        Samples by name, such as ``"0000"``, of source ``"usgra/nerve"`` or ``"usgra/vessel"``, grouped by
        frame, of unknown spacing.

    Raises:
        UserError: If a folder is absent or empty, files do not pair, sizes differ, a file is damaged, or a
            mask holds other classes; the message lists the faults.
    """
    found = _read(_locate(Path(root)), show_progress, structure)
    raise_faults(found.faults)
    return found.samples


def check_usgra(root: Path | str, show_progress: bool = False, structure: str = "nerve") -> DataReport:
    """Check a copy of USGRA without stopping at its faults.

    Args:
        root: The folder that contains ``dataset``, or that folder itself.
        show_progress: Show a progress bar.
        structure: One of ``STRUCTURES``.

    Returns:
        Counts, images without the structure, specks, frames that occur again, and faults. Images with a fault
        take no part in the other numbers.

    Raises:
        UserError: If a folder is absent or empty.
    """
    folder = _locate(Path(root))
    found = _read(folder, show_progress, structure)
    report = report_samples(
        name_structure(structure), str(folder), found.samples, found.faults, found.duplicates
    )
    facts = report.facts | {f"specks removed (< {MIN_STRUCTURE_PX} px)": found.specks}
    return replace(report, facts=facts)


def name_structure(structure: str) -> str:
    """Return the name of the data set whose targets are a structure."""
    return "usgra" if structure == "nerve" else f"usgra-{structure}s"


def _locate(root: Path) -> Path:
    """Return the folder that holds images and masks."""
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    for part in ("images", "masks"):
        if not (folder / part).is_dir() or not list_images(folder / part):
            raise UserError(
                f"{root}: no USGRA found; wanted {_FOLDER}/images and {_FOLDER}/masks with files in both; "
                "unpack it there, or name the folder that holds it"
            )
    return folder


def _read(folder: Path, show_progress: bool, structure: str) -> _Found:
    """Read every image that can be read, and say what is wrong with the others."""
    pairs, faults = _list_pairs(folder, structure)
    read = partial(_read_structure, STRUCTURES[structure])
    outcomes = read_pairs(pairs, "Reading USGRA", show_progress, read)
    faults += [str(outcome) for outcome in outcomes if isinstance(outcome, UserError)]
    samples, specks = without_specks(outcomes, MIN_STRUCTURE_PX)
    duplicates = duplicate_pairs((_cut_margins(sample.image) for sample in samples), MAX_CUT_DISTANCE)
    groups = cluster_names([sample.name for sample in samples], duplicates)
    samples = [replace(sample, group=group) for sample, group in zip(samples, groups, strict=True)]
    return _Found(samples, duplicates, specks, faults)


def _list_pairs(folder: Path, structure: str) -> tuple[list[Pair], list[str]]:
    """Match images with masks of the same name; return unmatched files as faults."""
    masks = {path.name: path for path in list_images(folder / "masks")}
    pairs: list[Pair] = []
    faults: list[str] = []
    for image in list_images(folder / "images"):
        mask = masks.pop(image.name, None)
        if mask is None:
            faults.append(f"{image}: has no mask of its name; restore masks/{image.name} or remove the image")
        else:
            pairs.append(Pair(image, (mask,), f"usgra/{structure}"))
    faults += [f"{path}: has no image; restore the image or remove the mask" for path in masks.values()]
    return pairs, faults


def _read_structure(number: int, path: Path) -> BoolMask:
    """Return where a mask has a class; refuse classes that are none of ``STRUCTURES``."""
    classes = read_classes(path)
    if unknown := sorted(set(np.unique(classes).tolist()) - {0, *STRUCTURES.values()}):
        raise UserError(
            f"{path}: holds class {unknown[0]}, and classes are 0 to {max(STRUCTURES.values())}; export the "
            "mask with its class numbers again"
        )
    return np.asarray(classes == number, np.bool_)


def _cut_margins(image: GrayImage) -> GrayImage:
    """Return what lies between the first and the last rows and columns that are lit; all, where none is."""
    lit = image > _DARK
    rows, columns = (np.flatnonzero(lit.mean(axis=axis) > _LIT_SHARE) for axis in (1, 0))
    if not rows.size or not columns.size:
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
