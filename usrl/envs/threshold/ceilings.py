"""The best thresholds as a ceiling beside threshold agents."""

from dataclasses import dataclass
from typing import Literal

import torch

from usrl.data.prompts import check_prompt
from usrl.data.recipe import DataRecipe
from usrl.data.sample import BoolMask, GrayImage, Prompt
from usrl.envs.threshold.cases import ThresholdSettings
from usrl.envs.threshold.placement import RegionCutter
from usrl.errors import UserError
from usrl.registry import find_row


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
        """Return the best mask, bool, (H, W); see `usrl.segmenter.Ceiling`."""
        row = find_row("usrl/ThresholdSelect-v0")
        settings = ThresholdSettings(grid=self.grid)
        cutter = RegionCutter(settings, row.max_episode_steps, DataRecipe().size, torch.device("cpu"))
        return cutter.cut(image, check_prompt(prompt, image.shape), target).best_mask()


ORACLES = {
    oracle.name: oracle
    for oracle in (ThresholdOracle("threshold-oracle", 1), ThresholdOracle("threshold-oracle-tiles", 4))
}
"""Ceilings that `usrl compare` takes by name."""
