"""Where an image is in the picture that its file holds: scanners draw it into a frame with text around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask, Box

Region = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels of a frame, ends excluded."""


@dataclass(frozen=True)
class Frame:
    """The picture in a file.

    Attributes:
        shape: (H, W) of the picture, px.
        region: Where the image is; None if it is the whole picture.
        note: What a user should check of it; empty if there is nothing.
    """

    shape: tuple[int, int]
    region: Region | None = None
    note: str = ""

    @property
    def image_shape(self) -> tuple[int, int]:
        """(H, W) of the image, px."""
        if self.region is None:
            return self.shape
        x0, y0, x1, y1 = self.region
        return y1 - y0, x1 - x0

    def crop(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the image's part of pixels, (H, W, ...), of the picture; other shapes as they are."""
        if self.region is None or pixels.shape[:2] != self.shape:
            return pixels
        x0, y0, x1, y1 = self.region
        return pixels[y0:y1, x0:x1]

    def place(self, mask: BoolMask) -> BoolMask:
        """Return a mask of the image, bool, (H, W), as one of the picture."""
        if self.region is None:
            return mask
        x0, y0, x1, y1 = self.region
        whole = np.zeros(self.shape, np.bool_)
        whole[y0:y1, x0:x1] = mask
        return whole

    def into_image(self, box: Box) -> Box:
        """Return a box in pixels of the picture as one in pixels of the image."""
        x, y = (0, 0) if self.region is None else self.region[:2]
        return box[0] - x, box[1] - y, box[2] - x, box[3] - y

    def into_frame(self, box: Sequence[float]) -> list[float]:
        """Return a box in pixels of the image as one in pixels of the picture."""
        x, y = (0, 0) if self.region is None else self.region[:2]
        return [box[0] + x, box[1] + y, box[2] + x, box[3] + y]
