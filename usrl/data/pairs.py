"""Images paired with their masks on disk."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from usrl.data.components import remove_specks
from usrl.data.files import check_name, read_gray, read_mask
from usrl.data.sample import BoolMask, GrayImage, Sample
from usrl.errors import UserError
from usrl.progress import track

MAX_LISTED = 10
"""At most this many names or faults are spelt out in one message."""


@dataclass(frozen=True)
class Pair:
    """The files of one sample.

    Attributes:
        image: Image file.
        masks: Mask files, to be united.
        source: Dataset and class, as in ``Sample``.
    """

    image: Path
    masks: tuple[Path, ...]
    source: str


def read_pairs(
    pairs: list[Pair],
    description: str,
    show_progress: bool,
    read: Callable[[Path], BoolMask] = read_mask,
) -> list[Sample | UserError]:
    """Read samples from their files, several at once.

    Args:
        pairs: The files.
        description: What the progress bar says.
        show_progress: Show a progress bar.
        read: Reads a mask file; raises a ``UserError`` that names it.

    Returns:
        For every pair its sample, each a group of its own, or the error that reading it met.
    """
    with ThreadPoolExecutor() as pool:  # decoding a file releases the interpreter
        outcomes: Iterable[Sample | UserError] = pool.map(partial(_try_read, read), pairs)
        if show_progress:
            outcomes = track(outcomes, description, len(pairs))
        return list(outcomes)


def without_specks(outcomes: Iterable[Sample | UserError], min_px: int) -> tuple[list[Sample], int]:
    """Return the samples that could be read without components that are slips of the pen.

    Args:
        outcomes: Of `read_pairs`; errors are left out.
        min_px: Components of fewer native px are removed.

    Returns:
        The samples, and how many components were removed.
    """
    samples: list[Sample] = []
    specks = 0
    for outcome in outcomes:
        if isinstance(outcome, Sample):
            target, removed = remove_specks(outcome.target, min_px)
            samples.append(replace(outcome, target=target))
            specks += removed
    return samples, specks


def raise_faults(faults: list[str]) -> None:
    """Raise a ``UserError`` that lists the faults, if there are any.

    Args:
        faults: Messages, each with its remedy.

    Raises:
        UserError: If the list is not empty.
    """
    if faults:
        more = f"\n... and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        raise UserError("\n".join(faults[:MAX_LISTED]) + more)


def listed(names: list[str], most: int = MAX_LISTED) -> str:
    """Return the first names in one line, and how many more there are.

    Args:
        names: Names to show.
        most: How many of them at most.

    Returns:
        These, separated by commas.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _try_read(read: Callable[[Path], BoolMask], pair: Pair) -> Sample | UserError:
    """Return the sample, or the error that reading it met."""
    name = pair.image.stem
    try:
        check_name(pair.image)
        image = read_gray(pair.image)
        target = np.zeros(image.shape, np.bool_)
        for path in pair.masks:
            mask = read(path)
            if mask.shape != image.shape:
                raise UserError(_explain_sizes(path, mask, image))
            target |= mask
    except UserError as error:
        return error
    return Sample(image, target, None, name, name, pair.source)


def _explain_sizes(path: Path, mask: BoolMask, image: GrayImage) -> str:
    """Return what is wrong with a mask of another size than its image, and what to do."""
    remedy = "restore the original pair"
    if mask.shape == image.shape[::-1]:
        remedy = "one is turned (EXIF orientation is followed); save both turned alike, without EXIF"
    return (
        f"{path}: the mask is {mask.shape[1]} x {mask.shape[0]} px and its image "
        f"{image.shape[1]} x {image.shape[0]} px; {remedy}"
    )
