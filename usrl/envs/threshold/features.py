"""What a tile's mask looks like, in numbers with few values each: the state of a tabular agent."""

import math
from collections.abc import Callable

import cv2
import numpy as np

from usrl.data.sample import BoolMask
from usrl.geometry.kernels import Bytes

FEATURES = ("area", "compactness", "position", "objects")
BINS = (8, 4, 4, 4)
"""Number of values of each feature."""
_OBJECT_BOUNDS = (1, 2, 4)
"""Numbers of objects at which the next value begins. The values are: none, one, two or three, more."""
SHAPE_BINS = (35, 35, 35)
"""Number of values of area, compactness and objects where the shape is observed."""

Describe = Callable[[BoolMask, int, tuple[int, int], int], Bytes]
"""Maps a tile's mask (h, w), its available pixels, its first pixel's place and the side of the region."""


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


def describe_shape(mask: BoolMask, available: int, origin: tuple[int, int], side: int) -> Bytes:
    """Return area, compactness and number of objects, uint8 (3,); all are zero for an empty mask.

    The area is the largest object's share of the tile, the compactness that object's, and the number of
    objects is a share of the most that could be: one in every block of 2 x 2 pixels. Each is cut into 35
    equal parts. What `describe_tile` knows of the support and the region does not count.

    Source:
        Features and parts as Buter's replication of Sahba, Tizhoosh and Salama (2008) has them,
        github.com/jtbuter/leiden-university-irp (2023), branch match-paper-specs. It measures areas by
        outlines through pixel centres; here pixels are counted.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count == 1:
        return np.zeros(len(SHAPE_BINS), np.uint8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest, most = int(areas.argmax()), math.prod((extent + 1) // 2 for extent in mask.shape)
    shares = (int(areas[largest]) / mask.size, _compactness(labels == 1 + largest), (count - 1) / most)
    values = [min(int(share * bins), bins - 1) for share, bins in zip(shares, SHAPE_BINS, strict=True)]
    return np.array(values, np.uint8)


def describe_settings(
    opened: Bytes, levels: Bytes, support: BoolMask, grid: int, describe: Describe = describe_tile
) -> Bytes:
    """Return the features of every tile at every setting, uint8, (T, Z, K, F).

    They are computed from a region's gray openings (Z, h, w), thresholds (K,) and support (h, w).
    """
    height, width = (extent // grid for extent in support.shape)
    found = []
    for number in range(grid**2):
        top, left = height * (number // grid), width * (number % grid)
        cut = np.s_[top : top + height, left : left + width]
        available = int(support[cut].sum())
        for gray, level in ((gray, level) for gray in opened for level in levels):
            mask = np.ascontiguousarray(gray[cut] <= level)
            found.append(describe(mask, available, (top, left), support.shape[0]))
    return np.stack(found).reshape(grid**2, len(opened), len(levels), -1)


def _compactness(component: BoolMask) -> float:
    outlines, _ = cv2.findContours(component.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Outlines run through pixel centres. Half a pixel outwards adds pi to the length, so that a single
    # pixel has a length.
    length = cv2.arcLength(outlines[0], True) + math.pi
    return min(1.0, 4 * math.pi * float(component.sum()) / length**2)
