"""Settings of contour refinement."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from usrl.data.sample import DEFAULT_JITTER, MAX_JITTER
from usrl.strict import Strict

_FRACTION: JsonDict = {"unit": "fraction"}

Vertices = Annotated[
    int, Field(ge=8, le=1024, description="N, vertices of a contour; `CnnPolicy` wants 36 or more")
]
Step = Annotated[
    float,
    Field(
        gt=0, description="longest move of a vertex in a step", json_schema_extra={"unit": "working pixels"}
    ),
]
Scale = Annotated[Literal["pixel", "proposal"], Field(description="the unit of moves and profiles")]
Parametrization = Annotated[Literal["vertices", "fourier"], Field(description="kind of action")]
Coefficients = Annotated[int, Field(ge=1, le=64, description="size of a `fourier` action")]


class ContourSettings(Strict):
    """Arguments of `usrl.envs.contour.task.ContourTask`, which explains the choices."""

    vertices: Vertices = 64
    samples: int = Field(default=40, ge=36, le=256, description="K, places of a profile")
    step_px: Step = 4.0
    scale: Scale = "pixel"
    observation: Literal["profile", "profile+start", "image"] = Field(
        default="profile", description="what the agent sees"
    )
    parametrization: Parametrization = "vertices"
    coefficients: Coefficients = 15
    reward: Literal["dice", "iou", "dice+boundary"] = Field(
        default="dice", description="the score whose change is paid"
    )
    proposal: Literal["box", "target", "network"] = Field(
        default="box", description="what an episode starts from"
    )
    jitter: float = Field(
        default=DEFAULT_JITTER,
        ge=0,
        le=MAX_JITTER,
        description="largest move of a box's side, or height of the wave of `target`",
        json_schema_extra=_FRACTION,
    )

    @model_validator(mode="after")
    def _check(self) -> "ContourSettings":
        if self.parametrization != "fourier":
            if self.coefficients != type(self).model_fields["coefficients"].default:
                raise ValueError(
                    f"coefficients: {self.coefficients} does nothing with parametrization="
                    f"{self.parametrization!r}; set parametrization='fourier', or leave coefficients out"
                )
        elif self.coefficients > self.vertices:
            raise ValueError(
                f"coefficients: {self.vertices} vertices have at most {self.vertices} independent moves, "
                f"got {self.coefficients}; choose coefficients up to {self.vertices}, or more vertices"
            )
        return self


class SmoothContourSettings(ContourSettings):
    """Defaults of version 1: few moves, each of them short, as an algorithm's first noise needs them."""

    vertices: Vertices = 36
    step_px: Step = 1.0
    scale: Scale = "proposal"
    parametrization: Parametrization = "fourier"
    coefficients: Coefficients = 5
