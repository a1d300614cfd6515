"""A trained threshold agent as a segmenter, and the best thresholds as a ceiling beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from usrl.agents.algorithms import load_policy
from usrl.agents.rollout import play
from usrl.baselines.classical import draw_ellipse
from usrl.data.bank import Bank
from usrl.data.components import best_overlap, split_components
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import bounding_box, check_prompt, name_starts, start_boxes
from usrl.data.sample import BoolMask, Box, GrayImage, Prompt, Track
from usrl.envs.threshold import ThresholdState, ThresholdTask
from usrl.envs.threshold_cases import ThresholdSettings
from usrl.errors import UserError
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.recipes import AgentRecipe, DataRecipe
from usrl.registry import find_row
from usrl.runs import Run
from usrl.strict import check
from usrl.thresholding.regions import place_mask


@dataclass(frozen=True)
class _Scene:
    """An image's regions as a task.

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
        masks, regions = self.task.mask(state).cpu().numpy(), self.task.cases.regions
        for row, (region, mask) in enumerate(zip(regions, masks, strict=True)):
            corners = self.letterbox.points_to_native(np.reshape(region.box, (2, 2))).ravel()
            x0, y0, x1, y1 = (float(side) for side in corners)
            united[row * starts // len(masks)] |= place_mask(mask, (x0, y0, x1, y1), shape)
        return united

    def best_mask(self) -> BoolMask:
        """Return the mask of the settings that fit the targets best, bool, (H, W)."""
        best = self.task.cases.best
        return self.native_mask(replace(self.start(), level=best[..., 1], size=best[..., 0]))


@dataclass(frozen=True)
class _Lens:
    """How an image becomes a scene.

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

    def open(self, image: GrayImage, boxes: Sequence[Box] | None, target: BoolMask | None = None) -> _Scene:
        """Return the scene of an image.

        Args:
            image: uint8, (H, W).
            boxes: In native px, at least one; None for the whole image.
            target: bool, (H, W); each box gets the component that shares most with its ellipse.
        """
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), self.size)
        count = 1 if boxes is None else len(boxes)
        blank = np.zeros(image.shape, np.bool_)
        targets: list[BoolMask] = [blank] * count
        if target is not None:
            targets = [target] if boxes is None else [_component(target, box) for box in boxes]
        images = torch.from_numpy(np.stack([letterbox.image(image)] * count))
        working = torch.from_numpy(np.stack([letterbox.target(mask) for mask in targets]))
        bank = Bank(images, working, None, ("image",) * count).to(self.device)
        places = None if boxes is None else [_to_working(letterbox, box) for box in boxes]
        return _Scene(letterbox, ThresholdTask(bank, self.settings, self.horizon, places))


class ThresholdSegmenter:
    """Chooses thresholds in each box, in the whole image, or around another segmenter's findings.

    An agent of `roi="image"` needs no boxes; any other needs them, or a proposer whose components are boxed.

    Args:
        run: A run of a threshold agent's recipe with weights.
        device: Where environment and policy compute.
        proposer: An automatic segmenter whose components give the boxes.
        starts: How often to start on an image, from boxes near the given ones; the masks vote. An agent of
            whole images starts once.

    Raises:
        UserError: If the recipe is not of a threshold agent, it takes no boxes and has a proposer, or its
            weights are unusable.
    """

    def __init__(self, run: Run, device: torch.device, proposer: Any = None, starts: int = 1) -> None:
        recipe = run.recipe_as(AgentRecipe)
        settings = check(ThresholdSettings, dict(recipe.env.kwargs), recipe.env.id)
        self._lens = _Lens(settings, recipe.env.max_episode_steps, recipe.data.size, device)
        self._takes_boxes = settings.roi != "image"
        if proposer is not None and not self._takes_boxes:
            raise UserError(f"{run.path} thresholds whole images and starts from no masks; name it alone")
        self._proposer = proposer
        self._starts = starts if self._takes_boxes else 1
        own = name_starts(run.path.resolve().name, self._starts)
        self.name = own if proposer is None else f"{proposer.name}+{own}"
        self.track: Track = "prompted" if self._takes_boxes and proposer is None else "automatic"
        # The spaces depend on the recipe alone: a blank image and any box stand in for a bank.
        boxes = [(-0.5, -0.5, 7.5, 7.5)] if self._takes_boxes else None
        task = self._lens.open(np.zeros((8, 8), np.uint8), boxes).task
        self._policy = load_policy(run.weights_path, recipe, task, device)

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask that the agent ends with, bool, (H, W)."""
        return self.segment_with_uncertainty(image, prompt)[0]

    def segment_with_uncertainty(
        self, image: GrayImage, prompt: Prompt | None
    ) -> tuple[BoolMask, float | None]:
        """Return the mask, bool, (H, W), and the spread of the starts; None where there is one."""
        boxes, masks = self._boxes(image, prompt), [np.zeros(image.shape, np.bool_)]
        if boxes is None or boxes:
            scene = self._lens.open(image, self._start_boxes(boxes, image.shape))
            masks = scene.native_masks(self._play(scene)[-1], self._starts)
        united = vote(masks)
        return united, None if self._starts == 1 else measure_spread(masks, united)

    def propose(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask of the first thresholds, Otsu's of each region, bool, (H, W)."""
        boxes = self._boxes(image, prompt)
        if boxes is not None and not boxes:
            return np.zeros(image.shape, np.bool_)
        scene = self._lens.open(image, boxes)
        return scene.native_mask(scene.start())

    def oracle(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the mask of the best settings, whatever the step limit, bool, (H, W)."""
        boxes = self._boxes(image, prompt)
        if boxes is not None and not boxes:
            return np.zeros(image.shape, np.bool_)
        return self._lens.open(image, boxes, target).best_mask()

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step of the first box's region, uint8, (h, w, 3), the start first."""
        boxes = self._boxes(image, prompt)
        if boxes is not None and not boxes:
            return []
        scene = self._lens.open(image, boxes, target)
        return [scene.task.render(state, 0) for state in self._play(scene)]

    def _start_boxes(self, boxes: Sequence[Box] | None, shape: tuple[int, ...]) -> list[Box] | None:
        """Return the boxes of all starts, one start after the other; None for the whole image."""
        if boxes is None:
            return None
        return [box for start in start_boxes(tuple(boxes), self._starts, shape) for box in start]

    def _play(self, scene: _Scene) -> list[ThresholdState]:
        return play(scene.task, self._policy, scene.start())

    def _boxes(self, image: GrayImage, prompt: Prompt | None) -> Sequence[Box] | None:
        """Return the boxes to look into, in native px; None for the whole image."""
        if not self._takes_boxes:
            return None
        if self._proposer is None:
            return check_prompt(prompt, image.shape)
        return [bounding_box(part) for part in split_components(self._proposer.segment(image, prompt))]


@dataclass(frozen=True)
class ThresholdOracle:
    """The best thresholds and openings of each box, chosen with the reference: a ceiling, not a method.

    Attributes:
        name: Row label.
        grid: Tiles along a side of a region.
        track: Needs boxes.
    """

    name: str
    grid: int
    track: Literal["prompted"] = "prompted"

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Refuse: without the reference there is no best.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.name} chooses with the reference, which only `usrl compare` has")

    def reach(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the best mask, bool, (H, W); see `usrl.evaluation.segmenter.Ceiling`."""
        row = find_row("usrl/ThresholdSelect-v0")
        settings = ThresholdSettings(grid=self.grid)
        lens = _Lens(settings, row.max_episode_steps, DataRecipe().size, torch.device("cpu"))
        return lens.open(image, check_prompt(prompt, image.shape), target).best_mask()


ORACLES = {
    oracle.name: oracle
    for oracle in (ThresholdOracle("threshold-oracle", 1), ThresholdOracle("threshold-oracle-tiles", 4))
}
"""Ceilings that `usrl compare` takes by name."""


def _component(target: BoolMask, box: Box) -> BoolMask:
    """Return the target's component that shares most with a box's ellipse; empty where none does."""
    best = best_overlap(target, draw_ellipse(box, target.shape))
    return np.zeros_like(target) if best is None else best


def _to_working(letterbox: Letterbox, box: Box) -> Box:
    x0, y0, x1, y1 = (float(side) for side in letterbox.points_to_working(np.reshape(box, (2, 2))).ravel())
    return x0, y0, x1, y1
