"""Segmenters without training, from OpenCV and scikit-image.

All of them look for what is darker than its surroundings, or for edges around it, as most lesions, cysts and
vessels have. Sizes of filters follow the box or the image, so that resolution does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from usrl.baselines.classical.boxes import draw_ellipse
from usrl.baselines.classical.contours import ChanVeseInBox, GeodesicInBox
from usrl.baselines.classical.seeds import GrabCutInBox, RandomWalkerInBox, WatershedInBox
from usrl.baselines.classical.thresholds import AdaptiveInBox, MultiOtsuInBox, OtsuInBox, OtsuThreshold
from usrl.data.prompts import check_prompt
from usrl.data.sample import BoolMask, GrayImage, Prompt

__all__ = [
    "CLASSICAL",
    "AdaptiveInBox",
    "ChanVeseInBox",
    "Classical",
    "GeodesicInBox",
    "GrabCutInBox",
    "MultiOtsuInBox",
    "OtsuInBox",
    "OtsuThreshold",
    "ProposalEllipse",
    "RandomWalkerInBox",
    "WatershedInBox",
    "draw_ellipse",
]


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


Classical = (
    ProposalEllipse
    | OtsuThreshold
    | OtsuInBox
    | MultiOtsuInBox
    | AdaptiveInBox
    | ChanVeseInBox
    | GeodesicInBox
    | GrabCutInBox
    | RandomWalkerInBox
    | WatershedInBox
)
CLASSICAL: dict[str, Callable[[], Classical]] = {
    "otsu": OtsuThreshold,
    "otsu-box": OtsuInBox,
    "multi-otsu": MultiOtsuInBox,
    "adaptive": AdaptiveInBox,
    "chan-vese": ChanVeseInBox,
    "geodesic": GeodesicInBox,
    "grabcut": GrabCutInBox,
    "random-walker": RandomWalkerInBox,
    "watershed": WatershedInBox,
    "proposal": ProposalEllipse,
}
"""Segmenters that `usrl compare` and `usrl segment` take by name."""
