"""Settings of threshold selection."""

from functools import partial
from typing import Literal

from pydantic import Field, model_validator

from usrl.data.components import CleanName
from usrl.data.sample import DEFAULT_JITTER, MAX_JITTER
from usrl.envs.threshold.filters import FilterName
from usrl.strict import Strict

_in_px = partial(Field, json_schema_extra={"unit": "region pixels"})
_share = partial(Field, json_schema_extra={"unit": "fraction"})


class ThresholdSettings(Strict):
    """Arguments of `usrl.envs.threshold.task.ThresholdTask`, which explains the choices."""

    grid: int = Field(default=2, ge=1, le=8, description="G, tiles along a side; divides `side`")
    thresholds: int = Field(
        default=16, ge=2, le=256, description="number of thresholds, even between a region's 1% and 99%"
    )
    sizes: int = _in_px(
        default=4, ge=1, le=16, description="number of openings: discs of diameter 1, 3, 5, ..."
    )
    side: int = _in_px(default=64, ge=36, le=512, description="s, side of a region")
    filter: FilterName = Field(default="median", description="`none`, `median` or `srad`, against speckle")
    filter_px: int = _in_px(default=5, ge=3, le=31, description="side of the median's square, odd")
    polarity: Literal["dark", "bright"] = Field(
        default="dark", description="whether objects are `dark` or `bright`"
    )
    roi: Literal["box", "network", "image"] = Field(default="box", description="what a region is cut around")
    support: Literal["ellipse", "rectangle"] = Field(
        default="ellipse",
        description="where a mask may lie: in the `ellipse` of a box, or in the `rectangle`",
    )
    margin: float = _share(default=0.1, ge=0, le=1, description="growth of a box on each side")
    jitter: float = _share(
        default=DEFAULT_JITTER, ge=0, le=MAX_JITTER, description="largest move of a box's side"
    )
    boxes: int = Field(default=4, ge=1, le=64, description="boxes prepared for each lesion")
    clean: CleanName = Field(
        default="none", description="keep the `largest` component, fill `holes`, or `largest+holes`"
    )
    action: Literal["tiles", "raster"] = Field(default="tiles", description="what an action is")
    observation: Literal["image", "features"] = Field(default="image", description="what the agent sees")
    reward: Literal["dice", "iou", "sign"] = Field(
        default="dice", description="the score whose change is paid"
    )

    @property
    def is_cleaned_per_step(self) -> bool:
        """Whether masks of several tiles are cleaned, so that no table holds their overlap."""
        return self.clean != "none" and self.grid > 1

    @model_validator(mode="after")
    def _check(self) -> "ThresholdSettings":
        if self.side % self.grid:
            raise ValueError(
                f"grid: {self.grid} tiles do not divide a side of {self.side} px; choose another grid "
                f"or a side that is a multiple of {self.grid}"
            )
        largest, tile = 2 * self.sizes - 1, self.side // self.grid
        if largest > tile:
            raise ValueError(
                f"sizes: the opening number {self.sizes} is {largest} px wide and a tile only {tile} px; "
                f"choose sizes up to {(tile + 1) // 2}, a smaller grid or a larger side"
            )
        if self.filter_px % 2 == 0:
            raise ValueError(f"filter_px must be odd, got {self.filter_px}; take {self.filter_px + 1}")
        return self
