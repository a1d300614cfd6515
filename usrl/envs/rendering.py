"""Pictures of an episode."""

import warnings

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 512
"""Side of a rendered frame."""
# Okabe and Ito (2008): colours that colour-blind readers tell apart, as RGB.
TARGET_COLOR = (0, 158, 115)
PROPOSAL_COLOR = (230, 159, 0)
CONTOUR_COLOR = (86, 180, 233)
TEXT_COLOR = (255, 255, 255)
_BAR_PX = 28
_SHIFT_BITS = 4


def draw_outlines(
    frame: NDArray[np.uint8], mask: NDArray[np.bool_], color: tuple[int, int, int], thickness: int
) -> None:
    """Draw the outlines of a mask, bool, (S, S), into a frame of `SIDE_PX`."""
    large = cv2.resize(mask.astype(np.uint8), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR_EXACT)
    outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(frame, outlines, -1, color, thickness, cv2.LINE_AA)


def draw_polygons(
    frame: NDArray[np.uint8],
    vertices: NDArray[np.float32],
    scale: float,
    color: tuple[int, int, int],
    thickness: int,
) -> None:
    """Draw polygons (B, N, 2), in pixels of an image that is ``scale`` times smaller, into a frame."""
    points = ((vertices + 0.5) * scale - 0.5) * 2**_SHIFT_BITS
    cv2.polylines(
        frame, list(points.round().astype(np.int32)), True, color, thickness, cv2.LINE_AA, _SHIFT_BITS
    )


def draw_bar(texts: list[tuple[str, tuple[int, int, int]]]) -> NDArray[np.uint8]:
    """Return a dark strip with coloured texts in columns, (_BAR_PX, SIDE_PX, 3)."""
    bar = np.full((_BAR_PX, SIDE_PX, 3), 24, np.uint8)
    for column, (text, color) in enumerate(texts):
        place = (10 + column * SIDE_PX // 3, 19)
        cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
    return bar


class Window:
    """A window for `render_mode="human"`, through whatever screen matplotlib finds."""

    def __init__(self, title: str, frames_per_second: int) -> None:
        """Open the window; frames are held long enough to be seen."""
        # Slow to import, and only a window needs it.
        import matplotlib.pyplot as plt

        if plt.get_backend().lower() == "agg":  # what matplotlib falls back on where there is no display
            warnings.warn(
                'no display for render_mode="human", and nothing to be seen; '
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
