"""Defines a data set and the report of its check, and loads and checks one of image files."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.data.components import label_components
from usrl.data.duplicates import duplicate_pairs
from usrl.data.reading.pairs import MAX_LISTED, listed
from usrl.data.recipe import DataRecipe
from usrl.data.sample import LESION, Sample
from usrl.data.splits import Member
from usrl.errors import UserError
from usrl.files import check_path

IMAGES = "images"
"""Kind of the cases of data sets that give `Sample`."""
_SHOWN_PAIRS = 4
"""Pairs that are listed; nobody would read a longer line."""
NamePair = tuple[str, str]


@dataclass(frozen=True)
class DataReport:
    """Counts, groups, duplicates and faults of a dataset.

    Attributes:
        unit: What is counted, such as ``"images"``.
        cross_pairs: Near-duplicates whose sources differ.
        apart_pairs: Near-duplicates in different groups, so that a split may part them.
        notes: Advice for the user; the data set loads all the same.
        faults: What is wrong, each with its remedy; a data set with faults does not load.
    """

    name: str
    root: str | None  # None if it is simulated
    counts: dict[str, int]  # by source
    groups: int  # which splits keep together
    facts: dict[str, int | str] = field(default_factory=dict)  # further counts and measures, in order
    duplicate_pairs: tuple[NamePair, ...] = ()
    cross_pairs: tuple[NamePair, ...] = ()
    apart_pairs: tuple[NamePair, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    unit: str = "images"

    @property
    def is_sound(self) -> bool:
        """Whether the dataset loads."""
        return not self.faults

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        rows: dict[str, int | str] = {f"{self.unit}, {name}": count for name, count in self.counts.items()}
        if len(self.counts) > 1:
            rows[f"{self.unit}, all"] = sum(self.counts.values())
        rows |= {"groups, which splits keep whole": self.groups} | self.facts
        width = max(len(label) for label in rows)
        lines = [f"{self.name}, simulated" if self.root is None else f"{self.name} at {self.root}"]
        lines += [f"  {label:<{width}}  {count:>6}" for label, count in rows.items()]
        lines += self._pair_lines()
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  FAULT {fault}" for fault in self.faults]
        lines.append("  " + ("no faults" if self.is_sound else f"{len(self.faults)} faults"))
        return lines

    def _pair_lines(self) -> list[str]:
        together = [pair for pair in self.duplicate_pairs if pair not in set(self.apart_pairs)]
        kinds = {
            "near duplicates in one group": together,
            "near duplicates of different sources": self.cross_pairs,
            "near duplicates in different groups, for a split to part; give them one": self.apart_pairs,
        }
        return [
            f"  {kind}: {listed([f'{first} = {second}' for first, second in pairs], _SHOWN_PAIRS)}"
            for kind, pairs in kinds.items()
            if pairs
        ]


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
        members: Lists the cases of a data set of another kind before they are made, so that a split can name
            those of the test; None if they must be made for that.
    """

    load: Callable[[DataRecipe, str], Any]
    check: Callable[[DataRecipe], DataReport] | None = None
    kind: str = IMAGES
    reads_folder: bool = False
    structures: Mapping[str, int] | None = None
    members: Callable[[DataRecipe], Sequence[Member]] | None = None


@dataclass(frozen=True)
class Found:
    """The sound samples of a folder, and the faults of the others, each with its remedy."""

    samples: list[Sample]
    faults: list[str]
    facts: dict[str, int | str] = field(default_factory=dict)  # further counts and measures for the report
    duplicates: NDArray[np.int64] | None = None  # positions of near-duplicates, (P, 2), if looked for
    sources: tuple[str, ...] = ()  # those that are counted even if no sample has them
    notes: list[str] = field(default_factory=list)  # advice for the user; the data set loads all the same
    left_out: list[str] = field(default_factory=list)  # why, and the names: loading warns of them


def report_samples(
    name: str,
    root: str | None,
    samples: list[Sample],
    faults: Iterable[str] = (),
    duplicates: NDArray[np.int64] | None = None,
) -> DataReport:
    """Return the report of samples. It looks for near-duplicates if their positions, (P, 2), are None."""
    found = duplicate_pairs(sample.image for sample in samples) if duplicates is None else duplicates
    linked = [(samples[i], samples[j]) for i, j in found]
    sizes = Counter(sample.group for sample in samples)
    return DataReport(
        name=name,
        root=root,
        counts=dict(sorted(Counter(sample.source for sample in samples).items())),
        groups=len(sizes),
        facts={
            "groups of several images": sum(size > 1 for size in sizes.values()),
            "near-duplicate pairs": len(linked),
            **_count_structures(samples),
        },
        duplicate_pairs=tuple((a.name, b.name) for a, b in linked),
        cross_pairs=tuple((a.name, b.name) for a, b in linked if a.source != b.source),
        apart_pairs=tuple((a.name, b.name) for a, b in linked if a.group != b.group),
        faults=tuple(faults),
    )


def _count_structures(samples: list[Sample]) -> dict[str, int]:
    """Return how many images lack each structure, and how many have it several times."""
    counts: dict[str, int] = {}
    for name, number in (samples[0].structures if samples else LESION).items():
        parts = [len(label_components(sample.labels == number)[1]) - 1 for sample in samples]
        one, several = ("a lesion", "lesions") if name == "lesion" else (name, f"parts of {name}")
        counts[f"images without {one}"] = parts.count(0)
        counts[f"images with several {several}"] = sum(count > 1 for count in parts)
    return counts


def image_files(
    find: Callable[[Path], Path],
    read: Callable[[Path], Found],
    structures: Mapping[str, int] | None = LESION,
    terms: str | None = None,
) -> Dataset:
    """Return a data set of image files. Loading raises on faults and warns of images left out.

    A check reports both. Terms that forbid some use are told by a warning before anything is read.

    ``find`` returns the folder to read inside the folder that the user names, or raises a `UserError`.
    """
    return recipe_files(find, lambda folder, data: read(folder), structures, terms)


def recipe_files(
    find: Callable[[Path], Path],
    read: Callable[[Path, DataRecipe], Found],
    structures: Mapping[str, int] | None = LESION,
    terms: str | None = None,
) -> Dataset:
    """Return a data set of image files, as `image_files`, whose reading depends on the recipe too."""

    def locate(data: DataRecipe) -> Path:
        if terms is not None:
            warnings.warn(f"{data.name}: {terms}", stacklevel=5)
        return find(find_root(data))

    def load(data: DataRecipe, split: str) -> list[Sample]:
        found = read(locate(data), data)
        if found.faults:
            more = len(found.faults) - MAX_LISTED
            lines = [*found.faults[:MAX_LISTED], *([f"... and {more} more"] if more > 0 else [])]
            raise UserError("\n".join(lines))
        for names in found.left_out:
            warnings.warn(f"{data.name}: images left out: {names}", stacklevel=4)
        return found.samples

    def check(data: DataRecipe) -> DataReport:
        folder = locate(data)
        found = read(folder, data)
        report = report_samples(data.name, str(folder), found.samples, found.faults, found.duplicates)
        counts = {source: report.counts.get(source, 0) for source in found.sources} or report.counts
        left_out = [f"images left out: {names}" for names in found.left_out]
        notes = (*left_out, *found.notes, *links_out(folder))
        return replace(report, counts=counts, facts=report.facts | found.facts, notes=notes)

    return Dataset(load, check, reads_folder=True, structures=structures)


def find_root(data: DataRecipe) -> Path:
    """Return the folder of a recipe's data set, which must exist: ``data.root``, or ``$USRL_DATA/<name>``."""
    how = f"with --root DIR, or set USRL_DATA to the folder that holds {data.name}/"
    if data.root is None and not os.environ.get("USRL_DATA"):
        raise UserError(f"data set {data.name!r} is read from a folder, and none is given; name it {how}")
    folder = check_path(Path(data.root or usual_root(data.name)))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of data set {data.name!r} {how}")
    return folder


def usual_root(name: str) -> Path:
    """Return ``$USRL_DATA/<name>``, or the same with underscores for hyphens if that is what is there."""
    folder, spelt = (Path(os.environ.get("USRL_DATA", "")) / word for word in (name, name.replace("-", "_")))
    return spelt if spelt.is_dir() and not folder.is_dir() else folder


def links_out(root: Path) -> Iterator[str]:
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
