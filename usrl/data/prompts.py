"""Boxes as prompts: drawn from a reference, checked, and read from text.

Pixel centres lie at integer coordinates. A component that covers the columns a to b fills the interval
from a - 0.5 to b + 0.5, and that is its box: the ellipse inscribed in it touches the outer sides of the
component's outermost pixels. The image is the interval from -0.5 to W - 0.5 by -0.5 to H - 0.5.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usrl.data.components import split_components
from usrl.data.reading.tables import read_rows
from usrl.data.sample import DEFAULT_JITTER, MAX_JITTER, BoolMask, Box, Prompt, Sample
from usrl.errors import UserError, brief

BOX_COLUMNS = ("image", "x0", "y0", "x1", "y1")
"""Columns of a file of boxes."""
MIN_COMPONENT_PX = 16
"""No reader would draw a box around a smaller component of a target: it is a stray mark."""
MIN_SIDE_PX = 4.0
"""No box gets narrower than this."""
START_JITTER = 0.1
"""Largest move of a side between a box and those of further starts, as a share of the box."""


def jittered_boxes(sample: Sample, jitter: float = DEFAULT_JITTER, seed: int = 0) -> Prompt:
    """Return the boxes that a hurried reader might draw around each lesion of a sample.

    Every 8-connected component of the native target with at least 16 px gets its bounding box, in raster
    order. If all are smaller, the largest gets one. Each side moves on its own by a uniform share of the
    box's width (x) or height (y), by ``jitter`` at most. Then the box is clipped to the image and kept at
    least 4 px wide and high. The draw depends on ``seed`` and ``sample.name`` only, so that every prompted
    method gets the same boxes on every machine.
    """
    if not 0 <= jitter <= MAX_JITTER:
        raise UserError(f"jitter must be from 0 to {MAX_JITTER}, got {jitter}; 0.2 is a fifth of a box")
    components = split_components(sample.target)
    if not components:
        raise UserError(f"{sample.name}: a box needs a lesion, and the target is empty; leave the image out")
    least = min(MIN_COMPONENT_PX, max(int(component.sum()) for component in components))
    boxes = [bounding_box(component) for component in components if component.sum() >= least]
    rng = _draw_from(f"{seed}/{sample.name}")
    return tuple(_move_sides(box, rng.uniform(-jitter, jitter, 4), sample.target.shape) for box in boxes)


def start_boxes(prompt: Prompt, starts: int, shape: tuple[int, ...]) -> tuple[Prompt, ...]:
    """Return the boxes, in native px, for each of a method's starts on an image (H, W).

    The first start has the boxes unchanged. In each further one their sides move as in `jittered_boxes`, by
    up to `START_JITTER`. The draw depends on the box and the number of the start only, so that every method
    gets the same boxes.
    """

    def move(box: Box, number: int) -> Box:
        text = ",".join(f"{float(side)!r}" for side in box)  # the same for 3, 3.0 and NumPy's 3.0
        shares = _draw_from(f"{number}/{text}").uniform(-START_JITTER, START_JITTER, 4)
        return _move_sides(box, shares, shape)

    others = (tuple(move(box, number) for box in prompt) for number in range(1, starts))
    return prompt, *others


def bounding_box(mask: BoolMask) -> Box:
    """Return the box of a mask's outermost pixels, including their whole area; an empty mask is refused."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise UserError("an empty mask has no bounding box; check mask.any() first")
    return float(columns[0]) - 0.5, float(rows[0]) - 0.5, float(columns[-1]) + 0.5, float(rows[-1]) + 0.5


def check_prompt(prompt: Prompt | None, shape: tuple[int, ...]) -> Prompt:
    """Return a prompt for an image (H, W). Refuse an empty one, and boxes without area or outside the image.

    Boxes may reach from -0.5 to W and H: ends counted in pixel centres (up to W - 0.5) and in pixel
    edges (up to W) are both accepted.
    """
    if not prompt:
        raise UserError(
            "a prompted method needs a box around each lesion, got none; give --box x0,y0,x1,y1, or "
            "rows of its own in --boxes"
        )
    height, width = shape[:2]
    for box in prompt:
        x0, y0, x1, y1 = box
        text = f"box {','.join(f'{side:g}' for side in box)}"
        if not all(map(math.isfinite, box)):
            raise UserError(f"{text} is not finite; give four numbers x0,y0,x1,y1 in pixels")
        if x1 <= x0 or y1 <= y0:
            raise UserError(f"{text} has no area; x1 must exceed x0 and y1 must exceed y0")
        if x0 < -0.5 or y0 < -0.5 or x1 > width or y1 > height:
            raise UserError(f"{text} leaves the image, which is {width} x {height}; give pixels of it")
    return prompt


def parse_box(text: str) -> Box:
    """Return the box of a text ``x0,y0,x1,y1`` in pixels; `check_prompt` compares it with an image."""
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"a box is x0,y0,x1,y1 in pixels, got {brief(text)}; such as 40,60,180,170") from None
    if all(0 <= side <= 1 for side in (x0, y0, x1, y1)):
        raise UserError(
            f"a box is x0,y0,x1,y1 in pixels, got {brief(text)}, which are shares of an image; multiply x by "
            "its width and y by its height"
        )
    return x0, y0, x1, y1


def read_boxes(path: Path) -> dict[str, Prompt]:
    """Return boxes by name of an image's file, from a CSV file with the columns ``image,x0,y0,x1,y1``."""
    boxes: dict[str, Prompt] = {}
    for line, (image, *sides) in read_rows(path, BOX_COLUMNS):
        try:
            box = parse_box(",".join(sides))
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
        if not image:
            raise UserError(f"{path}, line {line}: the image is not named; write the name of its file")
        boxes[image] = (*boxes.get(image, ()), box)
    if not boxes:
        raise UserError(f"{path}: holds no box; write a row {','.join(BOX_COLUMNS)} for each lesion")
    return boxes


def _draw_from(text: str) -> np.random.Generator:
    """Return a generator that is the same for the same text, on every machine."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def _move_sides(box: Box, shares: NDArray[np.float64], shape: tuple[int, ...]) -> Box:
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    x0, x1 = _fit_side(x0 + shares[0] * width, x1 + shares[2] * width, shape[1])
    y0, y1 = _fit_side(y0 + shares[1] * height, y1 + shares[3] * height, shape[0])
    return x0, y0, x1, y1


def _fit_side(low: float, high: float, length: int) -> tuple[float, float]:
    """Return an interval inside [-0.5, length - 0.5], at least `MIN_SIDE_PX` long if that fits."""
    low, high = max(low, -0.5), min(high, length - 0.5)
    missing = min(MIN_SIDE_PX, length) - (high - low)
    if missing > 0:
        low = min(max(low - missing / 2, -0.5), length - 0.5 - (high - low + missing))
        high = low + min(MIN_SIDE_PX, length)
    return float(low), float(high)
