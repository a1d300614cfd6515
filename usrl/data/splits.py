"""Splits by group and stratified by source. Equal seeds give equal splits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np

from usrl.data.reading.tables import clean
from usrl.errors import UserError, brief
from usrl.files import check_path, write_atomically

DEFAULT_FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.7, "val": 0.1, "test": 0.2})


class Splittable(Protocol):
    """What a split needs to know of a case; a `Sample` is one."""

    @property
    def name(self) -> str:
        """Name of the case."""

    @property
    def group(self) -> str:
        """Patient, exam or cluster, which stays in one part."""

    @property
    def source(self) -> str:
        """Stratum, of which each part gets its share."""


@dataclass(frozen=True)
class Member:
    """A case that is split before it is made."""

    name: str
    group: str
    source: str


def split_samples(
    samples: Sequence[Splittable], fractions: Mapping[str, float] = DEFAULT_FRACTIONS, seed: int = 0
) -> dict[str, list[int]]:
    """Split samples so that no group is in two parts and each part has its share of every source.

    The shares are positive and sum to 1. The result has ascending positions by part. The split depends on
    names, groups, sources and the seed, not on the order of the samples.
    """
    shares = list(fractions.values())
    if not shares or min(shares) <= 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise UserError(f"fractions must be positive and sum to 1, got {dict(fractions)}; fix them")
    return dict(zip(fractions, _partition(samples, shares, seed), strict=True))


def draw_labelled(
    samples: Sequence[Splittable], indices: Sequence[int], share: float, seed: int = 0
) -> list[int]:
    """Return the positions of the samples of a part that keep their labels: a share of its groups.

    At least one group keeps them. Draws of one seed are nested: a smaller share is part of a larger one.
    Every source keeps its share, give or take one group. The order of the samples does not matter.
    """
    if not 0 < share <= 1:
        raise UserError(f"labels must be a share in (0, 1], got {share}; use 1 for all")
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(samples[index].group, []).append(index)
    # A stream of its own: the split has drawn from the bare seed.
    rng = np.random.default_rng([seed, 1])
    order: list[tuple[float, str]] = []
    for names in _strata(samples, groups).values():
        # Sources of different size take turns so that every beginning of the order has its share of each.
        order += [((rank + 0.5) / len(names), names[i]) for rank, i in enumerate(rng.permutation(len(names)))]
    kept = sorted(order)[: max(1, round(share * len(groups)))]
    return sorted(index for _, name in kept for index in groups[name])


def folds(samples: Sequence[Splittable], k: int, seed: int = 0) -> list[list[int]]:
    """Return the ascending positions that each of k folds of about equal size holds out."""
    if k < 2:
        raise UserError(f"cross-validation needs at least 2 folds, got {k}; pass k=2 or more")
    return _partition(samples, [1 / k] * k, seed)


def split_fold(samples: Sequence[Splittable], k: int, fold: int, seed: int = 0) -> dict[str, list[int]]:
    """Return a split whose test part is one of k `folds`, the first being 1, as `split_samples` does.

    The others are divided into training and validation as by default: 7 to 1.
    """
    held_out = folds(samples, k, seed)[fold - 1]
    rest = sorted(set(range(len(samples))) - set(held_out))
    whole = DEFAULT_FRACTIONS["train"] + DEFAULT_FRACTIONS["val"]
    shares = {part: DEFAULT_FRACTIONS[part] / whole for part in ("train", "val")}
    parts = split_samples([samples[index] for index in rest], shares, seed)
    return {part: [rest[place] for place in places] for part, places in parts.items()} | {"test": held_out}


def write_split(path: Path | str, samples: Sequence[Splittable], split: Mapping[str, Sequence[int]]) -> None:
    """Write a split, positions by part, as text: one line ``part<TAB>name`` for each sample."""
    write_parts(path, {part: [samples[index].name for index in indices] for part, indices in split.items()})


def write_parts(path: Path | str, parts: Mapping[str, Sequence[str]]) -> None:
    """Write a split, names by part, as text; see `write_split`."""
    lines = [f"{part}\t{name}\n" for part, names in parts.items() for name in names]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), "".join(lines).encode())


def read_parts(path: Path | str) -> dict[str, str]:
    """Return the part of each sample, by name, from a file of `write_split`."""
    try:
        lines = check_path(Path(path)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the split ({error}); train the run again") from None
    parts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        part, tab, name = line.partition("\t")
        name = clean(name)
        if not (part and tab and name) or name in parts:
            what = "a sample is named twice in" if name in parts else "'part<TAB>name' is wanted, got"
            raise UserError(f"{path}: line {number}: {what} {brief(line)}; train the run again")
        parts[name] = part
    return parts


def _partition(samples: Sequence[Splittable], shares: Sequence[float], seed: int) -> list[list[int]]:
    """Deal groups, the large ones first, each to the part that lacks most of its share."""
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(index)
    strata = _strata(samples, groups)
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in shares]
    excess = np.zeros(len(shares))  # what earlier strata rounded each part up by
    for stratum in strata.values():
        names = [stratum[i] for i in rng.permutation(len(stratum))]
        names.sort(key=lambda name: -len(groups[name]))
        lacking = np.array(shares) * sum(len(groups[name]) for name in names) - excess
        for name in names:
            part = int(lacking.argmax())
            parts[part] += groups[name]
            lacking[part] -= len(groups[name])
        excess = -lacking
    if not all(parts):
        raise UserError(
            f"{len(groups)} groups are too few for {len(shares)} parts, the smallest with {min(shares):.0%} "
            "of them; add images, ask for fewer or more even parts, or take all images as one"
        )
    return [sorted(part) for part in parts]


def _strata(samples: Sequence[Splittable], groups: Mapping[str, Sequence[int]]) -> dict[str, list[str]]:
    """Return the names of groups by stratum, which is their commonest source; both are sorted."""
    strata: dict[str, list[str]] = {}
    for name in sorted(groups):
        sources = sorted(samples[index].source for index in groups[name])
        strata.setdefault(max(sources, key=sources.count), []).append(name)  # of equals, the first
    return dict(sorted(strata.items()))
