"""Pictures of contour refinement."""

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
    draw_polygons,
)


def draw_contour_step(
    image: NDArray[np.uint8],
    target: NDArray[np.bool_] | None,
    proposal: NDArray[np.float32],
    vertices: NDArray[np.float32],
    caption: str,
) -> NDArray[np.uint8]:
    """Return an RGB picture of image and target, (S, S) each, with contours (B, N, 2) and a caption.

    ``proposal`` are the contours at the start and ``vertices`` those of now, in pixels of the image.
    """
    frame, scale = begin_frame(image), SIDE_PX / image.shape[0]
    if target is not None:
        draw_outlines(frame, target, TARGET_COLOR, 2)
    draw_polygons(frame, proposal, scale, PROPOSAL_COLOR, 1)
    draw_polygons(frame, vertices, scale, CONTOUR_COLOR, 2)
    return add_bars(frame, caption, ("target", "proposal", "contour"))
