"""Clips, and clips as cases of episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.data.cases import Cases
from usrl.data.letterbox import Letterbox
from usrl.errors import UserError

CLIPS = "clips"
"""Kind of these cases."""


@dataclass(frozen=True)
class Clip:
    """An ultrasound clip.

    Attributes:
        frames: Gray frames, uint8, shape (T, H, W).
        fps: Frames a second.
        spacing_mm: (row, column) pixel size in millimetres, or None if it is unknown.
        name: Unique within its data set.
        group: Patient, exam or seed; a group is never divided among splits.
        source: Data set and class; splits are stratified by it.
        masks: Target in each frame, bool, (T, H, W), or None if there are no masks.
        informative: Frames that a summary should keep, bool, (T,), or None if they are unknown.
        labels: What is known of the whole clip, such as ``{"severity": 2}``.

    Raises:
        UserError: If the arrays differ in shape or have another type, there are fewer than two frames, or the
            rate is not positive.
    """

    frames: NDArray[np.uint8]
    fps: float
    spacing_mm: tuple[float, float] | None
    name: str
    group: str
    source: str
    masks: NDArray[np.bool_] | None = None
    informative: NDArray[np.bool_] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check types and shapes once for all readers."""
        frames = self.frames
        if frames.dtype != np.uint8 or frames.ndim != 3 or len(frames) < 2 or frames.size == 0:
            raise UserError(
                f"{self.name}: frames must be uint8 of shape (T, H, W) with at least two frames, got "
                f"{frames.dtype} {frames.shape}; convert them to 8-bit gray, and read an image as an image"
            )
        wanted = {"masks": frames.shape, "informative": frames.shape[:1]}
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value is not None and (value.dtype != np.bool_ or value.shape != shape):
                raise UserError(
                    f"{self.name}: {name} must be bool of shape {shape}, got {value.dtype} {value.shape}; "
                    "pass one for each frame"
                )
        if not np.isfinite(self.fps) or self.fps <= 0:
            raise UserError(
                f"{self.name}: fps must be positive, got {self.fps}; pass the frames a second of the clip"
            )


@dataclass(frozen=True)
class Clips(Cases):
    """Clips on one device. Frames of all clips follow each other, N in all, each held once.

    Attributes:
        frames: Letterboxed frames, uint8, (N, S, S).
        first: Place of each clip's first frame, int64, (M,).
        lengths: Frames of each clip, int64, (M,).
        informative: Frames that a summary should keep, bool, (N,), or None if a clip's are unknown.
        masks: Target in each frame, bool, (N, S, S), or None if a clip has no masks.
        labels: What is known of each whole clip.
    """

    kind: ClassVar[str] = CLIPS
    frames: Tensor
    first: Tensor
    lengths: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    informative: Tensor | None = None
    masks: Tensor | None = None
    labels: tuple[Mapping[str, int], ...] = ()

    @classmethod
    def from_clips(cls, clips: Sequence[Clip], size: int) -> "Clips":
        """Hold clips whose frames are letterboxed to a side of ``size`` px.

        Raises:
            UserError: If there is no clip.
        """
        if not clips:
            raise UserError("cases of clips need at least one clip, got none; check the data set's split")
        lengths = torch.tensor([len(clip.frames) for clip in clips])
        boxes = [Letterbox.fit(clip.frames.shape[1:], size) for clip in clips]
        frames = [box.image(frame) for box, clip in zip(boxes, clips, strict=True) for frame in clip.frames]
        masks = informative = None
        if all(clip.masks is not None for clip in clips):
            pairs = zip(boxes, clips, strict=True)
            targets = [box.target(mask) for box, clip in pairs for mask in clip.masks]  # type: ignore[union-attr]
            masks = torch.from_numpy(np.stack(targets))
        if all(clip.informative is not None for clip in clips):
            informative = torch.from_numpy(np.concatenate([clip.informative for clip in clips]))
        return cls(
            frames=torch.from_numpy(np.stack(frames)),
            first=lengths.cumsum(0) - lengths,
            lengths=lengths,
            names=tuple(clip.name for clip in clips),
            groups=tuple(clip.group for clip in clips),
            informative=informative,
            masks=masks,
            labels=tuple(clip.labels for clip in clips),
        )
