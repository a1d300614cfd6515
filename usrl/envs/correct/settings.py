"""Settings of contour correction."""

from typing import Annotated, Literal

from pydantic import Field

from usrl.envs.contour.settings import ContourSettings, Scale
from usrl.strict import PositiveInt

Share = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[float, Field(gt=0, le=1)]


class CorrectSettings(ContourSettings):
    """Arguments of `usrl.envs.correct.task.CorrectTask`, which explains the choices."""

    scale: Scale = "proposal"
    observation: Literal["profile", "profile+start", "image"] = Field(
        default="profile+start", description="what the agent sees, next to the user's points"
    )
    user: Literal["centre", "person", "careless"] = Field(default="centre", description="who corrects")
    opening: Annotated[int, Field(ge=0)] = Field(
        default=6, description="moves before the first correction of a contour that starts from a box"
    )
    moves: PositiveInt = Field(default=3, description="moves after each correction")
    rounds: PositiveInt = Field(default=10, le=100, description="corrections until the user is tired")
    satisfied: Width = Field(
        default=0.95, description="overlap (IoU) with the user's own border that ends an episode"
    )
    masks: Share = Field(
        default=0.0, description="share of episodes that start from a wavy mask, without an opening"
    )
    mask_error: Share = Field(
        default=0.6, description="height of these waves", json_schema_extra={"unit": "radius of the target"}
    )
    cost: float = Field(default=0.0, ge=0, description="taken from the reward for each correction")
    hold: Share = Field(
        default=1.0, description="how firmly points hold the contour: 0 not at all, 1 at the point"
    )
    hold_width: Width = Field(
        default=0.05,
        description="standard deviation of the hold along the contour",
        json_schema_extra={"unit": "contour"},
    )
    sure_width: Width = Field(
        default=0.1,
        description="standard deviation of how sure a point is along the contour",
        json_schema_extra={"unit": "contour"},
    )
