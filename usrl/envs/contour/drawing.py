"""Pictures of contour refinement."""

from usrl.data.sample import BoolMask, FloatArray, GrayImage
from usrl.envs import rendering


def draw_contour_step(
    image: GrayImage, target: BoolMask | None, proposal: FloatArray, vertices: FloatArray, caption: str
) -> rendering.Frame:
    """Return an RGB picture of image and target, (S, S) each, with contours (B, N, 2) and a caption.

    ``proposal`` are the contours at the start and ``vertices`` those of now, in pixels of the image.
    """
    frame, scale = rendering.begin_frame(image), rendering.SIDE_PX / image.shape[0]
    if target is not None:
        rendering.draw_outlines(frame, target, rendering.TARGET_COLOR, 2)
    rendering.draw_polygons(frame, proposal, scale, rendering.PROPOSAL_COLOR, 1)
    rendering.draw_polygons(frame, vertices, scale, rendering.CONTOUR_COLOR, 2)
    return rendering.add_bars(frame, caption, ("target", "proposal", "contour"))
