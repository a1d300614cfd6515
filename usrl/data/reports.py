"""What a check of a dataset found."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from usrl.data.duplicates import duplicate_pairs
from usrl.data.sample import Sample


@dataclass(frozen=True)
class DataReport:
    """Counts, groups, duplicates and faults of a dataset.

    Attributes:
        name: Name of the dataset.
        root: Where it was found, or ``"simulated"``.
        counts: Number of images per source.
        groups: Number of groups that splits keep together.
        facts: Further counts and measures, in the order in which they are shown.
        duplicate_pairs: Names of near-duplicate images, by pair.
        cross_pairs: Those of them whose sources differ.
        faults: What is wrong, each with its remedy; a dataset with faults does not load.
    """

    name: str
    root: str
    counts: dict[str, int]
    groups: int
    facts: dict[str, int | str] = field(default_factory=dict)
    duplicate_pairs: tuple[tuple[str, str], ...] = ()
    cross_pairs: tuple[tuple[str, str], ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether the dataset loads."""
        return not self.faults

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        rows: dict[str, int | str] = {f"images, {source}": count for source, count in self.counts.items()}
        rows["images, all"] = sum(self.counts.values())
        rows.update(self.facts)
        rows["groups"] = self.groups
        width = max(len(label) for label in rows)
        lines = [f"{self.name} at {self.root}"]
        lines += [f"  {label:<{width}}  {count}" for label, count in rows.items()]
        lines += [f"  duplicates across sources: {first} = {second}" for first, second in self.cross_pairs]
        lines += [f"  FAULT {fault}" for fault in self.faults]
        lines.append("  " + ("no faults" if self.is_sound else f"{len(self.faults)} faults"))
        return lines


def report_samples(name: str, root: str, samples: list[Sample], faults: Iterable[str] = ()) -> DataReport:
    """Return the report that any dataset of samples can give.

    Args:
        name: Name of the dataset.
        root: Where it was found.
        samples: The samples that could be read.
        faults: What is wrong with the others.

    Returns:
        The report; near-duplicate pairs inside one group are not counted, as splits keep them together.
    """
    found = duplicate_pairs(sample.image for sample in samples)
    linked = [(samples[i], samples[j]) for i, j in found if samples[i].group != samples[j].group]
    sources = sorted({sample.source for sample in samples})
    return DataReport(
        name=name,
        root=root,
        counts={source: sum(sample.source == source for sample in samples) for source in sources},
        groups=len({sample.group for sample in samples}),
        facts={
            "images with an empty target": sum(not sample.target.any() for sample in samples),
            "near-duplicate pairs in different groups": len(linked),
        },
        duplicate_pairs=tuple((first.name, second.name) for first, second in linked),
        cross_pairs=tuple((a.name, b.name) for a, b in linked if a.source != b.source),
        faults=tuple(faults),
    )
