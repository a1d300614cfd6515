"""What is done to a mask after thresholding and opening."""

from typing import Literal

import cv2
import numpy as np

from usrl.data.sample import BoolMask

CleanName = Literal["none", "largest", "holes", "largest+holes"]


def clean_mask(mask: BoolMask, name: CleanName) -> BoolMask:
    """Return a mask's largest component, or the mask with its holes filled, or both in this order.

    Args:
        mask: bool, shape (H, W).
        name: What to do; of components of equal size the first in raster order is kept.

    Returns:
        bool, shape (H, W).
    """
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
