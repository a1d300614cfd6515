"""Pictures of contour refinement."""

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.envs.rendering import (
    CONTOUR_COLOR,
    PROPOSAL_COLOR,
    SIDE_PX,
    TARGET_COLOR,
    TEXT_COLOR,
    draw_bar,
    draw_outlines,
    draw_polygons,
)

_LEGEND = (("target", TARGET_COLOR), ("proposal", PROPOSAL_COLOR), ("contour", CONTOUR_COLOR))


def draw_contour_step(
    image: NDArray[np.uint8],
    target: NDArray[np.bool_] | None,
    proposal: NDArray[np.float32],
    vertices: NDArray[np.float32],
    caption: str,
) -> NDArray[np.uint8]:
    """Draw image, target, proposal and contour with a caption.

    Args:
        image: uint8, (S, S).
        target: bool, (S, S); None where it is unknown.
        proposal: Contours at the start, (B, N, 2), pixels of the image.
        vertices: Contours now, (B, N, 2), pixels of the image.
        caption: One line of text.

    Returns:
        RGB, uint8, (SIDE_PX + two bars, SIDE_PX, 3).
    """
    scale = SIDE_PX / image.shape[0]
    frame = cv2.cvtColor(
        cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB
    )
    if target is not None:
        draw_outlines(frame, target, TARGET_COLOR, 2)
    draw_polygons(frame, proposal, scale, PROPOSAL_COLOR, 1)
    draw_polygons(frame, vertices, scale, CONTOUR_COLOR, 2)
    return np.concatenate([draw_bar([(caption, TEXT_COLOR)]), frame, draw_bar(list(_LEGEND))])
