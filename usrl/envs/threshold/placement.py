"""Thresholds on native images: in boxes, around the components of a mask, or in the whole image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.classical.boxes import draw_ellipse
from usrl.data.bank import Bank
from usrl.data.components import best_overlap, split_components
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import bounding_box, check_prompt, start_boxes
from usrl.data.recipe import DataRecipe
from usrl.data.sample import BoolMask, Box, GrayImage, Prompt
from usrl.envs.placement import Place
from usrl.envs.threshold.drawing import draw_mask_step
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.envs.threshold.task import ThresholdState, ThresholdTask
from usrl.geometry.regions import place_mask
from usrl.segmenter import Answer


@dataclass(frozen=True)
class ThresholdPlacement:
    """Begins a region per box or component, or of the whole image; see `usrl.envs.placement.Placement`."""

    settings: ThresholdSettings
    horizon: int
    size: int
    device: torch.device

    @property
    def takes_boxes(self) -> bool:
        """Whether regions are boxes."""
        return self.settings.roi != "image"

    def begin(self, place: Place) -> "ThresholdEpisodes":
        """Return the regions of an image."""
        if not self.takes_boxes:
            return ThresholdEpisodes(self, place, [None])
        boxes = place.boxes or ()
        if place.found is not None:
            boxes = tuple(bounding_box(component) for component in split_components(place.found))
        prompts = start_boxes(boxes, place.starts, place.image.shape)
        return ThresholdEpisodes(self, place, [box for start in prompts for box in start])


@dataclass(frozen=True, eq=False)
class ThresholdEpisodes:
    """Regions of one image; see `usrl.envs.placement.Episodes`.

    Attributes:
        placement: What began them.
        place: Where they begin.
        boxes: Of the regions, start after start, native px; None for the whole image.
    """

    placement: ThresholdPlacement
    place: Place
    boxes: Sequence[Box | None]

    @cached_property
    def task(self) -> ThresholdTask:
        """One row per region, with the target's component that shares most with the box's ellipse."""
        count, letterbox = len(self.boxes), self._letterbox
        image = torch.from_numpy(letterbox.image(self.place.image))[None]  # one for all rows
        targets = torch.from_numpy(np.stack([letterbox.target(self._target(box)) for box in self.boxes]))
        rows = torch.zeros(count, dtype=torch.int64)
        bank = Bank(image, targets, None, ("image",) * count, image_of_row=rows).to(self.placement.device)
        boxes = [box for box in self.boxes if box is not None]
        working = letterbox.boxes_to_working(boxes).tolist() if boxes else None
        return ThresholdTask(bank, self.placement.settings, self.placement.horizon, working)

    @cached_property
    def state(self) -> ThresholdState | None:
        """The first thresholds of every region; None if there is no region."""
        if not self.boxes:
            return None
        per_region = len(self.task.regions.windows)
        case = torch.arange(len(self.boxes) * per_region, device=self.placement.device)
        return self.task.begin(case // per_region, case, case)

    @cached_property
    def proposal(self) -> BoolMask:
        """The first thresholds of the first start, bool, (H, W)."""
        masks = [] if self.state is None else self.masks(self.state)
        return np.logical_or.reduce([self.kept, *masks[: len(masks) // self.place.starts]])

    @cached_property
    def kept(self) -> BoolMask:
        """Nothing: a region can be as small as a pixel."""
        return np.zeros(self.place.image.shape, np.bool_)

    def masks(self, state: ThresholdState) -> list[BoolMask]:
        """Return the mask of every region, bool, (H, W)."""
        boxes = self._letterbox.boxes_to_native([region.box for region in self.task.regions.cut])
        masks = self._regions(state).cpu().numpy()
        shape = self._letterbox.native_shape
        return [place_mask(mask, box, shape) for mask, box in zip(masks, boxes.tolist(), strict=True)]

    def draw(self, state: ThresholdState) -> NDArray[np.uint8]:
        """Return a picture of the first region."""
        if self.placement.settings.cut == "tiles":
            return self.task.render(state, 0)
        regions, known = self.task.regions, self.task.cases.targets.any()
        begun = self.task.begin(state.index, state.case, state.key)
        first, mask = (self._regions(each)[0].cpu().numpy() for each in (begun, state))
        target = regions.cut[0].cut_mask(self.task.cases.targets[0].cpu().numpy()) if known else None
        caption = f"step {int(state.elapsed[0])}/{self.task.horizon}   {len(regions.windows)} sub-images"
        return draw_mask_step(regions.cut[0].image, target, first, mask, None, caption)

    def reach(self) -> BoolMask:
        """Return the mask of the settings that fit the targets best at any step limit, bool, (H, W)."""
        if self.state is None:
            return self.kept
        best = self.task.regions.best
        masks = self.masks(replace(self.state, level=best[..., 1], size=best[..., 0]))
        return np.logical_or.reduce(masks)

    def _regions(self, state: ThresholdState) -> Tensor:
        """Return the masks of regions, bool (R, s, s); those of sub-images vote."""
        masks, regions = self.task.mask(state), self.task.regions
        return masks if self.placement.settings.cut == "tiles" else regions.vote(masks)

    @cached_property
    def _letterbox(self) -> Letterbox:
        return Letterbox.fit(self.place.image.shape, self.placement.size)

    def _target(self, box: Box | None) -> BoolMask:
        """Return what a region is about, native, (H, W); nothing if the target is unknown or elsewhere."""
        target = self.place.target
        if box is not None and target is not None:
            target = best_overlap(target, draw_ellipse(box, target.shape))
        return self.kept if target is None else target


@dataclass(frozen=True)
class ThresholdOracle:
    """The best thresholds and openings of each box, chosen with the target; see `usrl.segmenter.Ceiling`."""

    name: str
    grid: int
    track: Literal["prompted"] = "prompted"

    def reach(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask, answer: Answer | None = None
    ) -> BoolMask:
        """Return the best mask, bool, (H, W)."""
        settings = ThresholdSettings(grid=self.grid)
        # The best settings do not depend on the step limit.
        placement = ThresholdPlacement(settings, 1, DataRecipe().size, torch.device("cpu"))
        return placement.begin(Place(image, check_prompt(prompt, image.shape), target=target)).reach()


_GRIDS = {"threshold-oracle": 1, "threshold-oracle-tiles": 4}
ORACLES = {name: ThresholdOracle(name, grid) for name, grid in _GRIDS.items()}
"""Ceilings that `usrl compare` takes by name."""
