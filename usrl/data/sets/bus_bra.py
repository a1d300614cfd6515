"""BUS-BRA: breast ultrasound images with biopsies, BI-RADS categories and folds of its own.

Origin: National Institute of Cancer, Rio de Janeiro; 1,064 patients; four scanners.

Licence: stated as CC BY 4.0 on Zenodo, doi:10.5281/zenodo.8231412; read the terms of your copy.

Citation: Gómez-Flores, Gregorio-Calas and Coelho de Albuquerque Pereira (2024), BUS-BRA: a breast
ultrasound dataset for assessing computer-aided diagnosis systems, Medical Physics 51(4):3110-3123,
doi:10.1002/mp.16812.

Expected counts: 1,875 images of 1,064 cases, 722 benign and 342 malignant. Other counts load.

Layout: ``BUSBRA/Images/bus_0001-l.png``, ``BUSBRA/Masks/mask_0001-l.png``, ``bus_data.csv`` with the
columns ``ID``, ``Case``, ``Pathology``, ``BIRADS``, ``Width`` and ``Height`` among others, and
``5-fold-cv.csv`` with ``ID`` and ``kFold``. The source of an image is its pathology, such as
``"bus-bra/benign"``.

This loader has met a made copy of that layout and no real files.

Known-bad cases:

- The table's width and height may differ from the image's; a note says so.
- Pixel size is unknown. The case is the group; near duplicates join cases.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from usrl.data.dataset import Found, image_files
from usrl.data.duplicates import duplicate_pairs
from usrl.data.reading.files import list_images, read_mask
from usrl.data.reading.pairs import Pair, join_duplicates, listed, read_pairs
from usrl.data.reading.tables import clean, read_columns
from usrl.data.sample import Sample
from usrl.errors import UserError

FOLDS = "5-fold-cv.csv"
"""The table of the set's own folds."""

_FOLDER, _TABLE = "BUSBRA", "bus_data.csv"
_COLUMNS = ("ID", "Case", "Pathology", "BIRADS", "Width", "Height")
_PATHOLOGIES = ("benign", "malignant")


@dataclass(frozen=True)
class _Row:
    case: str
    pathology: str
    birads: str
    size: tuple[str, str]  # width and height, px, as the table has them


def read_folds(root: Path) -> dict[str, int]:
    """Return the number of the set's own fold, from 1, of each image by its name.

    Raises:
        UserError: If the table is missing or damaged, or names an image twice.
    """
    path = _find(root) / FOLDS
    folds: dict[str, int] = {}
    for line, (name, fold) in read_columns(path, ("ID", "kFold")):
        number = fold.removesuffix(".0")
        if not name or name in folds or not (number.isascii() and number.isdecimal()):
            raise UserError(
                f"{path}: line {line} must give a new image and the number of its fold; restore it"
            )
        folds[name] = int(number[:9])
    return folds


def _find(root: Path) -> Path:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    for part in ("Images", "Masks"):
        if not (folder / part).is_dir() or not list_images(folder / part):
            raise UserError(
                f"{root}: no BUS-BRA found; wanted {_FOLDER}/Images, {_FOLDER}/Masks and {_FOLDER}/{_TABLE}; "
                "unpack BUSBRA.zip there, or name the folder that holds it"
            )
    return folder


def _read(folder: Path) -> Found:
    """Read samples named like ``"bus_0001-l"``, grouped by case."""
    rows, faults = _read_table(folder / _TABLE)
    pairs, lonely = _list_pairs(folder, rows)
    samples, unread = read_pairs(pairs, "Reading BUS-BRA", read_mask)
    duplicates = duplicate_pairs(sample.image for sample in samples)
    samples = join_duplicates(samples, [f"case {rows[sample.name].case}" for sample in samples], duplicates)
    birads = Counter(rows[sample.name].birads for sample in samples)
    facts: dict[str, int | str] = {
        f"images of BI-RADS {name}": count for name, count in sorted(birads.items())
    }
    sizes = [s.name for s in samples if (str(s.image.shape[1]), str(s.image.shape[0])) != rows[s.name].size]
    notes = [f"width and height differ from those of {_TABLE}: {listed(sizes)}"] if sizes else []
    own_folds, own_faults = _check_folds(folder, rows, samples)
    return Found(
        samples, faults + lonely + unread + own_faults, facts | own_folds, duplicates, _sources(), notes=notes
    )


def _sources() -> tuple[str, ...]:
    return tuple(f"bus-bra/{pathology}" for pathology in _PATHOLOGIES)


def _read_table(path: Path) -> tuple[dict[str, _Row], list[str]]:
    rows: dict[str, _Row] = {}
    faults: list[str] = []
    try:
        cells = read_columns(path, _COLUMNS)
    except UserError as error:
        return {}, [str(error)]
    for line, (name, case, pathology, birads, width, height) in cells:
        if not name or name in rows or not case or pathology.lower() not in _PATHOLOGIES:
            faults.append(
                f"{path}: line {line} must give a new image, its case and {' or '.join(_PATHOLOGIES)}; "
                "restore it"
            )
        else:
            rows[name] = _Row(case, pathology.lower(), birads or "unknown", (width, height))
    return rows, faults


def _list_pairs(folder: Path, rows: dict[str, _Row]) -> tuple[list[Pair], list[str]]:
    masks = {clean(path.stem): path for path in list_images(folder / "Masks")}
    pairs: list[Pair] = []
    faults: list[str] = []
    images = list_images(folder / "Images")
    for image in images:
        name = clean(image.stem)
        mask = masks.pop(name.replace("bus", "mask", 1), None)
        if mask is None:
            faults.append(
                f"{image}: has no mask {name.replace('bus', 'mask', 1)}.png; restore it or remove the image"
            )
        elif name not in rows:
            faults.append(f"{folder / _TABLE}: no sound row for {name}; restore it or remove the image")
        else:
            pairs.append(Pair(image, (mask,), f"bus-bra/{rows[name].pathology}"))
    faults += [f"{path}: has no image; restore the image or remove the mask" for path in masks.values()]
    if missing := sorted(rows.keys() - {clean(image.stem) for image in images}):
        faults.append(f"{folder / _TABLE}: no image for {listed(missing)}; restore them or remove their rows")
    return pairs, faults


def _check_folds(
    folder: Path, rows: dict[str, _Row], samples: list[Sample]
) -> tuple[dict[str, int | str], list[str]]:
    """Return the sizes of the set's own folds, if it brings them, and cases that they part."""
    if not (folder / FOLDS).is_file():
        return {}, []
    try:
        folds = read_folds(folder)
    except UserError as error:
        return {}, [str(error)]
    of_case: dict[str, set[int]] = defaultdict(set)
    for sample in samples:
        if sample.name in folds:
            of_case[rows[sample.name].case].add(folds[sample.name])
    sizes = Counter(folds[sample.name] for sample in samples if sample.name in folds)
    facts: dict[str, int | str] = {f"images of fold {fold}": count for fold, count in sorted(sizes.items())}
    parted = sorted(case for case, found in of_case.items() if len(found) > 1)
    told = f"{folder / FOLDS}: parts the images of cases {listed(parted)}; restore it"
    return facts, [told] if parted else []


BUS_BRA = image_files(_find, _read)
