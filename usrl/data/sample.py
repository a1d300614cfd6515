"""One image with its reference mask: what every dataset is a sequence of."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from usrl.errors import UserError

GrayImage = NDArray[np.uint8]
BoolMask = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the native image."""
Prompt = tuple[Box, ...]
"""Bounding boxes, one per lesion component."""
DEFAULT_JITTER = 0.2
MAX_JITTER = 0.45
"""From half on, the two sides of a box could change places."""
Jitter = Annotated[float, Field(ge=0, le=MAX_JITTER)]
"""Largest move of a box's side, as a share of the box's width or height."""
Track = Literal["prompted", "automatic"]
"""Whether a method needs boxes or ignores them."""


@dataclass(frozen=True)
class Sample:
    """An ultrasound image and its reference segmentation at native resolution.

    Attributes:
        image: Gray image, uint8, shape (H, W).
        target: Reference mask, bool, shape (H, W); all False where there is no lesion.
        spacing_mm: (row, column) pixel size in millimetres, or None where unknown.
        name: Unique within its dataset.
        group: Patient, exam or near-duplicate cluster; a group never straddles two splits.
        source: Dataset and class, such as ``"busi/benign"``; splits are stratified by it.

    Raises:
        UserError: If the arrays differ in shape or have another type than stated.
    """

    image: GrayImage
    target: BoolMask
    spacing_mm: tuple[float, float] | None
    name: str
    group: str
    source: str

    def __post_init__(self) -> None:
        """Check types and shapes once, so that nothing downstream has to."""
        if self.image.dtype != np.uint8 or self.image.ndim != 2:
            raise UserError(
                f"{self.name}: image must be uint8 of shape (H, W), "
                f"got {self.image.dtype} {self.image.shape}; convert it to 8-bit gray"
            )
        if self.target.dtype != np.bool_ or self.target.shape != self.image.shape:
            raise UserError(
                f"{self.name}: target must be bool of shape {self.image.shape}, "
                f"got {self.target.dtype} {self.target.shape}; pass mask > 127 at the size of its image"
            )
