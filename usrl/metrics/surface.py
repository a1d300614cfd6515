"""Distances between the boundaries of two binary masks.

The boundary of a mask is its pixels with at least one of four neighbours outside the mask or the image.
Distances are Euclidean, between pixel centres, in px, or in mm if a spacing (row, column) is given. If both
masks are empty, the distance is 0. If exactly one is, the distance is the diagonal of the image. Libraries
differ here: MONAI gives NaN or infinity, and then a mean is useless.

The 95th percentile has three definitions in use, which differ by millimetres on the same masks:

- the larger of the two directed percentiles, each over the pixels of one boundary. It is used here, as in
  MONAI. A short boundary counts as much as a long one, so the missed part of a lesion shows.
- the percentile of the distances of both boundaries together (MedPy). Where one boundary is much longer than
  the other, the shorter one's errors are hidden.
- the larger of two percentiles in which each surface element counts by its area (the package surface-distance
  of DeepMind).

Percentiles are interpolated linearly between distances.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from usrl.data.sample import BoolMask, Spacing
from usrl.errors import UserError
from usrl.metrics.overlap import check_masks

Distances = NDArray[np.float64]
NSD_TOLERANCE = {"px": 2.0, "mm": 1.0}
"""Distance up to which boundaries agree in the normalised surface Dice of reports, by unit."""
HD95_DEFINITION = "larger of the two directed 95th percentiles, linearly interpolated, as in MONAI"
"""What reports say of HD95."""
BAND = 0.02
"""Width of the band of the boundary IoU, as a share of the image's diagonal."""


class SurfaceScores(NamedTuple):
    """All distances of one case.

    Attributes:
        hd: Hausdorff distance, the largest distance of either boundary from the other, px or mm.
        hd95: The larger of the two directed 95th percentiles of boundary distance, px or mm.
        asd: Average surface distance, the mean distance of the prediction's boundary from the target's, px or
            mm. What the prediction has missed does not count.
        assd: Average symmetric surface distance, the mean over the pixels of both boundaries, px or mm.
        nsd: Normalised surface Dice, the share of both boundaries within a tolerance of the other, in [0, 1]:
            1 if both masks are empty, 0 if exactly one is.

    Source:
        Huttenlocher et al. (1993), IEEE TPAMI 15(9):850-863, doi:10.1109/34.232073; Nikolov et al. (2021),
        J Med Internet Res 23(7):e26151, doi:10.2196/26151, here on boundary pixels, each counted once.
    """

    hd: float
    hd95: float
    asd: float
    assd: float
    nsd: float


def find_boundary(mask: BoolMask) -> BoolMask:
    """Return the boundary pixels of a mask, bool (H, W)."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask), np.bool_)


def surface_distances(
    pred: BoolMask, target: BoolMask, spacing_mm: Spacing | None = None
) -> tuple[Distances, Distances]:
    """Return the distances from each boundary pixel of pred to target, (P,), and back, (T,), px or mm.

    Raises:
        UserError: If the shapes differ, or a spacing is not positive.
    """
    check_masks(pred, target)
    sampling = check_spacing(spacing_mm)
    if not (pred.any() and target.any()):
        value = np.hypot(*np.multiply(pred.shape, sampling)) if pred.any() or target.any() else 0.0
        return np.array([value]), np.array([value])
    # Both boundaries are in the bounding box of the union, so every nearest neighbour is too.
    crop = ndimage.find_objects((pred | target).astype(np.int8))[0]
    pred_edge, target_edge = find_boundary(pred[crop]), find_boundary(target[crop])
    to_target = ndimage.distance_transform_edt(~target_edge, sampling=sampling)
    to_pred = ndimage.distance_transform_edt(~pred_edge, sampling=sampling)
    return to_target[pred_edge], to_pred[target_edge]


def measure_surface(
    pred: BoolMask, target: BoolMask, tolerance: float, spacing_mm: Spacing | None = None
) -> SurfaceScores:
    """Return all surface scores of two masks, bool (H, W) each.

    Args:
        pred: Predicted mask.
        target: Target mask.
        tolerance: Of the normalised surface Dice, px or mm.
        spacing_mm: (row, column) pixel size in mm; None measures in px.

    Raises:
        UserError: If the shapes differ, or a spacing is not positive.
    """
    there, back = surface_distances(pred, target, spacing_mm)
    both = np.concatenate([there, back])
    is_one_empty = bool(pred.any()) != bool(target.any())
    return SurfaceScores(
        hd=float(both.max()),
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        asd=float(there.mean()),
        assd=float(both.mean()),
        nsd=0.0 if is_one_empty else float((both <= tolerance).mean()),
    )


def boundary_iou(pred: BoolMask, target: BoolMask, band: float = BAND) -> float:
    """Return the intersection over union of the inner bands along the boundaries of two masks, in [0, 1].

    A band has the pixels of a mask that are at most so many steps (along rows, columns and diagonals) from
    outside it. A mask that is thinner than two bands is its own band, and then this is the IoU. Both empty
    gives 1, exactly one empty 0.

    Args:
        pred: Predicted mask, bool, (H, W).
        target: Target mask, bool, (H, W).
        band: Width of the bands as a share of the diagonal of the image; at least one px.

    Raises:
        UserError: If the shapes differ.

    Source:
        Cheng et al. (2021), Boundary IoU, CVPR 15334-15342, arXiv:2103.16562.
    """
    check_masks(pred, target)
    if not (pred.any() and target.any()):
        return float(pred.any() == target.any())
    width = max(1, round(band * float(np.hypot(*pred.shape))))
    crop = ndimage.find_objects((pred | target).astype(np.int8))[0]
    one, other = (_find_band(mask[crop], width) for mask in (pred, target))
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def _find_band(mask: BoolMask, width: int) -> BoolMask:
    padded = np.pad(mask.view(np.uint8), 1)  # what is outside the image is outside the mask
    steps = cv2.distanceTransform(padded, cv2.DIST_C, cv2.DIST_MASK_3)[1:-1, 1:-1]
    return np.asarray(mask & (steps <= width), np.bool_)


def check_spacing(spacing_mm: Spacing | None) -> Spacing:
    """Return a pixel size, (1, 1) for None, or raise a `UserError` if it is not positive."""
    if spacing_mm is None:
        return (1.0, 1.0)
    if not all(np.isfinite(side) and side > 0 for side in spacing_mm):
        raise UserError(f"spacing_mm must be two positive sizes (row, column) or None, got {spacing_mm}")
    return spacing_mm
