"""STU-Hospital: breast ultrasound images for tests on data of another hospital.

Origin: Imaging Department of the First Affiliated Hospital of Shantou University, China.

Licence: none is stated where the set is offered, github.com/xbhlk/STU-Hospital. Without one, nobody may
pass it on; ask its owners. This package does not redistribute it.

Citation: Zhuang, Li, Joseph Raj, Mahesh and Qiu (2019), An RDAU-NET model for lesion segmentation in
breast ultrasound images, PLoS ONE 14(8):e0221535, doi:10.1371/journal.pone.0221535.

Expected counts: 42 images. Other counts load.

Layout: ``Hospital/Test_Image_1.png`` with ``Hospital/mask_1.png``. Some images are in ``demo/`` instead.

This loader has met a made copy of that layout and no real files.

Known-bad cases:

- A mask may have another size than its image. It is stretched to the image by the nearest pixel, and a
  note counts these.
- Pixel size and patients are unknown. Groups are clusters of near duplicates.

42 images are too few to train on: score a network that learned elsewhere on all of them (``--split all``).
"""

import re
from pathlib import Path

from usrl.data.dataset import Found, image_files
from usrl.data.reading.files import list_images, read_mask, read_shape
from usrl.data.reading.pairs import Pair, group_duplicates, listed, read_pairs
from usrl.data.reading.tables import clean
from usrl.errors import UserError

_FOLDER, _DEMO = "Hospital", "demo"
_IMAGE, _MASK = re.compile(r"Test_Image_(\d+)"), re.compile(r"mask_(\d+)")


def _find(root: Path) -> Path:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    if not any(_MASK.fullmatch(clean(path.stem)) for path in list_images(folder)):
        raise UserError(
            f"{root}: no STU-Hospital found; wanted {_FOLDER}/Test_Image_1.png and {_FOLDER}/mask_1.png; put "
            "it there, or name the folder that holds it"
        )
    return folder


def _read(folder: Path) -> Found:
    """Read samples named like ``"Test_Image_1"``, of source ``"stu"``."""
    pairs, faults = _list_pairs(folder)
    samples, unread = read_pairs(pairs, "Reading STU-Hospital", read_mask)
    grouped, duplicates = group_duplicates(samples)
    shapes = {sample.name: sample.image.shape for sample in samples}
    stretched = [
        pair.name for pair in pairs if pair.name in shapes and read_shape(pair.masks[0]) != shapes[pair.name]
    ]
    notes = [f"masks of another size, stretched to their images: {listed(stretched)}"] if stretched else []
    return Found(grouped, faults + unread, {"masks stretched": len(stretched)}, duplicates, notes=notes)


def _list_pairs(folder: Path) -> tuple[list[Pair], list[str]]:
    masks, images = _by_number(folder, _MASK), _by_number(folder, _IMAGE)
    if (folder.parent / _DEMO).is_dir():
        images = _by_number(folder.parent / _DEMO, _IMAGE) | images
    pairs = [
        Pair(images[number], (masks[number],), "stu", is_stretched=True)
        for number in sorted(images.keys() & masks.keys())
    ]
    faults = [
        f"{images[number]}: has no mask mask_{number}.png; restore it or remove the image"
        for number in sorted(images.keys() - masks.keys())
    ]
    faults += [
        f"{masks[number]}: has no image Test_Image_{number}.png; restore the image or remove the mask"
        for number in sorted(masks.keys() - images.keys())
    ]
    return pairs, faults


def _by_number(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    found = {}
    for path in list_images(folder):
        if match := pattern.fullmatch(clean(path.stem)):
            found[int(match[1])] = path
    return found


STU = image_files(_find, _read)
