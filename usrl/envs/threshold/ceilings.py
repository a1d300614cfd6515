"""The best thresholds as ceilings next to threshold agents."""

from dataclasses import dataclass
from typing import Literal

import torch

from usrl.data.prompts import check_prompt
from usrl.data.recipe import DataRecipe
from usrl.data.sample import BoolMask, GrayImage, Prompt
from usrl.envs.placement import Place
from usrl.envs.threshold.placement import ThresholdPlacement
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.segmenter import Answer


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


ORACLES = {
    oracle.name: oracle
    for oracle in (ThresholdOracle("threshold-oracle", 1), ThresholdOracle("threshold-oracle-tiles", 4))
}
"""Ceilings that `usrl compare` takes by name."""
