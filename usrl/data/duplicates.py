"""Near-duplicate images, found by average hash."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from usrl.data.sample import GrayImage

HASH_SIDE = 16
MAX_DISTANCE = 4
"""Images whose 256-bit hashes differ in at most this many bits are near-duplicates."""

_CHUNK = 512


def average_hash(image: GrayImage) -> NDArray[np.uint8]:
    """Return which of 16 x 16 cells of an image are brighter than their mean, uint8 0 or 1, (256,)."""
    cells = cv2.resize(image.astype(np.float32), (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cells > cells.mean(), np.uint8).ravel()


def duplicate_pairs(images: Iterable[GrayImage], max_distance: int = MAX_DISTANCE) -> NDArray[np.int64]:
    """Return the positions (i, j), i < j, of every pair of near-duplicates, int64, (P, 2), sorted.

    Their hashes differ in ``max_distance`` bits at most. The images may have any shapes.
    """
    hashes = [average_hash(image) for image in images]
    signs = np.array(hashes, np.float32).reshape(-1, HASH_SIDE**2) * 2 - 1  # (M, 256)
    least = HASH_SIDE**2 - 2 * max_distance  # of the product: equal bits less differing bits
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(signs), _CHUNK):
        first, second = np.nonzero(signs[start : start + _CHUNK] @ signs.T >= least)
        pairs = np.stack([first + start, second], axis=1)
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def cluster_names(names: Sequence[str], pairs: NDArray[np.int64]) -> list[str]:
    """Return the group of each name: the first of the names that pairs, int64, (P, 2), link with it."""
    count = len(names)
    links = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    first: dict[int, str] = {}
    return [first.setdefault(int(label), name) for label, name in zip(labels, names, strict=True)]
