"""Settings of clip summaries."""

from typing import Literal

from pydantic import Field, model_validator

from usrl.strict import Strict


class SummarySettings(Strict):
    """Arguments of `usrl.envs.summary.task.SummaryTask`, which explains the choices."""

    action: Literal["frames", "sequential"] = Field(
        default="frames", description="all frames in one step, or one frame after the other"
    )
    observation: Literal["features", "image"] = Field(default="features", description="what the agent sees")
    latents: Literal["all", "classifier", "autoencoder", "segmentation"] = Field(
        default="all", description="which features are seen and rewarded"
    )
    features: str = Field(default="summary-features", description="run whose networks give the features")
    frames: int = Field(
        default=160,
        ge=2,
        le=100_000,
        description="T, places for the frames of a clip, or as many as the longest clip has",
        json_schema_extra={"unit": "frames"},
    )
    share: float = Field(default=0.15, gt=0, le=1, description="share of the frames that a summary keeps")
    rule: Literal["windows", "shots"] = Field(
        default="windows", description="how scores of frames become a summary"
    )
    apart: int = Field(
        default=20,
        ge=0,
        le=100_000,
        description="frames that are farther apart count as different",
        json_schema_extra={"unit": "frames"},
    )
    abnormality: float = Field(
        default=0.0, ge=0, le=1e3, description="weight of the abnormality of kept frames in the reward"
    )
    sharpness: float = Field(
        default=0.0, ge=0, le=1e3, description="weight of the sharpness of kept frames in the reward"
    )
    share_penalty: float = Field(
        default=0.0, ge=0, le=1e3, description="cost of a share that is one off the wanted one"
    )
    budget: bool = Field(
        default=False, description="whether one frame after the other keeps exactly the wanted share"
    )

    @model_validator(mode="after")
    def _check(self) -> "SummarySettings":
        if self.budget and self.action != "sequential":
            raise ValueError("budget: frames are kept all at once; set action='sequential', or leave it out")
        return self
