"""Connected components of masks. Each lesion is one."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask


def label_components(mask: BoolMask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label the 8-connected components of a mask: labels, (H, W), 0 on the background, and areas, px.

    The areas, (count + 1,), begin with the background's.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(labels, np.int32), np.bincount(labels.ravel(), minlength=count)


def split_components(mask: BoolMask) -> list[BoolMask]:
    """Return each 8-connected component as a mask, bool, (H, W), in raster order of first pixels."""
    labels, areas = label_components(mask)
    return [labels == index for index in range(1, len(areas))]


def remove_specks(mask: BoolMask, min_area: int) -> tuple[BoolMask, int]:
    """Return a mask, bool, (H, W), without components below an area in px, and their number."""
    labels, areas = label_components(mask)
    keep = areas >= min_area
    removed = int((~keep[1:]).sum())
    keep[0] = False
    return (keep[labels] if removed else mask), removed


def best_overlap(mask: BoolMask, target: BoolMask) -> BoolMask | None:
    """Return the component of a mask that shares most pixels with a target, bool, (H, W), if one does."""
    labels, areas = label_components(mask)
    shared = np.bincount(labels[target], minlength=len(areas))
    shared[0] = 0
    best = int(shared.argmax())
    return labels == best if shared[best] else None


CleanName = Literal["none", "largest", "holes", "largest+holes"]


def clean_mask(mask: BoolMask, name: CleanName) -> BoolMask:
    """Return a mask's largest component (of equals, the first), or without holes, or both in this order."""
    pixels = mask.view(np.uint8)
    if "largest" in name:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
        if count > 2:
            pixels = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).view(np.uint8)
    return fill_holes(pixels.view(np.bool_)) if "holes" in name else pixels.view(np.bool_)


def fill_holes(mask: BoolMask) -> BoolMask:
    """Return a mask with every background pixel that is not 4-connected to the border, bool, (H, W)."""
    padded = np.pad(mask.view(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2, flags=4)
    return np.asarray(padded[1:-1, 1:-1] != 2, np.bool_)
