"""Pictures of threshold selection."""

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
)

_GRID_COLOR = (110, 110, 110)


def draw_mask_step(
    image: NDArray[np.uint8],
    target: NDArray[np.bool_] | None,
    start: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    levels: NDArray[np.uint8],
    caption: str,
) -> NDArray[np.uint8]:
    """Draw image, target, first and current mask, and the threshold of each tile as a number.

    Args:
        image: uint8, (S, S).
        target: bool, (S, S); None where it is unknown.
        start: Mask at the start, bool, (S, S).
        mask: Mask now, bool, (S, S).
        levels: Threshold of each tile, gray level, (G, G).
        caption: One line of text.

    Returns:
        RGB, uint8, (SIDE_PX + two bars, SIDE_PX, 3).
    """
    frame = cv2.cvtColor(
        cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB
    )
    tile = SIDE_PX / len(levels)
    for row, column in np.ndindex(levels.shape):
        corner = (round(column * tile), round(row * tile))
        far = (round((column + 1) * tile) - 1, round((row + 1) * tile) - 1)
        cv2.rectangle(frame, corner, far, _GRID_COLOR, 1)
        place = (corner[0] + 6, corner[1] + 18)
        cv2.putText(
            frame, str(levels[row, column]), place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, TEXT_COLOR, 1, cv2.LINE_AA
        )
    if target is not None:
        draw_outlines(frame, target, TARGET_COLOR, 2)
    draw_outlines(frame, start, PROPOSAL_COLOR, 1)
    draw_outlines(frame, mask, CONTOUR_COLOR, 2)
    legend = [("target", TARGET_COLOR), ("start", PROPOSAL_COLOR), ("mask", CONTOUR_COLOR)]
    return np.concatenate([draw_bar([(caption, TEXT_COLOR)]), frame, draw_bar(legend)])
