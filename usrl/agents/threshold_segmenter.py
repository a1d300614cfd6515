"""A trained threshold agent as a segmenter."""

import numpy as np
import torch
from numpy.typing import NDArray

from usrl.agents.algorithms import load_policy
from usrl.agents.players import play
from usrl.agents.recipe import AgentRecipe
from usrl.compute.devices import one_thread
from usrl.data.components import split_components
from usrl.data.prompts import bounding_box, check_prompt, start_boxes
from usrl.data.sample import BoolMask, GrayImage, Prompt, Track
from usrl.envs.threshold.cases import ThresholdSettings
from usrl.envs.threshold.placement import ImageRegions, RegionCutter
from usrl.envs.threshold.task import ThresholdState
from usrl.errors import UserError
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.runs.run import Run
from usrl.segmenter import Segmenter, name_method
from usrl.strict import check


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

    def __init__(
        self, run: Run, device: torch.device, proposer: Segmenter | None = None, starts: int = 1
    ) -> None:
        recipe = run.recipe_as(AgentRecipe)
        settings = check(ThresholdSettings, recipe.env.kwargs, recipe.env.id)
        self._cutter = RegionCutter(settings, recipe.env.max_episode_steps, recipe.data.size, device)
        self._takes_boxes = settings.roi != "image"
        if proposer is not None and not self._takes_boxes:
            raise UserError(f"{run.path} thresholds whole images and starts from no masks; name it alone")
        self._proposer = proposer
        self._starts = starts if self._takes_boxes else 1
        self.name = name_method(run.name, self._starts, proposer)
        self.track: Track = "prompted" if self._takes_boxes and proposer is None else "automatic"
        # The spaces depend on the recipe alone: a blank image and any box stand in for a bank.
        boxes = [(-0.5, -0.5, 7.5, 7.5)] if self._takes_boxes else None
        task = self._cutter.cut(np.zeros((8, 8), np.uint8), boxes).task
        self._policy = load_policy(run.weights_path, recipe, task, device)

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask that the agent ends with, bool, (H, W)."""
        return self.segment_with_uncertainty(image, prompt)[0]

    def segment_with_uncertainty(
        self, image: GrayImage, prompt: Prompt | None
    ) -> tuple[BoolMask, float | None]:
        """Return the mask, bool, (H, W), and the spread of the starts; None where there is one."""
        masks, regions = [np.zeros(image.shape, np.bool_)], self._cut(image, prompt, starts=self._starts)
        if regions is not None:
            masks = regions.native_masks(self._play(regions)[-1], self._starts)
        united = vote(masks)
        return united, None if self._starts == 1 else measure_spread(masks, united)

    def propose(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask of the first thresholds, Otsu's of each region, bool, (H, W)."""
        regions = self._cut(image, prompt)
        return np.zeros(image.shape, np.bool_) if regions is None else regions.native_mask(regions.start())

    def oracle(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the mask of the best settings, whatever the step limit, bool, (H, W)."""
        regions = self._cut(image, prompt, target)
        return np.zeros(image.shape, np.bool_) if regions is None else regions.best_mask()

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step of the first box's region, uint8, (h, w, 3), the start first."""
        regions = self._cut(image, prompt, target)
        return [] if regions is None else [regions.task.render(state, 0) for state in self._play(regions)]

    def _play(self, regions: ImageRegions) -> list[ThresholdState]:
        with one_thread():
            return play(regions.task, self._policy, regions.start())

    def _cut(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None = None, starts: int = 1
    ) -> ImageRegions | None:
        """Return the regions of all starts, one after the other; None where a proposer has found nothing."""
        if not self._takes_boxes:
            return self._cutter.cut(image, None, target)
        prompts = start_boxes(self._boxes(image, prompt), starts, image.shape)
        boxes = [box for start in prompts for box in start]
        return self._cutter.cut(image, boxes, target) if boxes else None

    def _boxes(self, image: GrayImage, prompt: Prompt | None) -> Prompt:
        """Return the boxes to look into, in native px."""
        if self._proposer is None:
            return check_prompt(prompt, image.shape)
        found = split_components(self._proposer.segment(image, prompt))
        return tuple(bounding_box(component) for component in found)
