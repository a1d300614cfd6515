"""Level sets that grow from the box's ellipse, from scikit-image."""

from dataclasses import dataclass

import numpy as np
from skimage import segmentation

from usrl.classical.boxes import BoxMethod, Crop
from usrl.data.sample import BoolMask, Box, GrayImage


@dataclass(frozen=True)
class ChanVeseInBox(BoxMethod):
    """A two-level partition of each box and its margin, grown from the inscribed ellipse.

    Morphological Chan-Vese runs on a `Crop` of the box with a margin; `Crop.finish` cleans the result.

    Attributes:
        margin: Share of the box's size by which it is grown on every side.
        iterations: Of the level set.
        smoothing: Curvature steps per iteration.

    Source:
        Marquez-Neila et al. (2014), IEEE TPAMI 36(1):2-17, doi:10.1109/TPAMI.2013.106, after Chan and
        Vese (2001), IEEE Trans Image Process 10(2):266-277, doi:10.1109/83.902291.
    """

    name: str = "chan-vese"
    margin: float = 0.1
    iterations: int = 30
    smoothing: int = 2

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        crop = Crop.cut(image, box, self.margin)
        level_set = segmentation.morphological_chan_vese(
            crop.image.astype(np.float64), self.iterations, crop.ellipse(), self.smoothing
        )
        return crop.finish(level_set > 0, self.margin)


@dataclass(frozen=True)
class GeodesicInBox(BoxMethod):
    """A contour that starts as each box's ellipse and stops at edges.

    Morphological geodesic active contours run on a `Crop` of the box with a margin; `Crop.finish` cleans the
    result.

    Attributes:
        margin: Share of the box's size by which it is grown on every side.
        iterations: Of the level set.
        smoothing: Curvature steps per iteration.
        balloon: Force on parts without an edge: 1 outwards, -1 inwards, 0 for no force.
        threshold: Edge strength from which the balloon stops; smaller is stronger.
        alpha: Steepness of the edge map.
        sigma: Width of its Gaussian, px of the crop.

    Source:
        Marquez-Neila et al. (2014), IEEE TPAMI 36(1):2-17, doi:10.1109/TPAMI.2013.106, after Caselles et
        al. (1997), Int J Comput Vis 22(1):61-79, doi:10.1023/A:1007979827043.
    """

    name: str = "geodesic"
    margin: float = 0.1
    iterations: int = 40
    smoothing: int = 2
    balloon: int = 0
    threshold: float = 0.3
    alpha: float = 100.0
    sigma: float = 3.0

    def _segment_box(self, image: GrayImage, box: Box) -> BoolMask:
        crop = Crop.cut(image, box, self.margin)
        edges = segmentation.inverse_gaussian_gradient(
            crop.image.astype(np.float64) / 255, self.alpha, self.sigma
        )
        level_set = segmentation.morphological_geodesic_active_contour(
            edges, self.iterations, crop.ellipse(), self.smoothing, self.threshold, self.balloon
        )
        return crop.finish(level_set > 0, self.margin)
