"""Data sets of clips on disk: how they are listed, loaded and checked."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usrl.data.clips.clips import CLIPS, Clip, Clips
from usrl.data.clips.reading import open_clip, read_clip
from usrl.data.dataset import DataReport, Dataset, find_root, links_out
from usrl.data.duplicates import duplicate_pairs
from usrl.data.letterbox import Letterbox
from usrl.data.reading.files import list_images, read_mask
from usrl.data.reading.frames import Frame
from usrl.data.reading.pairs import MAX_LISTED
from usrl.data.recipe import DataRecipe
from usrl.data.sample import GrayImage
from usrl.data.splits import Member, split_samples
from usrl.errors import UserError
from usrl.progress import track

_CHECK_SIZE = 128
"""Side of the frames that a check looks at, px."""


@dataclass(frozen=True)
class Entry:
    """A clip of a folder, before it is read.

    Attributes:
        path: File, or folder of numbered images.
        member: Its name, group and source.
        labels: What is known of the whole clip.
        masks: Folder of a mask for each frame, or None.
        informative: Numbers of the frames that a summary should keep, from 0 on, or None if they are unknown.
    """

    path: Path
    member: Member
    labels: Mapping[str, int] = field(default_factory=dict)
    masks: Path | None = None
    informative: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Listed:
    """The clips of a folder, and what is wrong before any is read, each with its remedy."""

    entries: list[Entry]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # advice for the user; the data set loads all the same
    facts: dict[str, int | str] = field(default_factory=dict)  # further counts and measures for the report


def clip_files(find: Callable[[Path], Path], read: Callable[[Path], Listed]) -> Dataset:
    """Return a data set of clips. Loading raises on faults; a check reads every frame and reports them.

    ``find`` returns the folder to read inside the folder that the user names, or raises a `UserError`.
    ``read`` lists its clips.
    """

    def listed(data: DataRecipe) -> list[Entry]:
        found = read(find(find_root(data)))
        if found.faults:
            more = len(found.faults) - MAX_LISTED
            lines = [*found.faults[:MAX_LISTED], *([f"... and {more} more"] if more > 0 else [])]
            raise UserError("\n".join(lines))
        return found.entries

    def members(data: DataRecipe) -> list[Member]:
        return [entry.member for entry in listed(data)]

    def load(data: DataRecipe, split: str) -> Clips:
        entries = listed(data)
        own = [entry.member for entry in entries]
        part = range(len(own)) if split == "all" else split_samples(own, seed=data.split_seed)[split]
        clips = (read_entry(entries[index], data.size) for index in part)
        return Clips.from_clips(list(track(clips, "Reading clips", len(part), "clips")), data.size)

    def check(data: DataRecipe) -> DataReport:
        folder = find(find_root(data))
        return _report(data.name, folder, read(folder))

    return Dataset(load, check, kind=CLIPS, reads_folder=True, members=members)


def read_entry(entry: Entry, size: int) -> Clip:
    """Read a clip of a folder, letterboxed to a side of ``size`` px as it is read.

    Raises:
        UserError: If the clip or its masks cannot be read or do not fit each other; names the file.
    """
    clip = read_clip(entry.path, size, source=entry.member.source)
    count = len(clip.frames)
    known: NDArray[np.bool_] | None = None
    if entry.informative is not None:
        if entry.informative and max(entry.informative) >= count:
            raise UserError(
                f"{entry.path}: has frames 0 to {count - 1}, and frame {max(entry.informative)} is said to "
                "be informative; correct the table"
            )
        known = np.zeros(count, np.bool_)
        known[list(entry.informative)] = True
    masks = None if entry.masks is None else _read_masks(entry, size, count)
    member = entry.member
    return replace(
        clip, name=member.name, group=member.group, labels=entry.labels, masks=masks, informative=known
    )


def _read_masks(entry: Entry, size: int, count: int) -> NDArray[np.bool_]:
    """Return the masks of a clip, letterboxed, bool, (T, S, S)."""
    assert entry.masks is not None
    if len(list_images(entry.masks)) != count:
        raise UserError(
            f"{entry.masks}: holds {len(list_images(entry.masks))} masks, and {entry.path.name} has {count} "
            "frames; add a mask for each frame, empty where there is no target"
        )
    opened = open_clip(entry.masks)  # checks the numbers
    clip = open_clip(entry.path)
    shape, frame = clip.shape, clip.frame or Frame(clip.shape)
    if opened.shape not in (shape, frame.shape):
        raise UserError(
            f"{entry.masks}: masks are of shape {opened.shape} and frames of {shape}; make them alike"
        )
    box = Letterbox.fit(shape, size)
    return np.stack([box.target(np.asarray(frame.crop(read_mask(path)), np.bool_)) for path in opened.files])


@dataclass
class _Tally:
    """What a check counts."""

    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    middles: list[GrayImage] = field(default_factory=list)

    def add(self, clip: Clip) -> None:
        self.names.append(clip.name)
        self.groups.append(clip.group)
        self.sources.append(clip.source)
        self.frames.append(len(clip.frames))
        self.rates.append(clip.fps)
        self.middles.append(clip.frames[len(clip.frames) // 2])


def _report(name: str, folder: Path, found: Listed) -> DataReport:
    """Read every clip of a folder and return the report."""
    faults, tally = list(found.faults), _Tally()
    for entry in track(found.entries, "Reading clips", len(found.entries), "clips"):
        try:
            tally.add(read_entry(entry, _CHECK_SIZE))
        except UserError as error:
            faults.append(str(error))
    linked = duplicate_pairs(tally.middles)
    pairs = [(tally.names[i], tally.names[j], i, j) for i, j in linked]
    return DataReport(
        name,
        str(folder),
        dict(sorted(Counter(tally.sources).items())),
        len(set(tally.groups)),
        dict(_measure(tally)) | {"near-duplicate pairs, by the middle frame": len(pairs)} | found.facts,
        tuple((a, b) for a, b, _, _ in pairs),
        tuple((a, b) for a, b, i, j in pairs if tally.sources[i] != tally.sources[j]),
        tuple((a, b) for a, b, i, j in pairs if tally.groups[i] != tally.groups[j]),
        (*found.notes, *links_out(folder)),
        tuple(faults),
        "clips",
    )


def _measure(tally: _Tally) -> Iterator[tuple[str, int | str]]:
    if not tally.frames:
        return
    rates = sorted(set(tally.rates))
    yield "frames", sum(tally.frames)
    yield "frames of a clip", f"{min(tally.frames)} to {max(tally.frames)}"
    yield "frames a second", f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g} to {rates[-1]:g}"
