"""Candidate masks of an image: components of a probability map, and what an agent makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usrl.agents.segmenter import AgentSegmenter
from usrl.data.components import label_components
from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, FloatArray, GrayImage
from usrl.judging.recipe import JudgeRecipe
from usrl.metrics.overlap import iou

MIN_SHARE = 1 / 2000
"""Components below this share of the image are specks and not lesions."""
SAME_IOU = 0.9
"""Components of two levels that overlap by more are one candidate."""


@dataclass(frozen=True)
class Candidates:
    """C masks, bool, (H, W), that may be lesions of an image.

    The first ``own`` masks are the components at the level nearest to one half: what the network says by
    itself. The last ``refined`` masks are what a refiner made of the first ones, in their order.
    """

    masks: list[BoolMask]
    own: int
    refined: int = 0

    def counterpart(self, number: int) -> int | None:
        """Return the candidate before or after refinement, None without a refiner."""
        if not self.refined:
            return None
        return number + self.refined if number < self.refined else number - self.refined

    def unite(self, numbers: Sequence[int], image: GrayImage) -> BoolMask:
        """Return the union of some of them, bool, (H, W)."""
        return np.logical_or.reduce([np.zeros(image.shape, bool), *(self.masks[i] for i in numbers)])


def find_candidates(
    image: GrayImage, probability: FloatArray, levels: Sequence[float], refiner: AgentSegmenter | None
) -> Candidates:
    """Return the candidates of a native image.

    Each connected component of the probability map, (H, W), above each level is a candidate. If levels share
    a component, that of the level nearest to one half counts. A refiner, a prompted agent, adds what it makes
    of an ellipse in the component's box.
    """
    found: list[BoolMask] = []
    own: int | None = None
    for level in sorted(levels, key=lambda level: abs(level - 0.5)):
        labels, areas = label_components(probability > level)
        for label in np.flatnonzero(areas[1:] >= MIN_SHARE * image.size) + 1:
            mask = labels == label
            if all(iou(mask, other) <= SAME_IOU for other in found):
                found.append(mask)
        own = len(found) if own is None else own
    refined: list[BoolMask] = []
    if refiner is not None and found:
        refined = refiner.segment_each(image, tuple(bounding_box(mask) for mask in found))
    return Candidates(found + refined, own or 0, len(refined))


def choose(candidates: Candidates, expected: FloatArray, rule: JudgeRecipe) -> list[int]:
    """Return which candidates are lesions by their expected Dice, (C,), best first; see `JudgeRecipe`."""
    masks = candidates.masks if candidates.own else []
    expected = expected[: len(masks)]
    bonus = np.where(np.arange(len(masks)) < candidates.own, rule.margin, 0.0)
    taken: list[int] = []
    for number in np.argsort(-(expected + bonus), kind="stable"):
        is_good = expected[number] >= (rule.accept if taken else rule.reject)
        if is_good and not any((masks[number] & masks[other]).any() for other in taken):
            taken.append(int(number))
    return taken
