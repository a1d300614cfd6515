"""Masks and boxes drawn as outlines on an image."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from usrl.data.sample import BoolMask, GrayImage, Prompt
from usrl.envs.rendering import CONTOUR_COLOR, PROPOSAL_COLOR, TARGET_COLOR
from usrl.errors import UserError

Picture = NDArray[np.uint8]
"""RGB picture, uint8, (H, W, 3)."""


class Outline(NamedTuple):
    """How a mask is drawn, in colours of Okabe and Ito that colour-blind readers can tell apart."""

    color: tuple[int, int, int]  # RGB
    is_dashed: bool = False  # the line style tells outlines apart as well


STYLES: dict[str, Outline] = {
    "target": Outline(TARGET_COLOR),
    "pred": Outline(CONTOUR_COLOR),
    "proposal": Outline(PROPOSAL_COLOR, is_dashed=True),
    "box": Outline((255, 255, 255), is_dashed=True),
}
"""How each kind of outline looks in pictures and legends; the colours are those of episodes."""
_SHIFT = 4  # cv2 takes sub-pixel points as integers with this many fractional bits
_DASH_PX = 7.0


def overlay(
    image: GrayImage, masks: Mapping[str, BoolMask], prompt: Prompt | None = None, scale: int = 1
) -> Picture:
    """Return an image, (H, W), with outlines of masks and boxes, as a picture of (scale H, scale W, 3).

    The masks, by a name of `STYLES`, are drawn in order. Boxes are in native px.
    """
    size = (image.shape[1] * scale, image.shape[0] * scale)
    gray = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    picture = np.repeat(gray[..., None], 3, axis=2)  # (H, W, 3)
    width = max(1, round(max(size) / 250))
    for x0, y0, x1, y1 in prompt or ():
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]])
        _draw(picture, [_enlarge(corners, scale)], STYLES["box"], width)
    for name, mask in masks.items():
        if mask.shape != image.shape:
            raise UserError(f"{name} mask and image must be of one shape, got {mask.shape} and {image.shape}")
        # The level curve of the padded mask runs between pixels and closes at the image's border.
        curves = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
        _draw(picture, [_enlarge(curve[:, ::-1] - 1, scale) for curve in curves], STYLES[name], width)
    return picture


def fit_scale(image: GrayImage, side: int) -> int:
    """Return the whole scale, at least 1, that brings an image's longer side closest to ``side`` px."""
    return int(max(1, round(side / max(image.shape))))


def _enlarge(points: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """Map (x, y) of the image to the picture; both count from pixel centres."""
    return (points + 0.5) * scale - 0.5


def _draw(picture: Picture, curves: Iterable[NDArray[np.float64]], style: Outline, width: int) -> None:
    last = np.array(picture.shape[1::-1]) - 1  # the outer side of a border pixel is outside the picture
    lines = [
        np.round(np.clip(part, 0, last) * 2**_SHIFT).astype(np.int32)
        for curve in curves
        for part in (_cut_dashes(curve, _DASH_PX * width) if style.is_dashed else [curve])
    ]
    if width > 1:  # a dark rim keeps the colour visible on bright tissue, and would drown a thin line
        cv2.polylines(picture, lines, False, (0, 0, 0), width + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(picture, lines, False, style.color, width, cv2.LINE_AA, _SHIFT)


def _cut_dashes(curve: NDArray[np.float64], dash: float) -> list[NDArray[np.float64]]:
    """Return every other stretch of a curve, each about ``dash`` px long."""
    steps = np.hypot(*np.diff(curve, axis=0).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])  # (points,)
    count = max(1, round(length[-1] / (2 * dash)))
    ends = np.linspace(0, length[-1], 2 * count + 1)
    parts = [np.linspace(ends[2 * i], ends[2 * i + 1], 8) for i in range(count)]
    return [np.stack([np.interp(at, length, curve[:, axis]) for axis in (0, 1)], axis=1) for at in parts]
