"""Methods that spread labels from seeds: inside each box's core, and around the box."""

from dataclasses import dataclass

import cv2
import numpy as np
from skimage.filters import sobel
from skimage.segmentation import random_walker, watershed

from usrl.classical.boxes import BoxMethod, Crop
from usrl.data.sample import BoolMask, Box, GrayImage

INSIDE, OUTSIDE = 1, 2
MARGIN = 0.3
"""Crops show this share of the box's size around it: methods need background to learn from."""


@dataclass(frozen=True)
class GrabCutInBox(BoxMethod):
    """A graph cut between gray levels of each box's inside and of its surroundings.

    Everything outside the ellipse of the box grown by `margin` is background. Inside the box's ellipse the
    object is probable.

    Attributes:
        margin: Share of the box's size by which the ellipse is grown on every side.
        iterations: Rounds of learning gray levels and cutting.

    Source:
        Rother, Kolmogorov, Blake (2004), ACM Trans Graph 23(3):309-314, doi:10.1145/1015706.1015720.
    """

    name: str = "grabcut"
    margin: float = 0.2
    iterations: int = 3

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        crop = Crop.cut(image, box, MARGIN)
        inside, possible = crop.ellipse(), crop.ellipse(self.margin)
        labels = np.full(crop.image.shape, cv2.GC_BGD, np.uint8)
        labels[possible] = cv2.GC_PR_BGD
        labels[inside] = cv2.GC_PR_FGD
        if inside.any() and not inside.all():
            # The mixture models start from OpenCV's generator. The same image must get the same cut.
            cv2.setRNGSeed(0)
            pixels = cv2.cvtColor(crop.image, cv2.COLOR_GRAY2BGR)
            models = np.zeros((1, 65)), np.zeros((1, 65))
            cv2.grabCut(pixels, labels, None, *models, self.iterations, cv2.GC_INIT_WITH_MASK)
        return crop.finish((labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD), self.margin)


@dataclass(frozen=True)
class RandomWalkerInBox(BoxMethod):
    """The pixels from which a random walker, slowed by edges, reaches each box's core before its outside.

    Attributes:
        core: Share of the box's size by which its ellipse is shrunk on every side to give the inner seeds.
        margin: Share by which it is grown to give the outer ones.
        beta: How much edges slow the walk.

    Source:
        Grady (2006), IEEE TPAMI 28(11):1768-1783, doi:10.1109/TPAMI.2006.233.
    """

    name: str = "random-walker"
    core: float = 0.15
    margin: float = 0.2
    beta: float = 3000.0

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        crop = Crop.cut(image, box, MARGIN)
        seeds = seed_box(crop, self.core, self.margin)
        # The walker needs seeds of both kinds, somewhere to walk, and gray levels that differ.
        if np.unique(seeds).size < 3 or crop.image.min() == crop.image.max():
            return crop.finish(crop.ellipse(), self.margin)
        gray = crop.image.astype(np.float64) / 255
        # Labels are compared, not probabilities, so rounding of these beyond [0, 1] does not matter.
        labels = random_walker(gray, seeds, beta=self.beta, mode="cg_j", tol=1e-6, prob_tol=0.1)
        return crop.finish(labels == INSIDE, self.margin)


@dataclass(frozen=True)
class WatershedInBox(BoxMethod):
    """The basin that floods from each box's core until it meets the flood from outside at an edge.

    Attributes:
        core: Share of the box's size by which its ellipse is shrunk on every side to give the inner seed.
        margin: Share by which it is grown to give the outer one.

    Source:
        Beucher and Meyer (1993), in Mathematical Morphology in Image Processing, Marcel Dekker.
    """

    name: str = "watershed"
    core: float = 0.2
    margin: float = 0.2

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        crop = Crop.cut(image, box, MARGIN)
        labels = watershed(sobel(crop.image), seed_box(crop, self.core, self.margin))
        return crop.finish(labels == INSIDE, self.margin)


def seed_box(
    crop: Crop, core: float = 0.15, margin: float = 0.2
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Return seeds inside and outside, int32, (h, w); 0 in between."""
    seeds = np.zeros(crop.image.shape, np.int32)
    seeds[~crop.ellipse(margin)] = OUTSIDE
    seeds[crop.ellipse(-core)] = INSIDE
    return seeds
