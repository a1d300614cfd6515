"""Area, perimeter, axes and circumference of a binary mask, in pixels or millimetres."""

import math
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from usrl.data.components import clean_mask
from usrl.data.sample import BoolMask, Spacing
from usrl.data.sets.hc18 import Ellipse, fit_ellipse
from usrl.errors import UserError
from usrl.metrics.surface import check_spacing, find_boundary

Ends = tuple[tuple[float, float], tuple[float, float]]


class Axes(NamedTuple):
    """The two diameters that readers measure.

    Attributes:
        long: The longest distance between two points of the shape, px or mm.
        short: The longest line across it at right angles to the long one, px or mm.
        long_ends: Both ends (x, y) of the long axis, px.
        short_ends: Both ends of the short axis, px.
    """

    long: float
    short: float
    long_ends: Ends
    short_ends: Ends


def measure_area(mask: BoolMask, spacing_mm: Spacing | None = None) -> float:
    """Return the area of a mask, bool (H, W), in px, or in mm2 if a (row, column) spacing is given.

    Raises:
        UserError: If a spacing is not positive.
    """
    row, column = check_spacing(spacing_mm)
    return float(np.count_nonzero(mask)) * row * column


def relative_area_error(pred: BoolMask, target: BoolMask) -> float:
    """Return how far the area of a mask is from the target's, as a share of the target's: |P - T| / T.

    Both empty gives 0, an empty prediction 1. A prediction without a target gives infinity, because its error
    is not a share of anything.
    """
    found, wanted = int(np.count_nonzero(pred)), int(np.count_nonzero(target))
    return abs(found - wanted) / wanted if wanted else math.inf if found else 0.0


def fit_mask(mask: BoolMask) -> Ellipse | None:
    """Return the ellipse that fits the outline of the largest component of a mask, bool, (H, W); or None.

    It is fitted to the centres of the pixels of the boundary and widened by half a pixel, to where the mask
    ends. Where the border of the image cuts the mask, the ellipse goes on. A mask that is empty or too thin
    has none; see `usrl.data.sets.hc18.fit_ellipse`.
    """
    outline = find_boundary(clean_mask(mask, "largest+holes"))
    inner = np.zeros_like(outline)
    inner[1:-1, 1:-1] = outline[1:-1, 1:-1]
    try:
        ellipse = fit_ellipse(inner)
    except UserError:
        return None
    first, second = ellipse.semi_axes
    return Ellipse(ellipse.centre, (first + 0.5, second + 0.5), ellipse.angle)


def measure_circumference(mask: BoolMask, spacing_mm: float = 1.0) -> float:
    """Return the circumference of the ellipse of `fit_mask`, px, or mm if the side of a pixel is given.

    It is how the head circumference (HC) of a fetus is measured. A mask without an ellipse has 0.
    """
    ellipse = fit_mask(mask)
    return 0.0 if ellipse is None else ellipse.circumference * spacing_mm


def measure_perimeter(mask: BoolMask, spacing_mm: Spacing | None = None) -> float:
    """Return the length of the outlines of a mask, bool (H, W), in px, or in mm if a spacing is given.

    Outlines of holes and the border of the image count. Lines in four directions are counted where they cross
    an outline, each weighted by its share of the angles (Cauchy-Crofton formula). On square pixels this is
    skimage.measure.perimeter_crofton; here pixels may be oblong.

    Raises:
        UserError: If a spacing is not positive.

    Source:
        Legland, Kieu and Devaux (2007), Image Analysis & Stereology 26(2):83-92,
        doi:10.5566/ias.v26.p83-92.
    """
    row, column = check_spacing(spacing_mm)
    padded = np.pad(mask, 1)
    angle = np.arctan2(row, column)  # of the diagonal; neighbouring directions share a quarter turn
    diagonal = row * column / np.hypot(row, column)  # distance between diagonal lines
    crossings = (
        (padded[:, 1:] != padded[:, :-1], row * angle),
        (padded[1:] != padded[:-1], column * (np.pi / 2 - angle)),
        (padded[1:, 1:] != padded[:-1, :-1], diagonal * np.pi / 4),
        (padded[1:, :-1] != padded[:-1, 1:], diagonal * np.pi / 4),
    )
    return float(sum(np.count_nonzero(crossed) * weight for crossed, weight in crossings)) / 2


def measure_axes(mask: BoolMask, spacing_mm: Spacing | None = None) -> Axes | None:
    """Return the longest axis of a mask, bool (H, W), and the longest at right angles to it.

    Both are measured on the convex hull of the pixels with their whole area, so a pixel of one by one has a
    long axis of the square root of two. If a (row, column) spacing is given, they are in mm, and at right
    angles in mm. An empty mask has none.

    Raises:
        UserError: If a spacing is not positive.
    """
    row, column = check_spacing(spacing_mm)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    centres = np.concatenate(outlines)[:, 0].astype(np.float64)  # (P, 2), (x, y)
    corners = np.concatenate([centres + np.array(way) for way in product((-0.5, 0.5), repeat=2)])
    hull = cv2.convexHull(corners.astype(np.float32))[:, 0].astype(np.float64) * (column, row)  # (K, 2)
    apart = np.linalg.norm(hull[:, None] - hull, axis=2)  # (K, K)
    first, second = np.unravel_index(int(apart.argmax()), apart.shape)
    start, end, long = hull[first], hull[second], float(apart.max())
    along = (end - start) / long
    across = np.array([-along[1], along[0]])
    place, side = (hull - start) @ along, (hull - start) @ across  # (K,)
    order = np.argsort(place, kind="stable")
    # Both sides of the hull are piecewise linear in the place, so the widest place is at a corner.
    upper, lower = order[side[order] >= -1e-6], order[side[order] <= 1e-6]
    top, bottom = (np.interp(place, place[part], side[part]) for part in (upper, lower))
    widest = int((top - bottom).argmax())
    ends = [start + place[widest] * along + reach[widest] * across for reach in (bottom, top)]
    native = [tuple((point / (column, row)).tolist()) for point in (start, end, *ends)]
    return Axes(long, float((top - bottom)[widest]), (native[0], native[1]), (native[2], native[3]))
