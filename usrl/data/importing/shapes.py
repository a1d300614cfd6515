"""Masks of outlines and of run lengths.

Here pixel corners are at integers, as annotation tools count: the centre of the pixel in the first row and
column is (0.5, 0.5). A pixel is inside an outline if its centre is, by the even-odd rule.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask

Points = NDArray[np.float64]
"""Points of an outline, (P, 2), x and y."""
CIRCLE_POINTS = 360


def fill_polygon(points: Points, shape: tuple[int, int]) -> BoolMask:
    """Return the pixels of an image whose centres are inside a polygon, bool, (H, W)."""
    height, width = shape
    switches = np.zeros((height, width + 1), np.int32)  # where a row enters or leaves the polygon
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = (int(np.clip(np.ceil(y - 0.5), 0, height)) for y in sorted((y0, y1)))
        if low < high:
            rows = np.arange(low, high)
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            switches[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)] += 1
    return np.asarray(np.cumsum(switches, axis=1)[:, :width] % 2, np.bool_)


def draw_ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Points:
    """Return an ellipse as a polygon, turned clockwise as images are shown."""
    t, turn = np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False), np.deg2rad(degrees)
    along, across = radius_x * np.cos(t), radius_y * np.sin(t)
    columns = x + along * np.cos(turn) - across * np.sin(turn)
    return np.stack([columns, y + along * np.sin(turn) + across * np.cos(turn)], axis=1)


def fill_runs(runs: Sequence[int], shape: tuple[int, int], *, by_column: bool) -> BoolMask | None:
    """Return the mask of run lengths, outside first, bool, (H, W); None if they do not fill the shape."""
    counts = np.asarray(runs, np.int64)
    if counts.ndim != 1 or (counts < 0).any() or len(counts) > shape[0] * shape[1] + 1:
        return None
    if (counts > shape[0] * shape[1]).any() or int(counts.sum()) != shape[0] * shape[1]:
        return None
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.asarray(flat.reshape(shape[::-1]).T if by_column else flat.reshape(shape), np.bool_)
