"""Pictures of an episode."""

import warnings

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import FloatArray

BAR_PX = 28
"""Height of the bars above and below a frame."""
SIDE_PX = 512
"""Side of a rendered frame."""
# Okabe and Ito (2008): colours that colour-blind readers tell apart, as RGB.
TARGET_COLOR = (0, 158, 115)
PROPOSAL_COLOR = (230, 159, 0)
CONTOUR_COLOR = (86, 180, 233)
_SHIFT_BITS = 4
Frame = NDArray[np.uint8]
Color = tuple[int, int, int]


def begin_frame(image: NDArray[np.uint8]) -> Frame:
    """Return an image (S, S) as an RGB frame (SIDE_PX, SIDE_PX, 3)."""
    large = cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)


def add_bars(frame: Frame, caption: str, names: tuple[str, str, str]) -> Frame:
    """Return a frame with a caption above, and below it the names of target, start and current outline."""
    above, below = np.full((2, BAR_PX, SIDE_PX, 3), 24, np.uint8)
    write(above, caption, (10, 19))
    for column, color in enumerate((TARGET_COLOR, PROPOSAL_COLOR, CONTOUR_COLOR)):
        write(below, names[column], (10 + column * SIDE_PX // 3, 19), color)
    return np.concatenate([above, frame, below])


def write(frame: Frame, text: str, place: tuple[int, int], color: Color = (255, 255, 255)) -> None:
    """Write a text into a frame, from the left end (x, y) of its base line."""
    cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)


def draw_outlines(frame: Frame, mask: NDArray[np.bool_], color: Color, thickness: int) -> None:
    """Draw the outlines of a mask, bool (S, S), into a frame."""
    large = cv2.resize(mask.astype(np.uint8), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR_EXACT)
    outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(frame, outlines, -1, color, thickness, cv2.LINE_AA)


def draw_polygons(frame: Frame, vertices: FloatArray, scale: float, color: Color, thickness: int) -> None:
    """Draw polygons (B, N, 2), in pixels of an image that is ``scale`` times smaller, into a frame."""
    points = (((vertices + 0.5) * scale - 0.5) * 2**_SHIFT_BITS).round().astype(np.int32)
    cv2.polylines(frame, list(points), True, color, thickness, cv2.LINE_AA, _SHIFT_BITS)


class Window:
    """A window for `render_mode="human"`, on any screen that matplotlib finds."""

    def __init__(self, title: str, frames_per_second: int) -> None:
        """Open a window that shows each frame for its part of a second."""
        # This import is slow, and only a window needs it.
        import matplotlib.pyplot as plt

        if plt.get_backend().lower() == "agg":  # what matplotlib uses without a display
            warnings.warn(
                'no display for render_mode="human", so you will see nothing; '
                'render_mode="rgb_array" returns pictures',
                stacklevel=2,
            )
        self._plt = plt
        self._pause_s = 1 / frames_per_second
        self._figure, axes = plt.subplots(figsize=(6, 6.7), num=title, clear=True)
        axes.set_axis_off()
        self._figure.subplots_adjust(0, 0, 1, 1)
        self._axes = axes

    def show(self, frame: NDArray[np.uint8]) -> None:
        """Show a frame, uint8 (h, w, 3)."""
        if self._axes.images:
            self._axes.images[0].set_data(frame)
        else:
            self._axes.imshow(frame)
        self._plt.pause(self._pause_s)

    def close(self) -> None:
        """Close the window."""
        self._plt.close(self._figure)
