"""A classical method that a user corrects by clicks."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import random_walker

from usrl.classical.boxes import Crop, keep_inside
from usrl.classical.seeds import INSIDE, MARGIN, OUTSIDE, seed_box
from usrl.data.components import split_components
from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, GrayImage
from usrl.segmenter import Answer
from usrl.session import Asks, Marks, Point

Seeds = NDArray[np.int32]
_CLICK, _CLEARED = 0.03, 0.15
"""Radius of a click's seeds, and of the disc where it clears seeds of the other kind; shares of the crop's
longer side."""
_CORE = 0.4
"""Seeds from a mask keep this share of its depth away from its border."""


@dataclass(frozen=True, eq=False)
class Walked:
    """Seeds of each lesion, and what the walkers found.

    Attributes:
        crops: The image around each lesion.
        seeds: Labels of pixels that the box or the mask gives, int32, (h, w), for each crop.
        clicks: Labels of pixels that the clicks give, likewise.
        found: The mask of each lesion, bool, (H, W).
        start: The mask of the start, bool, (H, W), until there is a click; None if it began from boxes.
    """

    crops: tuple[Crop, ...]
    seeds: tuple[Seeds, ...]
    clicks: tuple[Seeds, ...]
    found: tuple[BoolMask, ...]
    start: BoolMask | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RandomWalkerClicks:
    """A random walker from the seeds of boxes or of a mask, to which clicks add; `usrl.session.Interactive`.

    Each click seeds a small disc, and clears the box's seeds of the other kind around it.

    Attributes:
        beta: How much edges slow the walk.

    Source:
        Grady (2006), IEEE TPAMI 28(11):1768-1783, doi:10.1109/TPAMI.2006.233.
    """

    name: str = "random-walker"
    asks: Asks = "clicks"
    beta: float = 3000.0

    def begin(self, image: GrayImage, marks: Marks) -> Walked:
        """Return what the walkers find without clicks; see `usrl.session.Interactive`."""
        if marks.mask is None:
            crops = tuple(Crop.cut(image, box, MARGIN) for box in marks.boxes)
            seeds = tuple(map(seed_box, crops))
        else:
            parts = split_components(marks.mask)
            crops = tuple(Crop.cut(image, bounding_box(part), MARGIN) for part in parts)
            seeds = tuple(_seed_mask(crop, part) for crop, part in zip(crops, parts, strict=True))
        found = tuple(self._walk(crop, own) for crop, own in zip(crops, seeds, strict=True))
        none = tuple(map(np.zeros_like, seeds))
        return Walked(crops, seeds, none, found, marks.mask, image.shape)

    def correct(self, state: Walked, marks: Marks) -> Walked:
        """Return what the walkers find with more seeds; see `usrl.session.Interactive`."""
        seeds, clicks, found = list(state.seeds), list(state.clicks), list(state.found)
        for number, crop in enumerate(state.crops):
            for points, label in ((marks.inside, INSIDE), (marks.outside, OUTSIDE)):
                for point in points:
                    away = _measure_away(crop, point)
                    reach = max(crop.image.shape)
                    wrong = (seeds[number] != label) & (away <= _CLEARED * reach)
                    seeds[number] = np.where(wrong, np.int32(0), seeds[number])
                    clicks[number] = np.where(
                        away <= max(1.0, _CLICK * reach), np.int32(label), clicks[number]
                    )
            if (clicks[number] != state.clicks[number]).any():
                known = np.where(clicks[number] > 0, clicks[number], seeds[number])
                found[number] = self._walk(crop, known)
        return replace(state, seeds=tuple(seeds), clicks=tuple(clicks), found=tuple(found), start=None)

    def answer(self, state: Walked) -> Answer:
        """Return the union of what was found; see `usrl.session.Interactive`."""
        if state.start is not None:
            return Answer(state.start)
        return Answer(np.logical_or.reduce([np.zeros(state.shape, np.bool_), *state.found]))

    def _walk(self, crop: Crop, seeds: Seeds) -> BoolMask:
        mask = seeds == INSIDE
        # The walker needs seeds of both kinds, somewhere to walk, and gray levels that differ.
        if np.unique(seeds).size == 3 and crop.image.min() < crop.image.max():
            gray = crop.image.astype(np.float64) / 255
            mask = random_walker(gray, seeds, beta=self.beta, mode="cg_j", tol=1e-6, prob_tol=0.1) == INSIDE
        return keep_inside(crop.enlarge(mask), crop.box)


def walk(device: object) -> RandomWalkerClicks:
    """Return the random walker from clicks. It computes on the CPU, whatever the device."""
    return RandomWalkerClicks()


def _seed_mask(crop: Crop, mask: BoolMask) -> Seeds:
    """Return seeds deep inside a mask and well outside of it, int32, (h, w)."""
    height, width = crop.image.shape
    small = cv2.resize(mask[crop.slices].astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
    inside = cv2.distanceTransform(np.pad(small, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    outside = cv2.distanceTransform(1 - small, cv2.DIST_L2, 5)
    seeds = np.zeros((height, width), np.int32)
    deep = inside.max()
    seeds[outside > _CORE * deep] = OUTSIDE
    seeds[inside > _CORE * deep] = INSIDE
    return seeds


def _measure_away(crop: Crop, point: Point) -> NDArray[np.float64]:
    """Return how far each pixel of a crop is from a point of the native image, (h, w), in px of the crop.

    It is infinite if the crop does not show the point.
    """
    rows, columns = crop.slices
    height, width = crop.image.shape
    x = (point[0] - columns.start + 0.5) * width / (columns.stop - columns.start) - 0.5
    y = (point[1] - rows.start + 0.5) * height / (rows.stop - rows.start) - 0.5
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        return np.full((height, width), np.inf)
    place_y, place_x = np.ogrid[:height, :width]
    return np.hypot(place_x - x, place_y - y)
