"""Counts of the target on the CPU: compiled loops, see `usrl.compute.compiled`."""

import numpy as np
from numpy.typing import NDArray

from usrl.compute.compiled import compiled


@compiled
def count_target(
    labels: NDArray[np.uint8], target: int, standard: NDArray[np.bool_], body: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return counts of each slice, (B, 4); see `usrl.envs.probe.task.count_target_tensors`."""
    batch, side, _ = labels.shape
    counts = np.zeros((batch, 4), np.int64)
    for b in range(batch):
        for row in range(side):
            for column in range(side):
                is_target, is_standard = labels[b, row, column] == target, standard[body[b], row, column]
                counts[b, 0] += is_target
                counts[b, 1] += is_standard
                counts[b, 2] += is_target and is_standard
                counts[b, 3] += column * is_target
    return counts
