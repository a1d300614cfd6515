"""Thresholds, from scikit-image and OpenCV. All look for what is darker than its surroundings."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from skimage.filters import threshold_multiotsu, threshold_otsu

from usrl.classical.boxes import BoxMethod, box_slices, draw_ellipse, keep_inside, odd_length, open_mask
from usrl.data.components import fill_holes, label_components
from usrl.data.sample import BoolMask, Box, GrayImage, Prompt
from usrl.geometry.regions import grow_box
from usrl.segmenter import Answer

_WORKING_SIDE = 1024
"""`OtsuThreshold` shrinks images whose shorter side is longer: its filters grow with the side."""
_BLACK = 8.0
"""Gray levels added to the surroundings, so that noise in black areas does not count as contrast."""


@dataclass(frozen=True)
class OtsuThreshold:
    """The most conspicuous dark region of the whole image.

    The median-filtered image is divided by its surroundings (a wide Gaussian), because depth and gain change
    what is dark. Otsu's threshold cuts the result. The dark side is opened, so that bridges to shadows break.
    Regions that touch the border of the image are dropped: they are shadows and the dark around the beam. Of
    the rest the region with the largest area times contrast is kept, with its holes filled. If nothing is
    left, the mask is empty. Images of more than 1024 px on the shorter side are shrunk to that.

    Attributes:
        filter_share: Side of the median filter as a share of the image's shorter side.
        surroundings_share: Standard deviation of the Gaussian, the same way.
        opening_share: Diameter of the opening, the same way.

    Source:
        Otsu (1979), IEEE Trans Syst Man Cybern 9(1):62-66, doi:10.1109/TSMC.1979.4310076.
    """

    name: str = "otsu"
    track: Literal["automatic"] = "automatic"
    filter_share: float = 0.04
    surroundings_share: float = 0.15
    opening_share: float = 0.08

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> Answer:
        """Return the region; see `usrl.segmenter.Segmenter`."""
        scale = _WORKING_SIDE / min(image.shape)
        if scale >= 1:
            return Answer(self._find(image))
        height, width = image.shape
        size = (round(width * scale), round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        found = self._find(np.asarray(small, np.uint8)).astype(np.float32)
        large = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
        return Answer(np.asarray(large > 0.5, np.bool_))

    def _find(self, image: GrayImage) -> BoolMask:
        side = min(image.shape)
        median = cv2.medianBlur(image, odd_length(self.filter_share * side))
        if median.min() == median.max():  # Otsu's threshold needs two gray levels
            return np.zeros(image.shape, np.bool_)
        smooth = median.astype(np.float32)
        surroundings = cv2.GaussianBlur(smooth, (0, 0), max(self.surroundings_share * side, 1.0))
        relative = smooth / (surroundings + _BLACK)
        threshold = threshold_otsu(relative)
        opened = open_mask(relative <= threshold, odd_length(self.opening_share * side))
        labels, areas = label_components(opened)
        # Area times contrast is the sum of how far each pixel is below the threshold.
        weight = np.bincount(labels.ravel(), weights=(threshold - relative).ravel(), minlength=len(areas))
        weight[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = 0
        weight[0] = 0
        best = int(weight.argmax())
        return fill_holes((labels == best) & (weight[best] > 0))


@dataclass(frozen=True)
class DarkInBox(BoxMethod):
    """What a method calls dark in the median-filtered image, in each box.

    It is cut to the ellipse inscribed in the box grown by a tenth, and opened. Of the rest the component that
    shares most with the box's ellipse is kept, with its holes filled. If none is left, the mask is the box's
    ellipse.

    Attributes:
        filter_share: Side of the median filter as a share of the box's shorter side.
        opening_share: Diameter of the opening, the same way.
    """

    filter_share: float = 0.1
    opening_share: float = 0.1

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        side = min(box[2] - box[0], box[3] - box[1])
        dark = self._find_dark(cv2.medianBlur(image, odd_length(self.filter_share * side)), box)
        near = dark & draw_ellipse(grow_box(box, 0.1), image.shape)
        return keep_inside(open_mask(near, odd_length(self.opening_share * side)), box)

    @abstractmethod
    def _find_dark(self, smooth: GrayImage, box: Box) -> BoolMask:
        """Return what is dark in a filtered image, bool (H, W), for one box."""


@dataclass(frozen=True)
class OtsuInBox(DarkInBox):
    """The dark region of each box, by Otsu's threshold of what lies in it.

    Source:
        Otsu (1979), IEEE Trans Syst Man Cybern 9(1):62-66, doi:10.1109/TSMC.1979.4310076.
    """

    name: str = "otsu-box"

    def _find_dark(self, smooth: GrayImage, box: Box) -> BoolMask:
        threshold = threshold_otsu(smooth[box_slices(box, smooth.shape)])
        return np.asarray(smooth <= threshold, np.bool_)


@dataclass(frozen=True)
class MultiOtsuInBox(DarkInBox):
    """The darker of three classes of gray in each box, by Otsu's criterion for several thresholds.

    A box of fewer gray levels than classes gives its ellipse.

    Attributes:
        taken: How many of the three classes, from the darkest, are the object.

    Source:
        Liao, Chen, Chung (2001), J Inf Sci Eng 17(5):713-727.
    """

    name: str = "multi-otsu"
    taken: int = 2

    def _find_dark(self, smooth: GrayImage, box: Box) -> BoolMask:
        values = smooth[box_slices(box, smooth.shape)]
        if np.unique(values).size < 3:
            return np.zeros(smooth.shape, np.bool_)
        return np.asarray(smooth <= threshold_multiotsu(values, classes=3)[self.taken - 1], np.bool_)


@dataclass(frozen=True)
class AdaptiveInBox(DarkInBox):
    """What is darker than the Gaussian mean around it, in each box.

    The neighbourhood is as large as the box, so that a lesion is compared with its surroundings.

    Attributes:
        block_share: Side of the neighbourhood as a share of the box's longer side.
        offset: Gray levels that a pixel must be darker than the mean.

    Source:
        `cv2.adaptiveThreshold`, OpenCV.
    """

    name: str = "adaptive"
    block_share: float = 1.5
    offset: float = 0.0

    def _find_dark(self, smooth: GrayImage, box: Box) -> BoolMask:
        block = odd_length(self.block_share * max(box[2] - box[0], box[3] - box[1]))
        found = cv2.adaptiveThreshold(
            smooth, 1, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY_INV, block, self.offset
        )
        return np.asarray(found > 0, np.bool_)
