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
    """Return the 16 x 16 average hash of an image: which cells are brighter than their mean.

    Args:
        image: Gray image, uint8, shape (H, W).

    Returns:
        Bits, uint8 0 or 1, shape (256,).
    """
    cells = cv2.resize(
        image.astype(np.float32), (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA
    )  # (16, 16)
    return np.asarray(cells > cells.mean(), np.uint8).ravel()


def duplicate_pairs(images: Iterable[GrayImage], max_distance: int = MAX_DISTANCE) -> NDArray[np.int64]:
    """Return every pair of near-duplicate images.

    Args:
        images: Gray images, uint8, each of any shape (H, W).
        max_distance: Largest Hamming distance of two near-duplicates' hashes, bits.

    Returns:
        Positions (i, j) with i < j, int64, shape (P, 2), sorted.
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
    """Return a group for every image: linked images share the name of their first member.

    Args:
        names: Names of the images, length M.
        pairs: Linked positions, int64, shape (P, 2).

    Returns:
        Group of every image, length M.
    """
    count = len(names)
    links = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    first: dict[int, str] = {}
    return [first.setdefault(int(label), name) for label, name in zip(labels, names, strict=True)]
