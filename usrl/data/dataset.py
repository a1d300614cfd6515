"""Defines a data set, and loads and checks one of image files."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.data.pairs import MAX_LISTED, listed
from usrl.data.recipe import DataRecipe
from usrl.data.reports import DataReport, report_samples
from usrl.data.sample import LESION, Sample
from usrl.errors import UserError
from usrl.files import check_path

IMAGES = "images"
"""Kind of the cases of data sets that give `Sample`."""


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        load: Returns its cases. One of images is asked for the part ``"all"`` and returns a list of `Sample`,
            which is split by group; one of another kind returns the cases of the part that it is asked for.
        check: Returns a report on the user's copy; None if nothing can be checked.
        kind: Kind of the cases; an environment needs cases of its kind.
        reads_folder: Whether it is read from the folder ``data.root``, or ``$USRL_DATA/<name>``.
        structures: Numbers of its structures by name; None if they are known only after reading.
    """

    load: Callable[[DataRecipe, str], Any]
    check: Callable[[DataRecipe], DataReport] | None = None
    kind: str = IMAGES
    reads_folder: bool = False
    structures: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Found:
    """The sound samples of a folder, and the faults of the others, each with its remedy."""

    samples: list[Sample]
    faults: list[str]
    facts: dict[str, int | str] = field(default_factory=dict)  # further counts and measures for the report
    duplicates: NDArray[np.int64] | None = None  # positions of near-duplicates, (P, 2), if looked for
    sources: tuple[str, ...] = ()  # those that are counted even if no sample has them
    notes: list[str] = field(default_factory=list)  # advice for the user; the data set loads all the same


def image_files(
    find: Callable[[Path], Path],
    read: Callable[[Path], Found],
    structures: Mapping[str, int] | None = LESION,
) -> Dataset:
    """Return a data set of image files. Loading raises on faults; a check reports them.

    ``find`` returns the folder to read inside the folder that the user names, or raises a `UserError`.
    """

    def load(data: DataRecipe, split: str) -> list[Sample]:
        found = read(find(find_root(data)))
        if found.faults:
            more = len(found.faults) - MAX_LISTED
            lines = [*found.faults[:MAX_LISTED], *([f"... and {more} more"] if more > 0 else [])]
            raise UserError("\n".join(lines))
        return found.samples

    def check(data: DataRecipe) -> DataReport:
        folder = find(find_root(data))
        found = read(folder)
        report = report_samples(data.name, str(folder), found.samples, found.faults, found.duplicates)
        counts = {source: report.counts.get(source, 0) for source in found.sources} or report.counts
        notes = (*found.notes, *_links_out(folder))
        return replace(report, counts=counts, facts=report.facts | found.facts, notes=notes)

    return Dataset(load, check, reads_folder=True, structures=structures)


def find_root(data: DataRecipe) -> Path:
    """Return the folder of a recipe's data set, which must exist: ``data.root``, or ``$USRL_DATA/<name>``."""
    how = f"with --root DIR, or set USRL_DATA to the folder that holds {data.name}/"
    if data.root is None and not os.environ.get("USRL_DATA"):
        raise UserError(f"data set {data.name!r} is read from a folder, and none is given; name it {how}")
    folder = check_path(Path(data.root or Path(os.environ["USRL_DATA"]) / data.name))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of data set {data.name!r} {how}")
    return folder


def _links_out(root: Path) -> Iterator[str]:
    """Yield a note if links lead out of a folder: a copy of it would lack their files."""
    inside = os.path.realpath(root)
    links = [
        os.path.relpath(path, root)
        for folder, folders, files in os.walk(root)
        for path in (Path(folder) / name for name in sorted(folders + files))
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside)
    ]
    if links:
        yield f"links lead out of the folder: {listed(links)}; a copy of the folder would lack these files"
