"""The seam of evaluation: anything that maps an image and a prompt to a mask."""

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask, GrayImage, Prompt

Track = Literal["prompted", "automatic"]


class Segmenter(Protocol):
    """Maps a native image, and boxes where it is prompted, to a mask of the same shape.

    Attributes:
        name: Row label in tables.
        track: ``"prompted"`` needs boxes, ``"automatic"`` ignores them.
    """

    name: str
    track: Track

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask of one image.

        Args:
            image: uint8, shape (H, W).
            prompt: Boxes; None where there are none.

        Returns:
            Mask, bool, shape (H, W).

        Raises:
            UserError: If the track is prompted and there is no prompt, or a box is outside the image
                or has no area.
        """


@runtime_checkable
class Refiner(Segmenter, Protocol):
    """A segmenter that starts from a proposal and improves it step by step: an agent."""

    def propose(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask that the refinement starts from, bool, shape (H, W)."""

    def oracle(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the mask that the teacher reaches from the same proposal, bool, shape (H, W)."""

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step of the refinement, uint8, shape (h, w, 3), proposal first."""
