"""Random numbers whose ranges widen with the variety of a simulated data set."""

import numpy as np


class Draws(np.random.Generator):
    """A generator that knows how far looks may leave the usual.

    Args:
        seed: Seed and position of an image.
        variety: 0 for the usual ranges, 1 for the wide ones.
    """

    def __init__(self, seed: list[int], variety: float = 0.0) -> None:
        super().__init__(np.random.SFC64(seed))
        self.variety = variety

    def within(self, usual: tuple[float, float], wide: tuple[float, float]) -> float:
        """Draw uniformly from a range between the usual and the wide one; equal draws at variety 0."""
        low, high = (a + self.variety * (b - a) for a, b in zip(usual, wide, strict=True))
        return float(self.uniform(low, high))
