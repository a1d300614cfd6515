"""Area and perimeter of a binary mask, in pixels or millimetres."""

import numpy as np

from usrl.data.sample import BoolMask
from usrl.metrics.surface import Spacing, check_spacing


def measure_area(mask: BoolMask, spacing_mm: Spacing | None = None) -> float:
    """Return the area of a mask, bool (H, W), in px, or in mm2 if a (row, column) spacing is given.

    Raises:
        UserError: If a spacing is not positive.
    """
    row, column = check_spacing(spacing_mm)
    return float(np.count_nonzero(mask)) * row * column


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
