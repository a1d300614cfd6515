"""Reads images and their masks from disk, in pairs."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.components import remove_specks
from usrl.data.duplicates import MAX_DISTANCE, cluster_names, duplicate_pairs
from usrl.data.reading.files import check_name
from usrl.data.reading.images import read_image
from usrl.data.reading.nifti import stem_of
from usrl.data.reading.tables import clean
from usrl.data.reading.windows import Window
from usrl.data.sample import LESION, BoolMask, GrayImage, Labels, Sample
from usrl.errors import UserError
from usrl.progress import track

MAX_LISTED = 10
"""A message lists this many names or faults at most."""


@dataclass(frozen=True)
class Pair:
    """The files of one sample, with its source and structures. Several masks are united.

    Masks of another size than the image are stretched to it if ``is_stretched``, and refused otherwise. Of a
    DICOM frame, whose image is a region of it, masks have the size of either.
    """

    image: Path
    masks: tuple[Path, ...]
    source: str
    structures: Mapping[str, int] | None = None
    is_stretched: bool = False
    title: str | None = None
    window: Window | None = None

    @property
    def name(self) -> str:
        """Name of the sample: its title, or that of the image without its suffix, cleaned."""
        return self.title or clean(stem_of(self.image))


def read_pairs(
    pairs: list[Pair], description: str, read: Callable[[Path], Labels | BoolMask]
) -> tuple[list[Sample], list[str]]:
    """Read samples, several at once; return the sound ones, each its own group, and the others' faults."""
    with ThreadPoolExecutor() as pool:  # decoding a file releases the interpreter
        outcomes = list(track(pool.map(partial(_try_read, read), pairs), description, len(pairs)))
    samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    return samples, [str(outcome) for outcome in outcomes if isinstance(outcome, UserError)]


def remove_slips(samples: Sequence[Sample], min_px: int) -> tuple[list[Sample], int]:
    """Return samples without components of fewer native px than the minimum, and the number of these."""
    cleaned, specks = [], 0
    for sample in samples:
        labels = sample.labels
        for number in sample.structures.values():
            kept, removed = remove_specks(sample.labels == number, min_px)
            if removed:
                labels = np.where((sample.labels == number) & ~kept, 0, labels).astype(np.uint8)
                specks += removed
        cleaned.append(replace(sample, labels=labels))
    return cleaned, specks


def group_duplicates(
    samples: Sequence[Sample],
    view: Callable[[GrayImage], GrayImage] = lambda image: image,
    max_distance: int = MAX_DISTANCE,
) -> tuple[list[Sample], NDArray[np.int64]]:
    """Return samples grouped by near-duplicate views of their images, and the pairs, (P, 2)."""
    duplicates = duplicate_pairs((view(sample.image) for sample in samples), max_distance)
    groups = cluster_names([sample.name for sample in samples], duplicates)
    return [replace(s, group=group) for s, group in zip(samples, groups, strict=True)], duplicates


def join_duplicates(
    samples: Sequence[Sample], keys: Sequence[str], duplicates: NDArray[np.int64]
) -> list[Sample]:
    """Return samples whose groups are those of equal keys, such as patients; near duplicates join groups.

    The duplicates are positions, (P, 2).
    """
    firsts: dict[str, int] = {}
    links = [(firsts.setdefault(key, place), place) for place, key in enumerate(keys)]
    groups = cluster_names(keys, np.concatenate([duplicates, np.array(links, np.int64).reshape(-1, 2)]))
    return [replace(sample, group=group) for sample, group in zip(samples, groups, strict=True)]


def listed(names: Sequence[str], most: int = MAX_LISTED) -> str:
    """Return the first names in one line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _try_read(read: Callable[[Path], Labels | BoolMask], pair: Pair) -> Sample | UserError:
    try:
        check_name(pair.image)
        image, file = read_image(pair.image, pair.window)
        labels = np.zeros(image.shape, np.uint8)
        for path in pair.masks:
            mask = file.frame.crop(read(path))
            if mask.shape != image.shape and pair.is_stretched:
                size = image.shape[1], image.shape[0]
                mask = np.asarray(
                    cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
                )
            if mask.shape != image.shape:
                remedy = "restore the original pair"
                if mask.shape == image.shape[::-1]:
                    remedy = "one is turned (EXIF orientation counts); save both turned alike, without EXIF"
                raise UserError(
                    f"{path}: the mask is {mask.shape[1]} x {mask.shape[0]} px and its image "
                    f"{image.shape[1]} x {image.shape[0]} px; {remedy}"
                )
            labels |= mask.view(np.uint8)
        structures = LESION if pair.structures is None else pair.structures
        return Sample(image, labels, file.spacing_mm, pair.name, pair.name, pair.source, structures)
    except UserError as error:
        return error
