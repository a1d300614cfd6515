"""Segmenters without training, from OpenCV and scikit-image.

All of them look for what is darker than its surroundings, as most lesions, cysts and vessels are. Sizes
of filters follow the box or the image, so that resolution does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import morphological_chan_vese

from usrl.data.components import label_components
from usrl.data.prompts import check_prompt
from usrl.data.sample import BoolMask, Box, GrayImage, Prompt

_WORKING_SIDE = 96
"""Chan-Vese runs on crops of at most this many pixels a side: it is slow, and speckle is no help to it."""

_BLACK = 8.0
"""Gray levels added to the surroundings, so that noise in black areas is no contrast."""


@dataclass(frozen=True)
class ProposalEllipse:
    """The ellipse inscribed in each box: what a prompt alone is worth."""

    name: str = "proposal"
    track: Literal["prompted"] = "prompted"

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the union of the ellipses, bool, shape (H, W); see `usrl.evaluation.segmenter.Segmenter`."""
        mask = np.zeros(image.shape, np.bool_)
        for box in check_prompt(prompt, image.shape):
            mask |= draw_ellipse(box, image.shape)
        return mask


@dataclass(frozen=True)
class OtsuThreshold:
    """The most conspicuous dark region of the whole image.

    The median-filtered image is divided by its surroundings (a wide Gaussian), as depth and gain change
    what is dark, and cut by Otsu's threshold. The dark side is opened, so that bridges to shadows break,
    and regions that touch the border of the image are dropped: shadows and the unlit surroundings of the
    beam. Of the rest the one with the largest area times contrast is kept and its holes are filled. Where
    nothing is left the mask is empty.

    Attributes:
        name: Row label.
        track: Needs no box.
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

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> BoolMask:
        """Return the region, bool, shape (H, W); see `usrl.evaluation.segmenter.Segmenter`."""
        side = min(image.shape)
        smooth = cv2.medianBlur(image, _odd(self.filter_share * side)).astype(np.float32)
        surroundings = cv2.GaussianBlur(smooth, (0, 0), max(self.surroundings_share * side, 1.0))
        relative = smooth / (surroundings + _BLACK)
        threshold = threshold_otsu(relative)
        labels, areas = label_components(_open(relative <= threshold, _odd(self.opening_share * side)))
        # Area times contrast is the sum of how far each pixel is below the threshold.
        weight = np.bincount(labels.ravel(), weights=(threshold - relative).ravel(), minlength=len(areas))
        weight[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = 0
        weight[0] = 0
        best = int(weight.argmax())
        return np.asarray(ndimage.binary_fill_holes((labels == best) & (weight[best] > 0)), np.bool_)


@dataclass(frozen=True)
class OtsuInBox:
    """The dark region of each box.

    Otsu's threshold is taken from the median-filtered box; of its dark side, opened and cut to the
    ellipse inscribed in the box grown by a tenth, the component that shares most with the box's ellipse
    is kept and its holes are filled. A box of one gray level gives its ellipse.

    Source:
        Otsu (1979), IEEE Trans Syst Man Cybern 9(1):62-66, doi:10.1109/TSMC.1979.4310076.
    """

    name: str = "otsu-box"
    track: Literal["prompted"] = "prompted"
    filter_share: float = 0.1
    opening_share: float = 0.1

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the regions, bool, shape (H, W); see `usrl.evaluation.segmenter.Segmenter`."""
        return _unite(self._segment_box, image, prompt)

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        side = min(box[2] - box[0], box[3] - box[1])
        smooth = cv2.medianBlur(image, _odd(self.filter_share * side))
        dark = smooth <= threshold_otsu(smooth[_slices(box, image.shape)])
        dark &= draw_ellipse(_grow(box, 0.1), image.shape)
        return _keep_inside(_open(dark, _odd(self.opening_share * side)), box)


@dataclass(frozen=True)
class ChanVeseInBox:
    """A two-level partition of each box and its margin, grown from the inscribed ellipse.

    Morphological Chan-Vese runs on the box with a margin, resampled to at most 96 px a side; of the
    result, cut to the ellipse of the grown box, the component that shares most with the box's ellipse is
    kept and its holes are filled.

    Attributes:
        name: Row label.
        track: Needs boxes.
        margin: Share of the box's size by which it is grown on every side.
        iterations: Of the level set.
        smoothing: Curvature steps per iteration.

    Source:
        Marquez-Neila et al. (2014), IEEE TPAMI 36(1):2-17, doi:10.1109/TPAMI.2013.106, after Chan and
        Vese (2001), IEEE Trans Image Process 10(2):266-277, doi:10.1109/83.902291.
    """

    name: str = "chan-vese"
    track: Literal["prompted"] = "prompted"
    margin: float = 0.1
    iterations: int = 30
    smoothing: int = 2

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the regions, bool, shape (H, W); see `usrl.evaluation.segmenter.Segmenter`."""
        return _unite(self._segment_box, image, prompt)

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        grown = _grow(box, self.margin)
        crop = _slices(grown, image.shape)
        start = draw_ellipse(box, image.shape)[crop].astype(np.float32)
        scale = min(1.0, _WORKING_SIDE / max(start.shape))
        # The level set needs a gradient, hence a few pixels even of the narrowest box.
        size = (max(4, round(start.shape[1] * scale)), max(4, round(start.shape[0] * scale)))
        small = cv2.GaussianBlur(cv2.resize(image[crop], size, interpolation=cv2.INTER_AREA), (0, 0), 1.5)
        level_set = cv2.resize(start, size, interpolation=cv2.INTER_AREA) > 0.5
        level_set = morphological_chan_vese(
            small.astype(np.float64), self.iterations, level_set, self.smoothing
        ).astype(np.float32)
        mask = np.zeros(image.shape, np.bool_)
        mask[crop] = cv2.resize(level_set, start.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        return _keep_inside(mask & draw_ellipse(grown, image.shape), box)


Classical = ProposalEllipse | OtsuThreshold | OtsuInBox | ChanVeseInBox
CLASSICAL: dict[str, Callable[[], Classical]] = {
    "otsu": OtsuThreshold,
    "otsu-box": OtsuInBox,
    "chan-vese": ChanVeseInBox,
    "proposal": ProposalEllipse,
}
"""Segmenters that `usrl compare` and `usrl segment` take by name."""


def draw_ellipse(box: Box, shape: tuple[int, ...]) -> BoolMask:
    """Return the pixels whose centre lies in the ellipse inscribed in a box.

    Args:
        box: (x0, y0, x1, y1) in px; parts outside the image are cut off.
        shape: (H, W) of the image.

    Returns:
        Mask, bool, shape (H, W).
    """
    x0, y0, x1, y1 = box
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    x = (columns - (x0 + x1) / 2) / ((x1 - x0) / 2)
    y = (rows - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return np.asarray(x**2 + y**2 <= 1, np.bool_)


def _unite(
    segment_box: Callable[[GrayImage, Box], BoolMask], image: GrayImage, prompt: Prompt | None
) -> BoolMask:
    mask = np.zeros(image.shape, np.bool_)
    for box in check_prompt(prompt, image.shape):
        mask |= segment_box(image, box)
    return mask


def _grow(box: Box, share: float) -> Box:
    x0, y0, x1, y1 = box
    x, y = share * (x1 - x0), share * (y1 - y0)
    return x0 - x, y0 - y, x1 + x, y1 + y


def _slices(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns whose pixel centres lie in a box; at least one of each."""

    def span(low: float, high: float, length: int) -> slice:
        start = min(max(0, int(np.ceil(low))), length - 1)
        return slice(start, max(start + 1, min(length, int(np.floor(high)) + 1)))

    return span(box[1], box[3], shape[0]), span(box[0], box[2], shape[1])


def _keep_inside(mask: BoolMask, box: Box) -> BoolMask:
    """Return the component that shares most with a box's ellipse, filled; the ellipse where none does."""
    ellipse = draw_ellipse(box, mask.shape)
    labels, _ = label_components(mask)
    shared = np.bincount(labels[ellipse], minlength=2)
    shared[0] = 0
    if not shared.any():
        return ellipse
    return np.asarray(ndimage.binary_fill_holes(labels == shared.argmax()), np.bool_)


def _open(mask: BoolMask, diameter: int) -> BoolMask:
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disk) > 0, np.bool_)


def _odd(length: float) -> int:
    """Return the odd number of pixels nearest to a length, from 3 to 255."""
    return int(np.clip(2 * round((length - 1) / 2) + 1, 3, 255))
