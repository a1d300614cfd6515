"""Candidate masks of an image: what a probability map may mean, and what an agent makes of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from usrl.agents.segmenter import ContourSegmenter
from usrl.data.components import label_components
from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, GrayImage

MIN_SHARE = 1 / 2000
"""Components below this share of the image are specks, no lesions."""
SAME_IOU = 0.9
"""Components of two levels that overlap by more are one candidate."""


def find_candidates(
    image: GrayImage,
    probability: NDArray[np.float32],
    levels: Sequence[float],
    refiner: ContourSegmenter | None,
) -> list[BoolMask]:
    """Return the candidates of an image.

    Each connected component of the probability map above each level is one, and with a refiner also
    what it makes of an ellipse in the component's box.

    Args:
        image: Native image, uint8, shape (H, W).
        probability: Probability of lesion, shape (H, W).
        levels: Thresholds in (0, 1); of components that levels share that of the level nearest
            to one half is kept.
        refiner: A prompted agent, or None.

    Returns:
        Masks, bool, shape (H, W) each; empty where no level has a component.
    """
    found: list[BoolMask] = []
    for level in sorted(levels, key=lambda level: abs(level - 0.5)):
        labels, areas = label_components(probability > level)
        for label in np.flatnonzero(areas[1:] >= MIN_SHARE * image.size) + 1:
            mask = labels == label
            if all(_iou(mask, other) <= SAME_IOU for other in found):
                found.append(mask)
    if refiner is None or not found:
        return found
    return found + refiner.segment_each(image, tuple(bounding_box(mask) for mask in found))


def choose(
    masks: Sequence[BoolMask], expected: NDArray[np.float32], reject: float, accept: float
) -> list[int]:
    """Return which candidates are taken for lesions, best first.

    Args:
        masks: Candidates, bool, shape (H, W).
        expected: Dice expected of each, shape (C,).
        reject: The best one is taken if its expected Dice is at least this.
        accept: Each further one if at least this, and if it shares no pixel with one taken before.
    """
    taken: list[int] = []
    for number in sorted(range(len(masks)), key=lambda number: -expected[number]):
        if expected[number] < (accept if taken else reject):
            break
        if not any((masks[number] & masks[other]).any() for other in taken):
            taken.append(number)
    return taken


def _iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / (first | second).sum())
