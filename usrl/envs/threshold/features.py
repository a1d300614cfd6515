"""What a tile's mask looks like, in four numbers with few values each: the state of a tabular agent."""

import math

import cv2
import numpy as np

from usrl.data.sample import BoolMask
from usrl.geometry.kernels import Bytes

FEATURES = ("area", "compactness", "position", "objects")
BINS = (8, 4, 4, 4)
"""Number of values of each feature."""
_OBJECT_BOUNDS = (1, 2, 4)
"""Numbers of objects at which the next value begins. The values are: none, one, two or three, more."""


def describe_tile(mask: BoolMask, available: int, origin: tuple[int, int], side: int) -> Bytes:
    """Return the features, uint8 (4,), of one tile's mask (h, h); all are zero for an empty mask.

    ``area`` is the mask's share of the tile's available pixels. For the largest object, ``compactness`` is
    4 pi area / perimeter^2, at most 1, and ``position`` is the distance of its centroid from the region's
    centre over half the region's diagonal. All three are cut into equal parts.

    Args:
        mask: Of the tile, bool, (h, h).
        available: Pixels of the tile inside the support.
        origin: (row, column) of the tile's first pixel in the region.
        side: Side of the region, px.

    Source:
        The kinds of features are those of Sahba, Tizhoosh and Salama (2008), BMC Medical Imaging 8:8. The
        values are ours.
    """
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count == 1:
        return np.zeros(len(FEATURES), np.uint8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = int(areas.argmax())
    x, y = centroids[1 + largest]
    centre = (side - 1) / 2
    distance = math.hypot(x + origin[1] - centre, y + origin[0] - centre) / (side / math.sqrt(2))
    shares = (int(areas.sum()) / available, _compactness(labels == 1 + largest), distance)
    values = [min(int(share * bins), bins - 1) for share, bins in zip(shares, BINS, strict=False)]
    return np.array([*values, np.searchsorted(_OBJECT_BOUNDS, count - 1, side="right")], np.uint8)


def describe_settings(opened: Bytes, levels: Bytes, support: BoolMask, grid: int) -> Bytes:
    """Return the features of every tile at every setting, uint8, (T, Z, K, 4).

    They are computed from a region's gray openings (Z, s, s), thresholds (K,) and support (s, s).
    """
    side, tile = support.shape[0], support.shape[0] // grid
    found = np.zeros((grid**2, len(opened), len(levels), len(FEATURES)), np.uint8)
    for number in range(grid**2):
        top, left = tile * (number // grid), tile * (number % grid)
        cut = np.s_[top : top + tile, left : left + tile]
        available = int(support[cut].sum())
        for size, gray in enumerate(opened):
            for rank, level in enumerate(levels):
                mask = np.ascontiguousarray(gray[cut] <= level)
                found[number, size, rank] = describe_tile(mask, available, (top, left), side)
    return found


def _compactness(component: BoolMask) -> float:
    outlines, _ = cv2.findContours(component.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Outlines run through pixel centres. Half a pixel outwards adds pi to the length, so that a single
    # pixel has a length.
    length = cv2.arcLength(outlines[0], True) + math.pi
    return min(1.0, 4 * math.pi * float(component.sum()) / length**2)
