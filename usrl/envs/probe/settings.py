"""Settings of probe navigation."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from usrl.strict import Strict

_MM: JsonDict = {"unit": "mm"}
_DEGREES: JsonDict = {"unit": "degrees"}


class ProbeSettings(Strict):
    """Arguments of `usrl.envs.probe.task.ProbeTask`, which explains the choices."""

    action: Literal["steps", "continuous"] = Field(default="steps", description="kind of action")
    observation: Literal["image", "labels", "scene"] = Field(
        default="image", description="what the agent sees"
    )
    reward: Literal["quality", "distance", "sign", "area"] = Field(
        default="quality", description="what is paid for a step"
    )
    right_stop: float = Field(
        default=1.0, ge=-1e6, le=1e6, description="paid for a stop at the standard plane"
    )
    wrong_stop: float = Field(default=-0.25, ge=-1e6, le=1e6, description="paid for a stop elsewhere")
    side: int = Field(
        default=64, ge=36, le=256, description="S, side of a slice", json_schema_extra={"unit": "px"}
    )
    view_mm: float = Field(
        default=48.0,
        ge=10,
        le=60,
        description="depth of a slice, and width of a linear one",
        json_schema_extra=_MM,
    )
    geometry: Literal["linear", "sector"] = Field(default="linear", description="kind of probe")
    step_mm: float = Field(
        default=5.0, gt=0, le=50, description="longest move in a step", json_schema_extra=_MM
    )
    step_deg: float = Field(
        default=5.0, gt=0, le=45, description="largest turn in a step", json_schema_extra=_DEGREES
    )
    start_mm: float = Field(
        default=40.0, ge=0, le=60, description="farthest start from the standard plane", json_schema_extra=_MM
    )
    start_deg: float = Field(
        default=40.0,
        ge=0,
        le=60,
        description="largest turn of a start from the standard plane",
        json_schema_extra=_DEGREES,
    )
    breathing: float = Field(
        default=0.0, ge=0, le=20, description="how far breath moves the body along y", json_schema_extra=_MM
    )
    contact: bool = Field(default=False, description="whether the force of the probe matters")
    shrink: bool = Field(default=False, description="whether steps halve when the last poses cluster")

    @model_validator(mode="after")
    def _check(self) -> "ProbeSettings":
        if self.shrink and self.action != "steps":
            raise ValueError(
                "shrink: continuous moves choose their length; set action='steps', or leave it out"
            )
        return self
