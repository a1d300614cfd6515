"""Outlines as paths of SVG: a report keeps each image once, and what every method finds as a line over it."""

import base64
import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from usrl.data.sample import BoolMask, Box, GrayImage
from usrl.segmenter import Answer

_TOLERANCE_PX = 0.6
_IMAGE_BYTES = 30_000
"""Largest size of a stored image: 150 of them are 6 MB of base64."""
_QUALITIES = (80, 60, 40, 25)


def trace_mask(mask: BoolMask) -> str:
    """Return the outlines of a mask, bool (H, W), as the ``d`` of a path; empty for an empty mask.

    A pixel (row, column) covers the square from (column, row) to (column + 1, row + 1). Lines cut corners by
    up to 0.6 px. Holes have outlines too: filled by the even-odd rule, the path is the mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return ""
    top, left = int(rows[0]), int(columns[0])
    part = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.float32)
    paths = []
    for curve in find_contours(part, 0.5):  # (P, 2), (row, column), between pixels
        points = (curve[:-1, ::-1] - 0.5 + (left, top)).astype(np.float32)
        kept = cv2.approxPolyDP(points[:, None], _TOLERANCE_PX, closed=True)[:, 0]
        paths.append(_write_path(kept if len(kept) > 2 else points))
    return "".join(paths)


def trace_boxes(boxes: Sequence[Box]) -> str:
    """Return boxes, whose pixels have their centre at whole numbers, as the ``d`` of a path."""
    corners = ([[x0, y0], [x1, y0], [x1, y1], [x0, y1]] for x0, y0, x1, y1 in boxes)
    return "".join(_write_path(np.array(each) + 0.5) for each in corners)


def trace_answer(answer: Answer) -> dict[str, str]:
    """Return the path of an answer's mask, ``pred``, and of its ``proposal`` if it has one."""
    masks = {"pred": answer.mask} | ({} if answer.proposal is None else {"proposal": answer.proposal})
    return {kind: trace_mask(mask) for kind, mask in masks.items()}


def frame_paths(paths: Sequence[str], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part (left, top, width, height) of an image that holds paths, with surroundings.

    The size is (W, H) in px, and the part is within it; without paths it is the whole image.
    """
    ends = [_bounds(path) for path in paths if path]
    if not ends:
        return (0, 0, *size)
    low, high = np.min(ends, axis=0)[:2], np.max(ends, axis=0)[2:]
    half = np.maximum(0.8 * (high - low).max(), 0.12 * max(size))
    x0, y0 = np.maximum(np.floor((low + high) / 2 - half), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil((low + high) / 2 + half), size).astype(int).tolist()
    return (x0, y0, x1 - x0, y1 - y0)


def encode_image(image: GrayImage) -> str:
    """Return an image, uint8 (H, W), as a WebP data URI of at most 40,000 letters.

    It keeps its size in px where a low quality is enough for that, and else is halved.
    """
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "WEBP", quality=quality)
            if buffer.tell() <= _IMAGE_BYTES:
                return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        half = (max(image.shape[1] // 2, 1), max(image.shape[0] // 2, 1))
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)


Traced = Mapping[tuple[str, str], Mapping[str, str]]
"""What `trace_answer` returns, by method and case."""


def _write_path(points: NDArray[np.floating]) -> str:
    """Return a closed line through points (P, 2), (x, y), with steps instead of places: they are shorter."""
    places = np.round(points * 10).astype(int)  # tenths of a pixel
    steps = np.diff(places, axis=0) / 10
    first = "M{:g} {:g}".format(*(places[0] / 10))
    return first + "l" + " ".join("{:g} {:g}".format(*step) for step in steps) + "z"


def _bounds(path: str) -> tuple[float, float, float, float]:
    """Return (x0, y0, x1, y1) of a path of `_write_path`."""
    corners = []
    for part in path.removesuffix("z").split("z"):
        start, steps = part.removeprefix("M").split("l")
        first = np.array(start.split(), np.float64)
        moves = np.array(steps.split(), np.float64).reshape(-1, 2)
        places = np.vstack([first, first + np.cumsum(moves, axis=0)])
        corners += [places.min(axis=0), places.max(axis=0)]
    (x0, y0), (x1, y1) = np.min(corners, axis=0).tolist(), np.max(corners, axis=0).tolist()
    return (x0, y0, x1, y1)
