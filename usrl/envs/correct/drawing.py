"""Pictures of contour correction."""

import cv2

from usrl.data.sample import FloatArray
from usrl.envs.rendering import BAR_PX, Frame

POINT_COLOR = (240, 228, 66)
"""Yellow of Okabe and Ito (2008), as RGB."""


def draw_points(frame: Frame, points: FloatArray, scale: float) -> Frame:
    """Return a frame with a user's points, (R, 2), in pixels of an image that is ``scale`` times smaller.

    The last one is a ring.
    """
    for number, (x, y) in enumerate(points):
        place = round((x + 0.5) * scale - 0.5), round((y + 0.5) * scale - 0.5) + BAR_PX
        is_last = number == len(points) - 1
        cv2.circle(frame, place, 7 if is_last else 4, POINT_COLOR, 2 if is_last else -1, cv2.LINE_AA)
    return frame
