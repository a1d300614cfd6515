"""Ellipses of outlines: fitted, measured and filled."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import ellipe

from usrl.data.sample import BoolMask
from usrl.errors import UserError


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in an image, whose pixel centres lie at integer coordinates."""

    centre: tuple[float, float]  # (x, y), px
    semi_axes: tuple[float, float]  # half of both axes, px; the first lies at the angle
    angle: float  # from the x axis towards the y axis, radians

    @property
    def circumference(self) -> float:
        """Length of the whole curve, px, by the complete elliptic integral of the second kind."""
        minor, major = sorted(self.semi_axes)
        return float(4 * major * ellipe(1 - (minor / major) ** 2))

    def fill(self, shape: tuple[int, int]) -> BoolMask:
        """Return the pixels of an image whose centres lie inside, bool, shape (H, W)."""
        y, x = np.mgrid[: shape[0], : shape[1]]
        x, y = x - self.centre[0], y - self.centre[1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along = (x * cos + y * sin) / self.semi_axes[0]
        across = (y * cos - x * sin) / self.semi_axes[1]
        return np.asarray(along**2 + across**2 <= 1.0, np.bool_)


def fit_ellipse(outline: BoolMask) -> Ellipse:
    """Return the ellipse that fits the pixels of an outline, bool, (H, W), best, by least squares.

    A stroke of several px is followed along its middle, and an outline that the border cuts is continued.

    Source:
        Fitzgibbon and Fisher (1995), A buyer's guide to conic fitting, British Machine Vision Conference,
        513-522, doi:10.5244/C.9.51; OpenCV's ``fitEllipse``.
    """
    points = np.argwhere(outline)[:, ::-1].astype(np.float32)  # (P, 2), x and y
    if len(points) < 5:  # an ellipse has five parameters
        raise UserError(f"an ellipse needs an outline of 5 px or more, got {len(points)}; draw it again")
    (x, y), (first, second), degrees = cv2.fitEllipse(points)
    values = (x, y, first, second, degrees)
    # The points of an ellipse that is thinner than two px lie on a line.
    if not all(map(math.isfinite, values)) or min(first, second) < 2 or max(first, second) > 1e6:
        raise UserError(
            f"an outline must enclose an area, and the ellipse that fits this one is {first:.3g} x "
            f"{second:.3g} px; draw it again"
        )
    return Ellipse((x, y), (first / 2, second / 2), math.radians(degrees))
