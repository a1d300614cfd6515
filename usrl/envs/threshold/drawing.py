"""Pictures of threshold selection."""

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.envs.rendering import (
    CONTOUR_COLOR,
    PROPOSAL_COLOR,
    SIDE_PX,
    TARGET_COLOR,
    add_bars,
    begin_frame,
    draw_outlines,
    write,
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
    """Return an RGB picture of image, target, first and current mask, (S, S) each, with a caption.

    The gray level of each tile's threshold, (G, G), is written into the tile.
    """
    frame, tile = begin_frame(image), SIDE_PX / len(levels)
    for row, column in np.ndindex(levels.shape):
        corner = (round(column * tile), round(row * tile))
        far = (round((column + 1) * tile) - 1, round((row + 1) * tile) - 1)
        cv2.rectangle(frame, corner, far, _GRID_COLOR, 1)
        write(frame, str(levels[row, column]), (corner[0] + 6, corner[1] + 18))
    if target is not None:
        draw_outlines(frame, target, TARGET_COLOR, 2)
    draw_outlines(frame, start, PROPOSAL_COLOR, 1)
    draw_outlines(frame, mask, CONTOUR_COLOR, 2)
    return add_bars(frame, caption, ("target", "start", "mask"))
