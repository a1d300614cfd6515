"""What a check of a dataset found."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataReport:
    """Counts, groups, duplicates and faults of a dataset.

    Attributes:
        name: Name of the dataset.
        root: Where it was found, or ``"simulated"``.
        counts: Number of images per source.
        groups: Number of groups that splits keep together.
        facts: Further counts, in the order in which they are shown.
        duplicate_pairs: Names of near-duplicate images, by pair.
        cross_pairs: Those of them whose sources differ.
        faults: What is wrong, each with its remedy; a dataset with faults does not load.
    """

    name: str
    root: str
    counts: dict[str, int]
    groups: int
    facts: dict[str, int] = field(default_factory=dict)
    duplicate_pairs: tuple[tuple[str, str], ...] = ()
    cross_pairs: tuple[tuple[str, str], ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether the dataset loads."""
        return not self.faults

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        rows = {f"images, {source}": count for source, count in self.counts.items()}
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
