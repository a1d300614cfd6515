"""USGRA: nerves and vessels, as ultrasound-guided regional anaesthesia looks for them.

Origin: images of ultrasound-guided regional anaesthesia, with nerves and vessels outlined.

Licence: stated as CC BY 4.0, while a file in the folder has the terms of MIT; read those of your copy.
Citation: the data gives no citation.

Expected counts: none are stated. Any number of images loads; names count up from ``0000`` with gaps.

Layout: ``dataset/images/0000.png`` with ``dataset/masks/0000.png``, whose pixels are class numbers:
0 background, 1 nerve, 2 vessel. They are the indices of a palette, never a luminance.

Nerve and vessel often touch: united, they would be one component, one box and one contour for two structures
that look different. So a recipe chooses one of them (``data.structure``). Groups, and hence splits, are the
same for both.

Known-bad cases:

- Some masks carry stray specks; components of fewer than ``MIN_STRUCTURE_PX`` pixels are removed. Vessels
  that touch are one component.
- Vessels are absent in some images, whose target is empty.
- Some frames occur twice, the second time with other margins and brightness. Groups are clusters of images
  that are near duplicates once their dark margins are cut off; there is no patient id.
- Some images carry a logo. Pixel size is unknown.
"""

from functools import partial
from pathlib import Path

import numpy as np

from usrl.data.dataset import Found, image_files
from usrl.data.reading.files import list_images, read_classes
from usrl.data.reading.pairs import Pair, group_duplicates, read_pairs, remove_slips
from usrl.data.reading.tables import clean
from usrl.data.sample import GrayImage
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


def _find(root: Path) -> Path:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    for part in ("images", "masks"):
        if not (folder / part).is_dir() or not list_images(folder / part):
            raise UserError(
                f"{root}: no USGRA found; wanted {_FOLDER}/images and {_FOLDER}/masks with files in both; "
                "unpack it there, or name the folder that holds it"
            )
    return folder


def _read(folder: Path) -> Found:
    """Read samples named like ``"0000"``, of source ``"usgra"``, grouped by frame."""
    pairs, faults = _list_pairs(folder)
    read = partial(read_classes, known=tuple(STRUCTURES.values()))
    samples, unread = read_pairs(pairs, "Reading USGRA", read)
    cleaned, specks = remove_slips(samples, MIN_STRUCTURE_PX)
    grouped, duplicates = group_duplicates(cleaned, _cut_margins, MAX_CUT_DISTANCE)
    return Found(grouped, faults + unread, {f"specks removed (< {MIN_STRUCTURE_PX} px)": specks}, duplicates)


def _list_pairs(folder: Path) -> tuple[list[Pair], list[str]]:
    masks = {clean(path.name): path for path in list_images(folder / "masks")}
    pairs: list[Pair] = []
    faults: list[str] = []
    for image in list_images(folder / "images"):
        mask = masks.pop(clean(image.name), None)
        if mask is None:
            faults.append(f"{image}: has no mask of its name; restore masks/{image.name} or remove the image")
        else:
            pairs.append(Pair(image, (mask,), "usgra", STRUCTURES))
    faults += [f"{path}: has no image; restore the image or remove the mask" for path in masks.values()]
    return pairs, faults


def _cut_margins(image: GrayImage) -> GrayImage:
    """Return an image from the first to the last lit row and column; all of it if no row or column is lit."""
    lit = image > _DARK
    rows, columns = (np.flatnonzero(lit.mean(axis=axis) > _LIT_SHARE) for axis in (1, 0))
    if not rows.size or not columns.size:
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


USGRA = image_files(_find, _read, STRUCTURES)
