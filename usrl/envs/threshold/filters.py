"""Filters that reduce speckle before thresholding."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import GrayImage

FilterName = Literal["none", "median", "srad"]
SRAD_ITERATIONS = 40
SRAD_STEP = 0.2
"""Time step of the explicit scheme. Each neighbour has a quarter of it as its weight."""
SRAD_DECAY = 1 / 6
"""Decay rate of the speckle scale per unit of time, as Yu and Acton suggest."""


def filter_speckle(image: GrayImage, name: FilterName, diameter_px: int) -> GrayImage:
    """Return an image, uint8 (H, W), with less speckle.

    ``median`` takes the median of a square with an odd side ``diameter_px``. ``srad`` is speckle-reducing
    anisotropic diffusion (`diffuse_speckle`).
    """
    if name == "none":
        return image
    if name == "median":
        return np.asarray(cv2.medianBlur(image, diameter_px), np.uint8)
    return np.clip(np.rint(diffuse_speckle(image)), 0, 255).astype(np.uint8)


def diffuse_speckle(image: GrayImage) -> NDArray[np.float64]:
    """Return an image (H, W), smoothed where its local variation is that of speckle, and kept at edges.

    The speckle scale starts at the image's own coefficient of variation and decays. The result is in gray
    levels, float64.

    Source:
        Yu and Acton (2002), IEEE Trans Image Process 11(11):1260-1270, doi:10.1109/TIP.2002.804276.
    """
    level = image.astype(np.float64) + 1  # the model is multiplicative, so zeros are not allowed
    scale = max(float(level.std() / level.mean()), 1e-3)
    for iteration in range(SRAD_ITERATIONS):
        speckle = (scale * np.exp(-SRAD_DECAY * SRAD_STEP * iteration)) ** 2
        padded = np.pad(level, 1, mode="edge")
        north, south = padded[:-2, 1:-1] - level, padded[2:, 1:-1] - level
        west, east = padded[1:-1, :-2] - level, padded[1:-1, 2:] - level
        slope = (north**2 + south**2 + west**2 + east**2) / level**2
        curvature = (north + south + west + east) / level
        variation = (0.5 * slope - curvature**2 / 16) / (1 + 0.25 * curvature) ** 2
        flow = 1 / (1 + (variation - speckle) / (speckle * (1 + speckle)))
        flow = np.clip(flow, 0, 1)
        below = np.pad(flow, ((0, 1), (0, 0)), mode="edge")[1:]
        right = np.pad(flow, ((0, 0), (0, 1)), mode="edge")[:, 1:]
        level = level + SRAD_STEP / 4 * (below * south + flow * north + right * east + flow * west)
    return level - 1
