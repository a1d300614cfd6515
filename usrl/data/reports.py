"""The report of a check of a data set."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from usrl.data.components import label_components
from usrl.data.duplicates import duplicate_pairs
from usrl.data.pairs import listed
from usrl.data.sample import LESION, Sample

_SHOWN_PAIRS = 4
"""Pairs that are listed; nobody would read a longer line."""
NamePair = tuple[str, str]


@dataclass(frozen=True)
class DataReport:
    """Counts, groups, duplicates and faults of a dataset.

    Attributes:
        cross_pairs: Near-duplicates whose sources differ.
        apart_pairs: Near-duplicates in different groups, so that a split may part them.
        notes: Advice for the user; the data set loads all the same.
        faults: What is wrong, each with its remedy; a data set with faults does not load.
    """

    name: str
    root: str | None  # None if it is simulated
    counts: dict[str, int]  # images by source
    groups: int  # which splits keep together
    facts: dict[str, int | str] = field(default_factory=dict)  # further counts and measures, in order
    duplicate_pairs: tuple[NamePair, ...] = ()
    cross_pairs: tuple[NamePair, ...] = ()
    apart_pairs: tuple[NamePair, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether the dataset loads."""
        return not self.faults

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        rows: dict[str, int | str] = {f"images, {source}": count for source, count in self.counts.items()}
        if len(self.counts) > 1:
            rows["images, all"] = sum(self.counts.values())
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
