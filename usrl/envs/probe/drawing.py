"""Pictures of probe navigation."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from usrl.data.bodies.poses import rotations
from usrl.data.bodies.tissues import LESION, TISSUES
from usrl.data.bodies.volumes import HALF_MM, LABEL, Voxels
from usrl.envs.rendering import CONTOUR_COLOR, PROPOSAL_COLOR, TARGET_COLOR, Color, Frame, write

PANEL_PX = 340
_BONE = TISSUES["bone"].label
Numbers = NDArray[np.float32]


def draw_navigation(
    voxels: Voxels,
    path: Numbers,
    pose: Numbers,
    standard: Numbers,
    gray: NDArray[np.uint8],
    standard_gray: NDArray[np.uint8],
    standard_mask: NDArray[np.bool_],
    view_mm: float,
    breath_mm: float,
    caption: str,
) -> Frame:
    """Return body, slice and standard plane next to each other, RGB, uint8, (PANEL_PX + 56, 3 PANEL_PX, 3).

    Args:
        voxels: The body, (Y, X, Z, 4).
        path: Where the probe was, (T, 2), mm.
        pose: Pose of the probe, (5,).
        standard: Pose of the standard plane, (5,).
        gray: Current slice, (S, S).
        standard_gray: Slice of the standard plane, (S, S).
        standard_mask: The target in it, (S, S).
        view_mm: Depth of a slice.
        breath_mm: How far breath has moved the body along y.
        caption: Text above.
    """
    panels = [
        _draw_body(voxels, path, pose, standard, view_mm, breath_mm),
        _enlarge(gray),
        _draw_standard(standard_gray, standard_mask),
    ]
    above, below = np.full((2, 28, 3 * PANEL_PX, 3), 24, np.uint8)
    write(above, caption, (10, 19))
    names = (("body from above", CONTOUR_COLOR), ("slice", CONTOUR_COLOR), ("standard plane", TARGET_COLOR))
    for column, (name, color) in enumerate(names):
        write(below, name, (10 + column * PANEL_PX, 19), color)
    return np.concatenate([above, np.concatenate(panels, axis=1), below])


def _enlarge(gray: NDArray[np.uint8]) -> Frame:
    large = cv2.resize(gray, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)


def _draw_standard(gray: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Frame:
    frame = _enlarge(gray)
    large = cv2.resize(mask.astype(np.uint8), (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_LINEAR)
    outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(frame, outlines, -1, TARGET_COLOR, 1, cv2.LINE_AA)
    return frame


def _draw_body(
    voxels: Voxels, path: Numbers, pose: Numbers, standard: Numbers, view_mm: float, breath_mm: float
) -> Frame:
    """Return the body from above: its bones and its lesion through the skin, the probes and the path."""
    labels = voxels[..., LABEL]
    shade = np.full((*labels.shape[:2], 3), (205, 160, 130), np.uint8)
    shade[(labels == _BONE).any(axis=2)] = (225, 195, 170)
    shade[(labels == LESION).any(axis=2)] = (150, 110, 100)
    large = cv2.resize(shade, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_LINEAR)
    down = np.array([[1, 0, 0], [0, 1, breath_mm / (2 * HALF_MM) * PANEL_PX]], np.float32)
    frame = np.ascontiguousarray(
        cv2.warpAffine(large, down, large.shape[:2], borderMode=cv2.BORDER_REPLICATE)
    )
    line = [_pixel(x, y) for x, y in path]
    cv2.polylines(frame, [np.array(line, np.int32)], False, PROPOSAL_COLOR, 2, cv2.LINE_AA)
    _draw_probe(frame, standard, view_mm, TARGET_COLOR)
    _draw_probe(frame, pose, view_mm, CONTOUR_COLOR)
    return frame


def _draw_probe(frame: Frame, pose: Numbers, view_mm: float, color: Color) -> None:
    """Draw the face of a probe, and where its beam points to at the bottom of the slice."""
    axes = rotations(torch.from_numpy(pose[None].astype(np.float32)))[0].numpy()
    ends = [pose[:2] + side * view_mm / 2 * axes[:2, 0] for side in (-1, 1)]
    deep = [end + view_mm * axes[:2, 2] for end in ends]
    cv2.line(frame, _pixel(*ends[0]), _pixel(*ends[1]), color, 3, cv2.LINE_AA)
    outline = np.array([_pixel(*point) for point in (*ends, *deep[::-1])], np.int32)
    cv2.polylines(frame, [outline], True, color, 1, cv2.LINE_AA)


def _pixel(x: float, y: float) -> tuple[int, int]:
    """Return the pixel of a point on the skin, mm."""
    return round((x / HALF_MM + 1) / 2 * PANEL_PX), round((y / HALF_MM + 1) / 2 * PANEL_PX)
