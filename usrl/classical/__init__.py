"""Segmenters without training, from OpenCV and scikit-image.

All of them look for what is darker than its surroundings, or for edges around it: most lesions, cysts and
vessels have these. Sizes of filters follow the box or the image, so that resolution does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass

from usrl.classical.boxes import BoxMethod, draw_ellipse
from usrl.classical.contours import ChanVeseInBox, GeodesicInBox
from usrl.classical.seeds import GrabCutInBox, RandomWalkerInBox, WatershedInBox
from usrl.classical.thresholds import AdaptiveInBox, MultiOtsuInBox, OtsuInBox, OtsuThreshold
from usrl.data.sample import BoolMask, Box, GrayImage


@dataclass(frozen=True)
class ProposalEllipse(BoxMethod):
    """The ellipse inscribed in each box: it shows what a prompt alone is worth."""

    name: str = "proposal"

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        return draw_ellipse(box, image.shape)


Classical = BoxMethod | OtsuThreshold
_METHODS: tuple[Callable[[], Classical], ...] = (
    *(OtsuThreshold, OtsuInBox, MultiOtsuInBox, AdaptiveInBox, ChanVeseInBox, GeodesicInBox, GrabCutInBox),
    *(RandomWalkerInBox, WatershedInBox, ProposalEllipse),
)
CLASSICAL = {method().name: method for method in _METHODS}
"""Segmenters that `usrl compare` and `usrl segment` take by name."""
