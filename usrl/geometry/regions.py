"""The square that a box cuts out of an image, rectangles of it, and how a mask returns to the image."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, Box, GrayImage

MIN_SIDE_PX = 2.0
"""A region keeps at least this extent, however narrow its box or the image's content."""
Floats = NDArray[np.float32]
Window = tuple[slice, slice]
"""Rows and columns of a rectangle, each a slice with a start and a stop."""


@dataclass(frozen=True)
class Region:
    """A part of an image, resampled to a square, or a rectangle of such a square.

    Attributes:
        image: uint8, shape (s, s), or (h, w) of a rectangle.
        support: Where the object may lie, bool, of the same shape.
        box: What it covers, in px of the image it was cut from.
    """

    image: GrayImage
    support: BoolMask
    box: Box

    def cut_mask(self, mask: BoolMask) -> BoolMask:
        """Return a mask (H, W) of the whole image as a mask (h, w) of the region."""
        return _sample(mask.astype(np.float32), self.box, self.image.shape) > 0.5

    def cut_window(self, window: Window) -> "Region":
        """Return a rectangle of the region."""
        (height, width), (x0, y0, x1, y1) = self.image.shape, self.box
        x, y = (x1 - x0) / width, (y1 - y0) / height
        rows, columns = window
        box = x0 + columns.start * x, y0 + rows.start * y, x0 + columns.stop * x, y0 + rows.stop * y
        return Region(self.image[window], self.support[window], box)

    def area_outside(self, mask: BoolMask) -> float:
        """Return how much of a mask (H, W) the region leaves out, in px of the region."""
        x0, y0, x1, y1 = self.box
        rows, columns = np.nonzero(mask)
        inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
        per_pixel = self.image.size / ((x1 - x0) * (y1 - y0))
        return float((~inside).sum() * per_pixel)


def cut_region(image: GrayImage, box: Box | None, margin: float, side: int, *, is_ellipse: bool) -> Region:
    """Return the region of a box grown by a margin, or of the whole image if the box is None.

    It ends where the image ends. Outer rows and columns of zeros, such as a letterbox adds, are outside,
    because black would be taken for a dark object.

    Args:
        image: uint8, shape (H, W).
        box: (x0, y0, x1, y1) in px, or None.
        margin: Share of the box's size by which each side moves outwards.
        side: Side s of the square, px.
        is_ellipse: Limit the support to the ellipse in the grown box, unless no pixel lies in it.
    """
    content = bounding_box(image > 0 if image.any() else np.ones_like(image, np.bool_))
    grown = content if box is None else grow_box(box, margin)
    kept = _intersect(grown, content)
    support = np.ones((side, side), np.bool_)
    if is_ellipse:
        x, y = (_places(kept[axis], kept[axis + 2], side) for axis in (0, 1))
        x0, y0, x1, y1 = grown
        x, y = (2 * x - x0 - x1) / (x1 - x0), (2 * y - y0 - y1) / (y1 - y0)
        support = x[None, :] ** 2 + y[:, None] ** 2 <= 1
        if not support.any():  # the ellipse misses the content, and thresholds need gray levels
            support[:] = True
    step = max(kept[2] - kept[0], kept[3] - kept[1]) / side
    # Bilinear reads skip pixels if a step is two or more.
    smooth = cv2.GaussianBlur(image, (0, 0), step / 4) if step > 2 else image
    x0, y0, x1, y1 = (int(end + 0.5) for end in content)
    inner = smooth[y0:y1, x0:x1].astype(np.float32)  # otherwise the border would mix with the black
    square = _sample(inner, (kept[0] - x0, kept[1] - y0, kept[2] - x0, kept[3] - y0), (side, side))
    return Region(np.rint(square).astype(np.uint8), support, kept)


def place_mask(mask: BoolMask, box: Box, shape: tuple[int, int]) -> BoolMask:
    """Return a region's mask (s, s) as a mask (H, W) of the image, empty outside the box."""
    side = mask.shape[0]
    x0, y0, x1, y1 = box
    x = (np.arange(shape[1]) - x0) * (side / (x1 - x0)) - 0.5
    y = (np.arange(shape[0]) - y0) * (side / (y1 - y0)) - 0.5
    inside = ((x > -0.5) & (x < side - 0.5))[None, :] & ((y > -0.5) & (y < side - 0.5))[:, None]
    return inside & (_remap(mask.astype(np.float32), x, y) > 0.5)


def grow_box(box: Box, share: float) -> Box:
    """Return a box with each side moved outwards by a share of its extent."""
    x0, y0, x1, y1 = box
    x, y = share * (x1 - x0), share * (y1 - y0)
    return x0 - x, y0 - y, x1 + x, y1 + y


def _sample(array: Floats, box: Box, shape: tuple[int, ...]) -> Floats:
    height, width = shape
    return _remap(array, _places(box[0], box[2], width), _places(box[1], box[3], height))


def _remap(array: Floats, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
    """Return an array read bilinearly at columns x and rows y, shape (len(y), len(x))."""
    columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    read = cv2.remap(array, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, np.float32)


def _places(low: float, high: float, count: int) -> NDArray[np.floating]:
    """Return the centres of equal parts of an interval."""
    return low + (np.arange(count) + 0.5) * ((high - low) / count)


def _intersect(box: Box, limits: Box) -> Box:
    """Return the part of a box within limits, or a sliver at their nearest border if they do not meet."""
    sides = []
    for axis in (0, 1):
        low, high = limits[axis], limits[axis + 2]
        start = min(max(box[axis], low), max(low, high - MIN_SIDE_PX))
        sides.append((start, min(max(box[axis + 2], start + MIN_SIDE_PX), max(high, start + 1))))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]
