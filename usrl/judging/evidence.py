"""What a judge sees of a candidate: two views, and numbers that views show badly."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from usrl.data.letterbox import Letterbox
from usrl.data.sample import BoolMask, FloatArray, GrayImage
from usrl.geometry.boxes import boxes_of_masks, grow, sample_boxes
from usrl.judging.candidates import Candidates
from usrl.metrics.overlap import iou

VIEW_PX = 64
"""Side of a view."""
MARGIN = 0.5
"""How much of the surroundings the near view shows on each side, as a share of the candidate's box."""
MAPS = 3
"""Maps of a view: the image, the probability of lesion, the candidate."""
FACTS = 11
"""Numbers of a candidate; `_measure` lists them."""
_CENTRE_X = 2
"""Index of the fact that says where a candidate lies from left to right."""


@dataclass(frozen=True)
class Evidence:
    """What a judge sees of C candidates."""

    views: Tensor  # (C, 2, 3, VIEW_PX, VIEW_PX), uint8: near and far; image, probability, candidate
    facts: Tensor  # (C, FACTS), float32

    def __len__(self) -> int:
        """Return C."""
        return len(self.facts)

    def take(self, rows: Tensor | slice) -> "Evidence":
        """Return the evidence of some of the candidates."""
        return Evidence(self.views[rows], self.facts[rows])

    def mirror(self, is_mirrored: Tensor) -> "Evidence":
        """Return the evidence with some candidates, bool, (C,), as in images mirrored left to right."""
        views = torch.where(is_mirrored[:, None, None, None, None], self.views.flip(-1), self.views)
        is_moved = is_mirrored & self.facts.any(dim=1)  # those of empty candidates are zero
        facts = self.facts.clone()
        facts[is_moved, _CENTRE_X] = 1 - facts[is_moved, _CENTRE_X]
        return Evidence(views, facts)

    def to(self, device: torch.device) -> "Evidence":
        """Return the same on a device."""
        return Evidence(self.views.to(device), self.facts.to(device))


def gather_evidence(image: GrayImage, probability: FloatArray, candidates: Candidates, size: int) -> Evidence:
    """Return what a judge sees of a native image's candidates, on a working image of ``size`` px."""
    masks = candidates.masks
    if not masks:
        return Evidence(torch.zeros((0, 2, MAPS, VIEW_PX, VIEW_PX), dtype=torch.uint8), torch.zeros(0, FACTS))
    rows = [_measure(image, probability, candidates, number) for number in range(len(masks))]
    return Evidence(_draw_views(image, probability, masks, size), torch.tensor(rows, dtype=torch.float32))


def _draw_views(image: GrayImage, probability: FloatArray, masks: list[BoolMask], size: int) -> Tensor:
    """Return the views of candidates, uint8, (C, 2, 3, VIEW_PX, VIEW_PX)."""
    letterbox = Letterbox.fit(image.shape, size)
    shared = [letterbox.image(image), letterbox.image(np.rint(255 * probability).astype(np.uint8))]
    working = torch.from_numpy(np.stack([letterbox.target(mask) for mask in masks]))  # (C, S, S)
    beneath = torch.from_numpy(np.stack(shared)).float().expand(len(masks), 2, size, size)
    maps = torch.cat([beneath, 255.0 * working[:, None]], dim=1)  # (C, 3, S, S)
    whole = torch.tensor([-0.5, -0.5, size - 0.5, size - 0.5]).expand(len(masks), 4)
    boxes = (grow(boxes_of_masks(working), MARGIN), whole)
    views = torch.stack([sample_boxes(maps, box, VIEW_PX) for box in boxes], dim=1)
    return views.round().to(torch.uint8)


def _measure(image: GrayImage, probability: FloatArray, candidates: Candidates, number: int) -> list[float]:
    """Return the facts of one candidate, all zero if it is empty."""
    mask = candidates.masks[number]
    if not mask.any():
        return [0.0] * FACTS
    inside = probability[mask]
    rows, columns = np.nonzero(mask)
    counterpart = candidates.counterpart(number)
    return [
        float(np.sqrt(mask.mean())),
        float((rows.mean() + 0.5) / mask.shape[0]),
        float((columns.mean() + 0.5) / mask.shape[1]),
        float(image[mask].mean() / 255),
        float(inside.mean()),
        float(inside.max()),
        float((inside > 0.5).mean()),
        float(inside.sum() / max(float(probability.sum()), 1e-6)),
        float(number < candidates.own),
        float(number >= len(candidates.masks) - candidates.refined),
        1.0 if counterpart is None else iou(mask, candidates.masks[counterpart]),
    ]
