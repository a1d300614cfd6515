"""How much a method disagrees with itself on an image. This needs no target.

All values are in [0, 1], unitless. If nothing was found, both measures are 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from usrl.data.sample import BoolMask
from usrl.metrics.overlap import check_masks, dice


def vote(masks: Sequence[BoolMask]) -> BoolMask:
    """Return the pixels of at least half of one or more masks, bool (H, W) each.

    A tie counts as inside, because the threshold that is best for Dice is never above one half.
    """
    return np.asarray(2 * np.sum(masks, axis=0, dtype=np.int32) >= len(masks), np.bool_)


def measure_spread(masks: Sequence[BoolMask], united: BoolMask) -> float:
    """Return one minus the mean Dice of the masks and their union by `vote`, bool (H, W) each.

    Raises:
        UserError: If the shapes differ.
    """
    agreement = float(np.mean([dice(mask, united) for mask in masks]))
    return 1 - agreement if united.any() else 1.0


def measure_softness(probability: NDArray[np.float32], mask: BoolMask) -> float:
    """Return one minus the soft Dice of a probability and its mask, 2 sum(p m) / (sum p + sum m).

    It is 0 if the probability is 0 or 1 everywhere, and grows as pixels become undecided.

    Args:
        probability: float in [0, 1], (H, W).
        mask: Pixels whose probability is above the threshold, bool, (H, W).

    Raises:
        UserError: If the shapes differ.
    """
    check_masks(probability > 0, mask)
    if not mask.any():
        return 1.0
    inside = float(probability.sum(where=mask, dtype=np.float64))
    return 1 - 2 * inside / (float(probability.sum(dtype=np.float64)) + int(mask.sum()))
