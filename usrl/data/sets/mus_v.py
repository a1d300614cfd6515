"""Mus-V: arteries and veins in frames of ultrasound videos, with forces of the probe.

Origin: 105 videos of the carotid and femoral region of volunteers, with a force sensor at the probe.

Licence: that of the set's page, kaggle.com/datasets/among22/multimodal-ultrasound-vascular-segmentation;
read it before use. This package does not redistribute the set.

Citation: Geng et al. (2024), Force sensing guided artery-vein segmentation via sequential ultrasound
images, MICCAI.

Expected counts: 3,114 frames of 105 videos. Other counts load.

Layout: ``Videos/{train,valid}`` and ``Annotations``, at any depth, with ``VIDEO_001.png`` in both. The
pixels of an annotation are class numbers: 0 background, 1 vein, 2 artery. ``Forces`` is not read.

This loader has met a made copy of that layout and no real files.

Known-bad cases:

- Frames without an annotation are left out, and a warning names them.
- Frames of a video are much alike. The group is the video, without the number of the frame; subjects are
  not named. The set's own parts are not used.
- Pixel size is unknown.
"""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from usrl.data.dataset import Found, image_files
from usrl.data.reading.files import IMAGE_SUFFIXES, read_classes
from usrl.data.reading.pairs import Pair, listed, read_pairs
from usrl.data.reading.tables import clean
from usrl.errors import UserError

STRUCTURES = {"vein": 1, "artery": 2}
"""Class numbers of the annotations."""

_FOLDER = "Multimodal Ultrasound Vascular Segmentation"


def _find(root: Path) -> Path:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    for part in ("Videos", "Annotations"):
        if not (folder / part).is_dir() or not _images_below(folder / part):
            raise UserError(
                f"{root}: no Mus-V found; wanted Videos/ and Annotations/ with images in both; unpack the "
                "archive there, or name the folder that holds it"
            )
    return folder


def _read(folder: Path) -> Found:
    """Read samples named like ``"VIDEO_001"``, of source ``"mus-v"``, grouped by video."""
    frames, annotations = (_images_below(folder / part) for part in ("Videos", "Annotations"))
    faults = [
        f"{path}: the name {clean(path.stem)!r} occurs twice in its folder; rename or remove one"
        for paths in (frames, annotations)
        for path in _repeated(paths)
    ]
    images, masks = ({clean(path.stem): path for path in paths} for paths in (frames, annotations))
    pairs = [
        Pair(images[name], (masks[name],), "mus-v", STRUCTURES)
        for name in sorted(images.keys() & masks.keys())
    ]
    faults += [
        f"{masks[name]}: has no frame; restore the frame or remove it"
        for name in sorted(masks.keys() - images.keys())
    ]
    read = partial(read_classes, known=tuple(STRUCTURES.values()))
    samples, unread = read_pairs(pairs, "Reading Mus-V", read)
    samples = [replace(sample, group=sample.name.rpartition("_")[0] or sample.name) for sample in samples]
    without = sorted(images.keys() - masks.keys())
    left_out = [f"frames without an annotation: {listed(without)}"] if without else []
    none = np.zeros((0, 2), np.int64)  # every frame is a near duplicate of the next
    return Found(samples, faults + unread, {"frames left out": len(without)}, none, left_out=left_out)


def _images_below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(
        path for path in found if not path.name.startswith(".") and (path.is_file() or path.is_symlink())
    )


def _repeated(paths: list[Path]) -> list[Path]:
    counts = Counter(clean(path.stem) for path in paths)
    return [path for path in paths if counts[clean(path.stem)] > 1]


MUS_V = image_files(_find, _read, STRUCTURES)
