"""Results of methods that were run elsewhere: a table of cases, or a folder of masks."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from usrl.data.reading.files import list_images, read_mask, read_shape
from usrl.data.reading.pairs import listed
from usrl.data.reading.tables import clean, read_columns, read_header
from usrl.data.sample import GrayImage, Prompt, Sample, Track
from usrl.errors import UserError, brief
from usrl.evaluation.statistics.summary import LABELS, Case, group_cases
from usrl.metrics.overlap import OVERLAPS
from usrl.segmenter import Answer

_SHARES = frozenset(
    {*OVERLAPS, "nsd", "boundary_iou", "detected", "missed", "uncertainty", "initial_dice", "oracle_dice"}
    | {"worsened"}
)
"""Columns from 0 to 1."""
_LENGTHS = frozenset(f"{name}_{unit}" for name in ("hd", "hd95", "asd", "assd") for unit in ("px", "mm"))
_SIZES = frozenset(
    {"area_error", "seconds", "area_px2", "area_mm2", "target_area_px2", "target_area_mm2"}
    | {"perimeter_mm", "target_perimeter_mm"}
    | {"circumference_mm", "target_circumference_mm", "circumference_error_mm"}
)
_FORMULA = tuple("=+-@")


def read_cases(path: Path | str, samples: Sequence[Sample]) -> list[Case]:
    """Read a table of cases of one method or several, such as the ``cases.csv`` of another comparison.

    It is a CSV file with the columns ``case`` and ``dice``. It may have more columns of ``cases.csv``:
    ``method`` (else the name of the file), ``track`` (else automatic) and metrics. Group and source are those
    of the samples. Each method must have a row for each sample.

    Args:
        path: The file.
        samples: The images with a lesion that are scored.

    Returns:
        A case for each method and sample, in the order of the samples.

    Raises:
        UserError: If the file cannot be read, names a case that is not among the samples, misses one or has
            one twice, or a value is not what its column holds. The message names the cases.
    """
    path = Path(path)
    header = read_header(path)
    if missing := {"case", "dice"} - {cell.lower() for cell in header}:
        raise UserError(f"{path}: line 1 must name the columns case and dice, and {missing.pop()} is missing")
    names = [cell.lower() for cell in header]
    if unknown := [name for name in names if name and name not in LABELS | _SHARES | _LENGTHS | _SIZES]:
        warnings.warn(f"{path}: columns that are not ours are left out: {listed(unknown)}", stacklevel=2)
    named = {sample.name: sample for sample in samples}
    cases = [
        _parse(path, line, dict(zip(names, cells, strict=True)), named)
        for line, cells in read_columns(path, header)
    ]
    if not cases:
        raise UserError(f"{path}: has no row; write one for each image")
    found = []
    for method, own in group_cases(cases, "method").items():
        _require_all(f"{path}: {method}", [case["case"] for case in own], named)
        _require_same_columns(path, method, own)
        order = {case["case"]: case for case in own}
        found += [order[sample.name] for sample in samples]
    return found


def _parse(path: Path, line: int, cells: Mapping[str, str], samples: Mapping[str, Sample]) -> Case:
    """Return a row as a case; a cell that is empty is left out."""
    name, method = (_arm(cells.get(key, "")) for key in ("case", "method"))
    sample = samples.get(name)
    if sample is None:
        raise UserError(
            f"{path}: line {line}: {brief(name)} is not among the {len(samples)} images with a lesion that "
            f"are scored, such as {brief(next(iter(samples)))}; name them so, or choose the same --data, "
            "--split and --split-seed"
        )
    track = cells.get("track") or "automatic"
    if track not in get_args(Track):
        raise UserError(f"{path}: line {line}: track must be prompted or automatic, got {brief(track)}")
    case: Case = {"case": name, "group": sample.group, "source": sample.source}
    case |= {"method": method or clean(path.stem), "track": track}
    for key, text in cells.items():
        if text and key in _SHARES | _LENGTHS | _SIZES:
            case[key] = _number(f"{path}: line {line}: {key}", text, is_share=key in _SHARES)
    if "dice" not in case:
        raise UserError(f"{path}: line {line}: the Dice of {brief(name)} is empty; fill it in")
    return case


def _arm(text: str) -> str:
    """Return a text without the apostrophe by which `format_csv` keeps spreadsheets from running it."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _number(where: str, text: str, *, is_share: bool) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (is_share and value > 1):
        wanted = "a number from 0 to 1" if is_share else "a number that is not negative"
        raise UserError(f"{where} must be {wanted}, got {brief(text)}; correct it")
    return value


def _require_all(where: str, names: Sequence[str], samples: Iterable[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where} has two rows for {listed(twice)}; keep one of each")
    if missing := [name for name in samples if name not in set(names)]:
        raise UserError(f"{where} has no row for {listed(missing)}; a method is scored on every image")


def _require_same_columns(path: Path, method: str, cases: Sequence[Case]) -> None:
    shared = set.intersection(*map(set, cases))
    for case in cases:
        if partial := sorted(case.keys() - shared):
            lacking = next(other["case"] for other in cases if partial[0] not in other)
            raise UserError(
                f"{path}: {method}: {partial[0]} is empty for {brief(lacking)} and not for others; fill it "
                "in, or remove the column"
            )


class MaskFolder:
    """A method whose masks are in a folder, in image files named like the images.

    Attributes:
        name: Row label.
        track: Block of the tables.
    """

    def __init__(self, name: str, folder: Path | str, samples: Sequence[Sample], track: Track = "automatic"):
        """Look for the mask of each sample, which is to have the size of its image.

        Raises:
            UserError: If the folder is not there, or masks are missing, of another size or there twice; names
                them.
        """
        self.name, self.track = name, track
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; give the folder with the masks of {name}")
        self._paths: dict[str, Path] = {}
        for path in list_images(folder):
            other = self._paths.setdefault(clean(path.stem), path)
            if other is not path:
                raise UserError(f"{other} and {path} are masks of the same image; remove one")
        wanted = {sample.name: sample for sample in samples}
        others = sorted(self._paths.keys() - wanted)
        if missing := [key for key in wanted if key not in self._paths]:
            hint = f"; it has masks of other names, such as {listed(others, 3)}" if others else ""
            raise UserError(
                f"{folder}: no mask for {len(missing)} of {len(wanted)} images: {listed(missing)}{hint}; "
                "name each mask like its image, and give an empty one where nothing was found"
            )
        if others:
            told = f"{folder}: masks that are not of these {len(wanted)} images are left out"
            warnings.warn(f"{told}: {listed(others, 3)}", stacklevel=2)
        sizes = {key: (read_shape(self._paths[key]), sample.image.shape) for key, sample in wanted.items()}
        if wrong := [
            f"{key} ({found[1]} x {found[0]} px, image {size[1]} x {size[0]} px)"
            for key, (found, size) in sizes.items()
            if found != size
        ]:
            raise UserError(
                f"{folder}: masks of another size than their image: {listed(wrong)}; bring them to the size "
                "of the image"
            )

    def segment(self, image: GrayImage, prompt: Prompt | None) -> Answer:
        """Refuse: masks are found by the name of a sample, and an image has none."""
        raise UserError(f"{self.name} is a folder of masks and segments no image; name a method")

    def segment_sample(self, sample: Sample, prompt: Prompt | None) -> Answer:
        """Return the mask in the file of a sample's name."""
        return Answer(read_mask(self._paths[sample.name]))
