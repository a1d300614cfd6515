"""What an environment brings along so that its agents can segment native images.

A placement is named by the environment's row in `usrl.registry`. `usrl.agents.segmenter.AgentSegmenter` does
the rest for every environment: prompts, proposers, playing, several starts, votes, films and ceilings.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask, GrayImage, Prompt


@dataclass(frozen=True, eq=False)
class Place:
    """Where episodes begin on a native image.

    Attributes:
        image: uint8, (H, W).
        boxes: The user's boxes, native px; None with a found mask, or if the environment takes none.
        found: A proposer's mask, bool, (H, W); None if there is no proposer.
        starts: How many starts to make, at least 1; `usrl.data.prompts.start_boxes` moves their boxes.
        target: The true mask, bool, (H, W), if pictures or a ceiling need it.
    """

    image: GrayImage
    boxes: Prompt | None = None
    found: BoolMask | None = None
    starts: int = 1
    target: BoolMask | None = None


class Episodes(Protocol):
    """Episodes on one native image, begun and not played yet."""

    @property
    def task(self) -> Any:
        """The task over the image. Its spaces depend on the settings alone."""

    @property
    def state(self) -> Any:
        """The state that the episodes begin in, ``starts`` times B: the same B boxes or components each time.

        None if the image has no box or component to play on.
        """

    @property
    def proposal(self) -> BoolMask:
        """The mask that the first start begins from, bool, (H, W)."""

    @property
    def kept(self) -> BoolMask:
        """What is left as it is because it is too small to play on, bool, (H, W)."""

    def masks(self, state: Any) -> list[BoolMask]:
        """Return the mask of every row of a batch like ``state`` in native pixels, bool, (H, W) each."""

    def draw(self, state: Any) -> NDArray[np.uint8]:
        """Return a picture of a batch like ``state``, uint8, (h, w, 3), with the target if it is known."""

    def reach(self) -> BoolMask:
        """Return the best mask that could be made of the proposal, bool, (H, W). This needs the target."""


class Placement(Protocol):
    """Begins episodes on native images. It is made as ``placement(settings, horizon, size, device)``.

    ``settings`` are the environment's, checked; ``horizon`` is the step limit, ``size`` the side of the
    working image in px, and ``device`` is where the task computes.
    """

    @property
    def takes_boxes(self) -> bool:
        """Whether episodes begin from boxes or a found mask. Otherwise they see the whole image."""

    def begin(self, place: Place) -> Episodes:
        """Return episodes on an image. Their task and states may be made when they are first asked for."""
