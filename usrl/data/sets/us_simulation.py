"""US Simulation & Segmentation: organs in simulated and real abdominal ultrasound.

Origin: simulated images by ray casting through CT volumes of VISCERAL Anatomy3; real images of 11 healthy
subjects, SonoSite M-Turbo.

Licence: that of the set's page, kaggle.com/datasets/ignaciorlando/ussimandsegm; read it before use. This
package does not redistribute the set.

Citation: Vitale, Orlando, Iarussi and Larrabide (2020), Improving realism in patient-specific abdominal
ultrasound simulation using CycleGANs, International Journal of Computer Assisted Radiology and Surgery
15(2):183-192, doi:10.1007/s11548-019-02046-5.

Expected counts: 926 simulated images, all annotated, and 617 real ones, of which 60 are. Other counts
load.

Layout: ``abdominal_US/abdominal_US/AUS`` (simulated) and ``.../RUS`` (real), each with
``images/{train,test}`` and ``annotations/{train,test}``. An annotation has the stem of its image and
colours: violet liver, yellow kidney, blue pancreas, red vessels, light blue adrenals, green gallbladder,
white bones, pink spleen. Sources are ``"us-simulation/simulated"`` and ``"us-simulation/real"``.

This loader has met a made copy of that layout and no real files.

Known-bad cases:

- Real images without an annotation are left out, and counted.
- Colours are not exact: outlines are smoothed, and the background is tinted in places. Each pixel gets the
  class of the nearest colour.
- The group is what comes before the last hyphen of the name, the CT volume (``ct14-1``); near duplicates
  join groups. Names without a hyphen are groups of their own. The set's own parts are not used.
- Pixel size is unknown.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from usrl.data.dataset import Found, image_files
from usrl.data.duplicates import duplicate_pairs
from usrl.data.reading.files import list_images, read_nearest_colours
from usrl.data.reading.pairs import Pair, join_duplicates, read_pairs
from usrl.data.reading.tables import clean
from usrl.data.sample import Labels
from usrl.errors import UserError

STRUCTURES = {
    "liver": 1,
    "kidney": 2,
    "pancreas": 3,
    "vessels": 4,
    "adrenals": 5,
    "gallbladder": 6,
    "bones": 7,
    "spleen": 8,
}
"""Numbers of the structures, in the order of their colours."""

_COLOURS = np.array(
    [
        (0, 0, 0),
        (100, 0, 100),
        (255, 255, 0),
        (0, 0, 255),
        (255, 0, 0),
        (0, 255, 255),
        (0, 255, 0),
        (255, 255, 255),
        (255, 0, 255),
    ],
    np.uint8,
)
_FOLDER = "abdominal_US"
_KINDS = {"AUS": "us-simulation/simulated", "RUS": "us-simulation/real"}
_PARTS = ("train", "test")


def _find(root: Path) -> Path:
    for folder in (root / _FOLDER / _FOLDER, root / _FOLDER, root):
        if any((folder / kind / "annotations").is_dir() for kind in _KINDS):
            return folder
    raise UserError(
        f"{root}: no US Simulation & Segmentation found; wanted {_FOLDER}/{_FOLDER}/AUS and RUS with images/ "
        "and annotations/; unpack the archive there, or name the folder that holds it"
    )


def _read(folder: Path) -> Found:
    """Read samples named like ``"ct14-1"``, grouped by CT volume."""
    pairs, without, faults = _list_pairs(folder)
    samples, unread = read_pairs(pairs, "Reading US Simulation & Segmentation", _read_colours)
    duplicates = duplicate_pairs(sample.image for sample in samples)
    keys = [sample.name.rpartition("-")[0] or sample.name for sample in samples]
    facts: dict[str, int | str] = {"images left out: not annotated": without}
    grouped = join_duplicates(samples, keys, duplicates)
    return Found(grouped, faults + unread, facts, duplicates, tuple(_KINDS.values()))


def _list_pairs(folder: Path) -> tuple[list[Pair], int, list[str]]:
    """Return annotated images, the number of the others, and faults."""
    pairs: list[Pair] = []
    faults: list[str] = []
    without = 0
    for kind, source in _KINDS.items():
        for part in _PARTS:
            images, annotations = (folder / kind / what / part for what in ("images", "annotations"))
            masks = (
                {clean(path.stem): path for path in list_images(annotations)} if annotations.is_dir() else {}
            )
            for image in list_images(images) if images.is_dir() else ():
                mask = masks.pop(clean(image.stem), None)
                if mask is None:
                    without += 1
                else:
                    pairs.append(Pair(image, (mask,), source, STRUCTURES))
            faults += [f"{path}: has no image; restore the image or remove it" for path in masks.values()]
    names = Counter(pair.name for pair in pairs)
    faults += [
        f"{pair.image}: the name {pair.name!r} occurs {names[pair.name]} times; rename image and annotation"
        for pair in pairs
        if names[pair.name] > 1
    ]
    return [pair for pair in pairs if names[pair.name] == 1], without, faults


def _read_colours(path: Path) -> Labels:
    return read_nearest_colours(path, _COLOURS)


US_SIMULATION = image_files(_find, _read, STRUCTURES)
