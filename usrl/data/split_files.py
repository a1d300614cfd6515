"""Splits as tables that others can use: the part of every image, and the hash of its pixels.

A table is CSV with the header ``name,group,part,sha256``. The hash is SHA-256 of the decoded gray pixels, row
by row, so that another encoding of the same pixels has the same hash. JPEG decoders may differ by a level: a
table of JPEG images may not fit where another decoder reads them, and says so by its hashes.
"""

import hashlib
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from usrl.data.reading.pairs import listed
from usrl.data.reading.tables import format_rows, read_rows
from usrl.data.sample import GrayImage, Sample
from usrl.data.splits import DEFAULT_FRACTIONS
from usrl.errors import UserError, suggest
from usrl.files import make_folder, write_atomically

COLUMNS = ("name", "group", "part", "sha256")
_HASH = re.compile(r"[0-9a-f]{64}")


def hash_pixels(image: GrayImage) -> str:
    """Return the SHA-256 of an image's pixels, uint8, (H, W), row by row, as 64 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def format_split(samples: Sequence[Sample], split: Mapping[str, Sequence[int]]) -> bytes:
    """Return the table of a split, positions by part, in the order of the samples."""
    parts = {index: part for part, indices in split.items() for index in indices}
    rows = (
        (sample.name, sample.group, parts[index], hash_pixels(sample.image))
        for index, sample in enumerate(samples)
    )
    return format_rows(COLUMNS, rows)


def write_table(path: Path, samples: Sequence[Sample], split: Mapping[str, Sequence[int]]) -> None:
    """Write the table of a split to a new file; refuse to replace one."""
    if path.exists():
        raise UserError(f"{path} is there already; choose another --out, or move it away")
    make_folder(path.parent)
    write_atomically(path, format_split(samples, split))


def read_split(path: Path | str, samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Return the split that a table states, ascending positions by part.

    Groups that the table or the data set names and that the split parts are told by a warning.

    Raises:
        UserError: If the table cannot be read, names an image that is not there or one twice, misses an
            image, or has another hash for one. The message names the images.
    """
    path = Path(path)
    rows: dict[str, tuple[str, str, str]] = {}
    for line, (name, group, part, digest) in read_rows(path, COLUMNS):
        if not name or name in rows:
            raise UserError(f"{path}: line {line} must give a new name, got {name!r}; fix it")
        if part not in DEFAULT_FRACTIONS:
            raise UserError(f"{path}: line {line}: unknown part {part!r}; {suggest(part, DEFAULT_FRACTIONS)}")
        if not _HASH.fullmatch(digest):
            raise UserError(
                f"{path}: line {line}: the hash of {name!r} must be 64 hexadecimal digits in small letters; "
                "export the split again"
            )
        rows[name] = group, part, digest
    _check_names(path, rows, samples)
    split: dict[str, list[int]] = {part: [] for part in DEFAULT_FRACTIONS}
    for index, sample in enumerate(samples):
        split[rows[sample.name][1]].append(index)
    _warn_of_parted(path, rows, samples)
    return split


def _check_names(path: Path, rows: Mapping[str, tuple[str, str, str]], samples: Sequence[Sample]) -> None:
    names = {sample.name for sample in samples}
    if strange := [name for name in rows if name not in names]:
        raise UserError(
            f"{path}: names {len(strange)} images that are not there: {listed(strange)}; use the "
            "copy of the data set that the split was made for"
        )
    if missed := [sample.name for sample in samples if sample.name not in rows]:
        raise UserError(
            f"{path}: does not name {len(missed)} images: {listed(missed)}; add their rows, or "
            "remove the images"
        )
    if changed := [sample.name for sample in samples if hash_pixels(sample.image) != rows[sample.name][2]]:
        raise UserError(
            f"{path}: {len(changed)} images have other pixels than those of the split: {listed(changed)}; "
            "use the original files, or export the split again"
        )


def _warn_of_parted(path: Path, rows: Mapping[str, tuple[str, str, str]], samples: Sequence[Sample]) -> None:
    parts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in samples:
        group, part, _ = rows[sample.name]
        parts["table", group or sample.name].add(part)
        parts["set", sample.group].add(part)
    if parted := sorted({group for (_, group), found in parts.items() if len(found) > 1}):
        warnings.warn(
            f"{path}: {len(parted)} groups are in several parts: {listed(parted)}; images of a "
            "patient in training and test make results too good",
            stacklevel=5,
        )
