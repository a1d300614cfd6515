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
DIRECT_DIAMETERS = (1, 2, 5)
"""Discs of the openings that `action="direct"` chooses from, px. A disc of one pixel opens nothing."""
_MAX_SUBIMAGES = 256
"""Their numbers are observed as bytes."""


class ThresholdSettings(Strict):
    """Arguments of `usrl.envs.threshold.task.ThresholdTask`, which explains the choices."""

    cut: Literal["tiles", "subimages"] = Field(
        default="tiles",
        description="`tiles` share an episode and a mask; `subimages` overlap by half, each has its own "
        "episode and thresholds, and their masks vote",
    )
    grid: int = Field(
        default=2,
        ge=1,
        le=8,
        description="G, tiles along a side; divides `side`. Sub-images are side / G wide and half as high",
    )
    thresholds: int = Field(
        default=16,
        ge=2,
        le=256,
        description="number of thresholds, even between a region's 1% and 99%; of a sub-image, between its "
        "least and largest gray",
    )
    sizes: int = _in_px(
        default=4,
        ge=1,
        le=16,
        description='number of openings: discs of diameter 1, 3, 5, ...; `action="direct"` has its own',
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
    start: Literal["otsu", "random"] = Field(
        default="otsu",
        description="first setting: the threshold of `otsu` without opening, or a `random` one",
    )
    action: Literal["tiles", "raster", "direct"] = Field(default="tiles", description="what an action is")
    observation: Literal["image", "features", "shape"] = Field(
        default="image", description="what the agent sees"
    )
    reward: Literal["dice", "iou", "sign", "error"] = Field(
        default="dice",
        description="the score whose change is paid; `sign` pays its sign, `error` 10 if the error fell",
    )
    solved_ends: bool = Field(
        default=False,
        description="end an episode with less than 5% of the pixels wrong",
        json_schema_extra={"training_only": True},
    )

    @property
    def is_cleaned_per_step(self) -> bool:
        """Whether masks of several tiles are cleaned, so that no table holds their overlap."""
        return self.clean != "none" and self.grid > 1

    @property
    def tiling(self) -> int:
        """Tiles along a side of what has an episode of its own: G, or 1 for sub-images."""
        return self.grid if self.cut == "tiles" else 1

    @property
    def diameters(self) -> tuple[int, ...]:
        """Discs of the openings, px; the first opens nothing."""
        if self.action == "direct":
            return DIRECT_DIAMETERS
        return tuple(2 * size + 1 for size in range(self.sizes))

    @model_validator(mode="after")
    def _check(self) -> "ThresholdSettings":
        if self.cut == "subimages":
            self._check_subimages()
        elif self.side % self.grid:
            raise ValueError(
                f"grid: {self.grid} tiles do not divide a side of {self.side} px; choose another grid "
                f"or a side that is a multiple of {self.grid}"
            )
        if self.action == "direct" and "sizes" in self.model_fields_set:
            raise ValueError("sizes: action='direct' chooses among openings of its own; leave sizes out")
        self._check_openings()
        if self.filter_px % 2 == 0:
            raise ValueError(f"filter_px must be odd, got {self.filter_px}; take {self.filter_px + 1}")
        return self

    def _check_subimages(self) -> None:
        if self.side % (4 * self.grid):
            raise ValueError(
                f"grid: sub-images of 1/{self.grid} by 1/{2 * self.grid} of a side overlap by half, so the "
                f"side must be a multiple of {4 * self.grid}, got {self.side}; choose another grid or side"
            )
        if (count := (2 * self.grid - 1) * (4 * self.grid - 1)) > _MAX_SUBIMAGES:
            raise ValueError(
                f"grid: {count} sub-images are more than {_MAX_SUBIMAGES}; choose a smaller grid"
            )
        if self.observation != "shape":
            raise ValueError("observation: sub-images are seen by their shape; set observation='shape'")
        if self.support != "rectangle":
            raise ValueError("support: sub-images are whole rectangles; set support='rectangle'")
        if self.clean != "none":
            raise ValueError("clean: the masks of sub-images vote and are not cleaned; leave clean out")

    def _check_openings(self) -> None:
        tile = self.side // self.grid // (2 if self.cut == "subimages" else 1)
        largest = self.diameters[-1]
        if largest <= tile:
            return
        if self.action == "direct":
            raise ValueError(
                f"grid: the largest opening is {largest} px wide and a tile or sub-image only {tile} px; "
                "choose a smaller grid or a larger side"
            )
        raise ValueError(
            f"sizes: the opening number {self.sizes} is {largest} px wide and a tile only {tile} px; "
            f"choose sizes up to {(tile + 1) // 2}, a smaller grid or a larger side"
        )
