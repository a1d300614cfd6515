"""Turns levels of any depth into 8-bit gray."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import GrayImage
from usrl.errors import UserError

Window = tuple[float, float]
"""The levels of a file that become 0 and 255; levels beyond them are clipped."""
_BLOCK_ROWS = 256


def check_window(window: Sequence[float]) -> Window:
    """Return a window; refuse one that does not rise, or is not finite."""
    if len(window) != 2 or not all(map(math.isfinite, window)) or not window[1] - window[0] > 1e-300:
        raise UserError(
            f"a window is LOW,HIGH, two levels of the file of which the second is larger, got "
            f"{','.join(f'{level:g}' for level in window)}; such as 0,4095"
        )
    return float(window[0]), float(window[1])


def parse_window(text: str) -> Window:
    """Return the window of a text ``LOW,HIGH``."""
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"a window is LOW,HIGH in levels of the file, got {text!r}; such as 0,4095") from None
    return check_window(levels)


def apply_window(levels: NDArray[Any], window: Window) -> GrayImage:
    """Return levels, (H, W), as 8-bit gray: linear from 0 at the window's low end to 255 at its high end."""
    low, high = window
    scale = 255.0 / (high - low)
    gray = np.empty(levels.shape, np.uint8)
    for row in range(0, len(levels), _BLOCK_ROWS):  # in double precision, but never the whole image
        part = levels[row : row + _BLOCK_ROWS].astype(np.float64)
        gray[row : row + _BLOCK_ROWS] = np.rint(np.clip((part - low) * scale, 0, 255))
    return gray


def scale_by_largest(levels: NDArray[Any]) -> GrayImage:
    """Return levels, (H, W), that are not negative, as 8-bit gray: 0 stays 0, the largest becomes 255."""
    top = float(levels.max())
    return apply_window(levels, (0.0, top)) if top > 0 else np.zeros(levels.shape, np.uint8)


def luminance(channels: NDArray[Any]) -> NDArray[Any]:
    """Return the luminance (ITU-R 601) of red, green and blue, (H, W, 3), in their own type."""
    mixed = np.empty(channels.shape[:2], channels.dtype)
    for row in range(0, len(channels), _BLOCK_ROWS):
        mixed[row : row + _BLOCK_ROWS] = np.rint(channels[row : row + _BLOCK_ROWS] @ (0.299, 0.587, 0.114))
    return mixed
