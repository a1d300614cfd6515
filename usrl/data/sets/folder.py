"""A folder of images and masks of any kind.

Origin, licence and citation are the owner's. Layout: ``images/NAME.EXT`` with ``masks/NAME.EXT``, matched by
stem; the extensions may differ. Files are of every kind that `usrl.data.reading.images` reads. Pixel size is
that of DICOM, NIfTI, NRRD and MetaImage files. An optional ``spacing.csv`` with the header
``name,row_mm,column_mm`` gives that of other images, or another; else it is unknown. ``data.window`` are the
levels that become black and white. An optional ``groups.csv`` with the header ``name,group`` gives each image
its patient or exam, which splits keep together; without it, images of a patient of DICOM are a group, and
every other image is a group of its own. Expected counts: one mask per image, one image per mask.

Masks (`usrl.data.reading.files.read_labels`) have two values, and several components are several lesions. Or
they have class numbers, 0 on the background: then each number is a structure, and an optional
``structures.csv`` with the header ``number,name`` names it; without it, the structures are called ``1``,
``2`` and so on. An empty mask is an image without a lesion.
"""

import math
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from usrl.data.dataset import Found, recipe_files
from usrl.data.reading.files import MAX_CLASS, has_more_than_8_bits, kind_of, read_classes, read_labels
from usrl.data.reading.images import list_readable, open_image
from usrl.data.reading.nifti import stem_of
from usrl.data.reading.pairs import Pair, listed, read_pairs
from usrl.data.reading.tables import clean, format_rows, read_rows
from usrl.data.reading.windows import Window
from usrl.data.recipe import DataRecipe
from usrl.data.sample import LESION, Labels, Sample, Spacing, numbers_in
from usrl.errors import UserError

_DEEP = "images of over 8 bits (largest value to 255)"
_SPACING = ("name", "row_mm", "column_mm")
_ANY_NUMBER = {str(number): number for number in range(1, 256)}


def _find(root: Path) -> Path:
    for folder in (root / "images", root / "masks"):
        if not folder.is_dir():
            raise UserError(f"{folder}: does not exist; a dataset folder holds images/ and masks/")
        if not list_readable(folder):
            raise UserError(
                f"{folder}: holds no images; put PNG, TIFF, BMP, JPEG, DICOM, NIfTI or NRRD files there"
            )
    return root


def _read(root: Path, data: DataRecipe) -> Found:
    """Read samples named as the files, of source ``"folder"``."""
    pairs, faults = _pair_files(root, data.window)
    structures: dict[str, int] | None = None
    groups: dict[str, str] = {}
    try:
        structures = _read_structures(root / "structures.csv")
    except UserError as error:
        faults.append(str(error))
    try:
        groups = read_groups(root / "groups.csv", [pair.name for pair in pairs])
    except UserError as error:
        faults.append(str(error))
    spacings: dict[str, Spacing] = {}
    try:
        spacings = read_spacings(root / "spacing.csv", [pair.name for pair in pairs])
    except UserError as error:
        faults.append(str(error))
    samples, unread = _read_classes(pairs, structures) if structures else _read_labels(pairs)
    faults += unread
    names = {sample.name for sample in samples}
    sound = [pair for pair in pairs if pair.name in names]
    notes = notes_on_groups(groups.values())
    scans = {pair.name: open_image(pair.image) for pair in sound if kind_of(pair.image) == "dicom"}
    notes += [f"{file.path}: {file.frame.note}" for file in scans.values() if file.frame.note]
    patients = {name: file.patient for name, file in scans.items() if file.patient is not None}
    if not groups and (groups := patients):
        notes.append(f"{len(groups)} images are grouped by the patient of their DICOM file")
    samples = [
        replace(
            sample,
            group=groups.get(sample.name, sample.name),
            spacing_mm=spacings.get(sample.name, sample.spacing_mm),
        )
        for sample in samples
    ]
    deep = sum(_is_deep(pair.image) for pair in sound)
    known = sum(sample.spacing_mm is not None for sample in samples)
    facts: dict[str, int | str] = {_DEEP: deep} if deep and data.window is None else {}
    return Found(
        samples, faults, facts | ({"images of known pixel size": known} if known else {}), notes=notes
    )


def _is_deep(path: Path) -> bool:
    return has_more_than_8_bits(path) if kind_of(path) == "picture" else open_image(path).is_deep


def _pair_files(root: Path, window: Window | None) -> tuple[list[Pair], list[str]]:
    images, masks = _by_stem(root / "images"), _by_stem(root / "masks")
    faults = [
        f"{files[1]}: the name {stem!r} occurs twice in its folder; rename or remove one"
        for stem, files in [*images.items(), *masks.items()]
        if len(files) > 1
    ]
    pairs = [
        Pair(images[stem][0], (masks[stem][0],), "folder", window=window)
        for stem in sorted(images.keys() & masks.keys())
    ]
    if lonely := sorted(images.keys() - masks.keys()):
        faults.append(f"{root / 'images'}: no mask for {listed(lonely)}; add masks/NAME or remove the images")
    if lonely := sorted(masks.keys() - images.keys()):
        faults.append(f"{root / 'masks'}: no image for {listed(lonely)}; add images/NAME or remove the masks")
    return pairs, faults


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = defaultdict(list)
    for path in list_readable(folder):
        files[clean(stem_of(path))].append(path)
    return files


def _read_labels(pairs: list[Pair]) -> tuple[list[Sample], list[str]]:
    """Read masks. They are class numbers if a file has several of them or files have different ones."""
    foregrounds: dict[Path, int | None] = {}

    def read(path: Path) -> Labels:
        labels, foregrounds[path] = read_labels(path)
        if not labels.any():
            del foregrounds[path]
        return labels

    samples, faults = read_pairs([replace(p, structures=_ANY_NUMBER) for p in pairs], "Reading images", read)
    numbers = {value for value in foregrounds.values() if value is not None and value <= MAX_CLASS}
    if None not in foregrounds.values() and len(numbers) < 2:
        return [replace(sample, structures=LESION) for sample in samples], faults
    maps = {pair.name for pair in pairs if foregrounds.get(pair.masks[0], 0) is None}
    for sample in samples:
        numbers |= set(numbers_in(sample.labels).tolist()) if sample.name in maps else set()
    return _read_classes(pairs, {str(number): number for number in sorted(numbers - {0})})


def _read_classes(pairs: list[Pair], structures: dict[str, int]) -> tuple[list[Sample], list[str]]:
    read = partial(read_classes, known=tuple(structures.values()))
    return read_pairs([replace(pair, structures=structures) for pair in pairs], "Reading images", read)


def _read_structures(path: Path) -> dict[str, int] | None:
    if not path.exists():
        return None
    structures: dict[str, int] = {}
    for line, (number, name) in read_rows(path, ("number", "name")):
        is_number = number.isascii() and number.isdigit() and 0 < int(number[:4]) < 256
        if not is_number or not name or name in structures or int(number) in structures.values():
            raise UserError(
                f"{path}: line {line} must give a new number from 1 to 255 and a new name; fix it"
            )
        structures[name] = int(number)
    if not structures:
        raise UserError(f"{path}: names no structure; write a line such as 1,nerve for each, or remove it")
    return structures


def read_groups(path: Path, names: list[str], what: str = "image") -> dict[str, str]:
    """Return the group of every name, which messages call ``what``; empty if the file is absent."""
    if not path.exists():
        return {}
    groups: dict[str, str] = {}
    for line, (name, group) in read_rows(path, ("name", "group")):
        if not name or not group or name in groups:
            raise UserError(f"{path}: line {line} must give a new name and its group; fix it")
        groups[name] = group
    if unmatched := sorted(set(names) ^ groups.keys()):
        raise UserError(f"{path}: must name every {what} once and nothing else; see {listed(unmatched)}")
    return groups


def read_spacings(path: Path, names: Collection[str]) -> dict[str, Spacing]:
    """Return (row, column) pixel size in mm of some or all names; empty if the file is absent."""
    if not path.exists():
        return {}
    spacings: dict[str, Spacing] = {}
    for line, (name, *sides) in read_rows(path, _SPACING):
        try:
            row, column = map(float, sides)
        except ValueError:
            row = column = 0.0
        if not (0 < row < math.inf and 0 < column < math.inf) or not name or name in spacings:
            raise UserError(f"{path}: line {line} must give a new name and two positive sizes in mm; fix it")
        spacings[name] = row, column
    if unknown := sorted(spacings.keys() - set(names)):
        raise UserError(f"{path}: names images that are not there; see {listed(unknown)}")
    return spacings


def format_spacings(spacings: Mapping[str, Spacing]) -> bytes:
    """Return a table that `read_spacings` reads."""
    return format_rows(_SPACING, [(name, *spacing) for name, spacing in spacings.items()])


def notes_on_groups(groups: Iterable[str]) -> list[str]:
    """Return notes on groups whose names differ by case, spaces or Unicode form alone."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for group in sorted(set(groups)):
        spellings["".join(unicodedata.normalize("NFKC", group).casefold().split())].append(group)
    alike = [" = ".join(map(repr, names)) for names in spellings.values() if len(names) > 1]
    note = (
        f"groups that differ by case, spaces or Unicode form alone, for a split to part: {listed(alike)}; if "
        "they are the same patient, write them alike"
    )
    return [note] if alike else []


FOLDER = recipe_files(_find, _read, structures=None)
