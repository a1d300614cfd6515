"""What prompted classical methods share: boxes, ellipses, crops and the component that a box means."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.components import best_overlap, fill_holes
from usrl.data.prompts import bounding_box, check_prompt
from usrl.data.sample import BoolMask, Box, GrayImage, Prompt
from usrl.geometry.regions import grow_box
from usrl.segmenter import Answer

WORKING_SIDE = 96
"""Slow methods run on crops of at most this many pixels a side. Finer speckle does not help them."""


def draw_ellipse(box: Box, shape: tuple[int, ...]) -> BoolMask:
    """Return the pixels, bool (H, W), whose centre lies in the ellipse inscribed in a box."""
    x0, y0, x1, y1 = box
    mask, inside = np.zeros(shape, np.bool_), box_slices(box, shape)
    rows, columns = np.ogrid[inside]
    x = (columns - (x0 + x1) / 2) / ((x1 - x0) / 2)
    y = (rows - (y0 + y1) / 2) / ((y1 - y0) / 2)
    mask[inside] = x**2 + y**2 <= 1
    return mask


@dataclass(frozen=True)
class BoxMethod(ABC):
    """A prompted method that looks at one box at a time; see `usrl.segmenter.Segmenter`."""

    name: str
    track: Literal["prompted"] = "prompted"

    def segment(self, image: GrayImage, prompt: Prompt | None) -> Answer:
        """Return the union of what is found in each box; see `usrl.segmenter.Segmenter`."""
        mask = np.zeros(image.shape, np.bool_)
        for box in check_prompt(prompt, image.shape):
            mask |= self._segment_box(image, box)
        return Answer(mask)

    @abstractmethod
    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        """Return what is found in one box, bool, shape (H, W)."""


@dataclass(frozen=True)
class Crop:
    """A box with a margin, reduced to at most `WORKING_SIDE` pixels a side.

    Attributes:
        image: The crop, lightly smoothed, uint8, (h, w).
        box: The box without the margin, px of the whole image.
        slices: Rows and columns of the crop in the whole image.
        shape: (H, W) of the whole image.
    """

    image: GrayImage
    box: Box
    slices: tuple[slice, slice]
    shape: tuple[int, ...]

    @classmethod
    def cut(cls, image: GrayImage, box: Box, margin: float) -> "Crop":
        """Return the crop of a box grown by a share of its size on every side."""
        slices = box_slices(grow_box(box, margin), image.shape)
        native = image[slices]
        scale = min(1.0, WORKING_SIDE / max(native.shape))
        # Gradients and level sets need a few pixels even of the narrowest box.
        size = (max(4, round(native.shape[1] * scale)), max(4, round(native.shape[0] * scale)))
        small = cv2.GaussianBlur(cv2.resize(native, size, interpolation=cv2.INTER_AREA), (0, 0), 1.5)
        return cls(np.asarray(small, np.uint8), box, slices, image.shape)

    def ellipse(self, share: float = 0.0) -> BoolMask:
        """Return the ellipse of the box grown by a share of its size, which may be negative, bool, (h, w)."""
        whole = draw_ellipse(grow_box(self.box, share), self.shape)[self.slices].astype(np.float32)
        return self._resize(whole, self.image.shape[::-1], cv2.INTER_AREA)

    def finish(self, mask: BoolMask, margin: float) -> BoolMask:
        """Return a crop's mask, cut to the ellipse of the box grown by the margin, after `keep_inside`."""
        return keep_inside(
            self.enlarge(mask) & draw_ellipse(grow_box(self.box, margin), self.shape), self.box
        )

    def enlarge(self, mask: BoolMask) -> BoolMask:
        """Return a crop's mask, bool, (h, w), as a mask of the whole image, bool, (H, W)."""
        whole = np.zeros(self.shape, np.bool_)
        native = whole[self.slices].shape[::-1]
        whole[self.slices] = self._resize(mask.astype(np.float32), native, cv2.INTER_LINEAR)
        return whole

    @staticmethod
    def _resize(mask: NDArray[np.float32], size: tuple[int, ...], method: int) -> BoolMask:
        return np.asarray(cv2.resize(mask, size, interpolation=method) > 0.5, np.bool_)


def box_slices(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns whose pixel centres lie in a box; at least one of each."""

    def span(low: float, high: float, length: int) -> slice:
        start = min(max(0, int(np.ceil(low))), length - 1)
        return slice(start, max(start + 1, min(length, int(np.floor(high)) + 1)))

    return span(box[1], box[3], shape[0]), span(box[0], box[2], shape[1])


def keep_inside(mask: BoolMask, box: Box) -> BoolMask:
    """Return the component that shares most with a box's ellipse, filled; the ellipse if none does."""
    ellipse = draw_ellipse(box, mask.shape)
    best = best_overlap(mask, ellipse)
    return ellipse if best is None else fill_holes(best)


def open_mask(mask: BoolMask, diameter: int) -> BoolMask:
    """Return the opening of a mask, bool (H, W), by a disc of a diameter in pixels."""
    opened = np.zeros_like(mask)
    if mask.any():
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
        x0, y0, x1, y1 = bounding_box(mask)
        # A disc is slow on large images, and further out than this it meets background only.
        near = box_slices((x0 - diameter, y0 - diameter, x1 + diameter, y1 + diameter), mask.shape)
        opened[near] = cv2.morphologyEx(mask[near].astype(np.uint8), cv2.MORPH_OPEN, disk) > 0
    return opened


def odd_length(length: float) -> int:
    """Return the odd number of pixels nearest to a length, from 3 to 255."""
    return int(np.clip(2 * round((length - 1) / 2) + 1, 3, 255))
