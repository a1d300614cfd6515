"""An image's regions as a threshold task: what agents, their proposals and their ceilings work on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from usrl.classical import draw_ellipse
from usrl.data.bank import Bank
from usrl.data.components import best_overlap
from usrl.data.letterbox import Letterbox
from usrl.data.sample import BoolMask, Box, GrayImage
from usrl.envs.threshold.cases import ThresholdSettings
from usrl.envs.threshold.task import ThresholdState, ThresholdTask
from usrl.geometry.regions import place_mask


@dataclass(frozen=True)
class ImageRegions:
    """The regions of one image as a task.

    Attributes:
        letterbox: From native to working pixels.
        task: One row per box; its targets are blank where only a policy acts.
    """

    letterbox: Letterbox
    task: ThresholdTask

    def start(self) -> ThresholdState:
        """Return the start of an episode on every region."""
        index = torch.arange(len(self.task.bank), device=self.task.bank.device)
        return self.task.reset(index, index)

    def native_mask(self, state: ThresholdState) -> BoolMask:
        """Return the union of the regions' masks, bool, (H, W)."""
        return self.native_masks(state, 1)[0]

    def native_masks(self, state: ThresholdState, starts: int) -> list[BoolMask]:
        """Return the union of each start's masks, bool, (H, W); all starts have equally many regions."""
        shape = self.letterbox.native_shape
        united = [np.zeros(shape, np.bool_) for _ in range(starts)]
        masks = self.task.mask(state).cpu().numpy()
        boxes = self.letterbox.boxes_to_native([region.box for region in self.task.cases.regions])
        for row, (box, mask) in enumerate(zip(boxes.tolist(), masks, strict=True)):
            united[row * starts // len(masks)] |= place_mask(mask, box, shape)
        return united

    def best_mask(self) -> BoolMask:
        """Return the mask of the settings that fit the targets best, bool, (H, W)."""
        best = self.task.cases.best
        return self.native_mask(replace(self.start(), level=best[..., 1], size=best[..., 0]))


@dataclass(frozen=True)
class RegionCutter:
    """Cuts the regions of images.

    Attributes:
        settings: Of the environment.
        horizon: Step limit.
        size: Side of the working image, px.
        device: Where the task computes.
    """

    settings: ThresholdSettings
    horizon: int
    size: int
    device: torch.device

    def cut(
        self, image: GrayImage, boxes: Sequence[Box] | None, target: BoolMask | None = None
    ) -> ImageRegions:
        """Return the regions of an image.

        Args:
            image: uint8, (H, W).
            boxes: In native px, at least one; None for the whole image.
            target: bool, (H, W); each box gets the component that shares most with its ellipse.
        """
        letterbox = Letterbox.fit(image.shape, self.size)
        count = 1 if boxes is None else len(boxes)
        blank = np.zeros(image.shape, np.bool_)
        targets: list[BoolMask] = [blank] * count
        if target is not None:
            targets = [target] if boxes is None else [_component(target, box) for box in boxes]
        images = torch.from_numpy(np.stack([letterbox.image(image)] * count))
        working = torch.from_numpy(np.stack([letterbox.target(mask) for mask in targets]))
        bank = Bank(images, working, None, ("image",) * count).to(self.device)
        places = None if boxes is None else letterbox.boxes_to_working(boxes).tolist()
        return ImageRegions(letterbox, ThresholdTask(bank, self.settings, self.horizon, places))


def _component(target: BoolMask, box: Box) -> BoolMask:
    """Return the target's component that shares most with a box's ellipse; empty where none does."""
    best = best_overlap(target, draw_ellipse(box, target.shape))
    return np.zeros_like(target) if best is None else best
