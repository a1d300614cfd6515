"""Pictures of threshold selection."""

import cv2
import numpy as np

from usrl.data.sample import BoolMask, GrayImage
from usrl.envs import rendering

_GRID_COLOR = (110, 110, 110)


def draw_mask_step(
    image: GrayImage,
    target: BoolMask | None,
    start: BoolMask,
    mask: BoolMask,
    levels: GrayImage | None,
    caption: str,
) -> rendering.Frame:
    """Return an RGB picture of image, target, first and current mask, (S, S) each, with a caption.

    The gray level of each tile's threshold, (G, G), is written into the tile. Without levels there are no
    tiles.
    """
    frame = rendering.begin_frame(image)
    if levels is not None:
        _draw_tiles(frame, levels)
    if target is not None:
        rendering.draw_outlines(frame, target, rendering.TARGET_COLOR, 2)
    rendering.draw_outlines(frame, start, rendering.PROPOSAL_COLOR, 1)
    rendering.draw_outlines(frame, mask, rendering.CONTOUR_COLOR, 2)
    return rendering.add_bars(frame, caption, ("target", "start", "mask"))


def _draw_tiles(frame: rendering.Frame, levels: GrayImage) -> None:
    tile = rendering.SIDE_PX / len(levels)
    for row, column in np.ndindex(levels.shape):
        corner = (round(column * tile), round(row * tile))
        far = (round((column + 1) * tile) - 1, round((row + 1) * tile) - 1)
        cv2.rectangle(frame, corner, far, _GRID_COLOR, 1)
        rendering.write(frame, str(levels[row, column]), (corner[0] + 6, corner[1] + 18))
