"""Scores of a segmentation over time: how much overlaps frame by frame, and how much it flickers."""

import numpy as np
from numpy.typing import NDArray

from usrl.errors import UserError

BoolMasks = NDArray[np.bool_]


def frame_dice(first: BoolMasks, second: BoolMasks) -> NDArray[np.float64]:
    """Return the Dice overlap of masks frame by frame, float64, (T,), of bool (T, H, W) each.

    Both empty gives 1; exactly one empty gives 0.

    Raises:
        UserError: If the masks are no clips of one shape.
    """
    if first.ndim != 3 or first.shape != second.shape or first.dtype != bool or second.dtype != bool:
        raise UserError(
            f"masks of a clip must be bool of one shape (T, H, W), got {first.dtype} {first.shape} and "
            f"{second.dtype} {second.shape}; pass one mask for each frame"
        )
    total = first.sum(axis=(1, 2)) + second.sum(axis=(1, 2))
    shared = (first & second).sum(axis=(1, 2))
    return np.where(total > 0, 2 * shared / np.maximum(total, 1), 1.0)


def clip_dice(pred: BoolMasks, target: BoolMasks) -> float:
    """Return the mean Dice over the frames that have a target, in [0, 1].

    Args:
        pred: Predicted masks, bool, (T, H, W).
        target: Reference masks, bool, (T, H, W).

    Raises:
        UserError: If no frame has a target, or shapes or types differ.
    """
    scores, shown = frame_dice(pred, target), target.any(axis=(1, 2))
    if not shown.any():
        raise UserError("the Dice of a clip is over frames with a target, and no frame has one; leave it out")
    return float(scores[shown].mean())


def false_frames(pred: BoolMasks, target: BoolMasks) -> float:
    """Return the share of the frames without a target in which something is found; 0 if all have a target."""
    empty = ~target.any(axis=(1, 2))
    return float(pred[empty].any(axis=(1, 2)).mean()) if empty.any() else 0.0


def flicker(pred: BoolMasks, target: BoolMasks) -> float:
    """Return how much masks change from frame to frame beyond the target's own change, in [0, 1].

    With D the Dice overlap of `frame_dice`, P the predicted masks and G the target's, over the T - 1 pairs of
    neighbouring frames it is the mean of

        max(0, D(G[t], G[t+1]) - D(P[t], P[t+1]))

    so that a prediction that moves and vanishes as the target does has none. One that moves less than the
    target has none either; its error is seen in the Dice.

    Args:
        pred: Predicted masks, bool, (T, H, W), T at least 2.
        target: Reference masks, bool, (T, H, W).

    Raises:
        UserError: If there are fewer than two frames, or shapes or types differ.
    """
    if len(pred) < 2:
        raise UserError(f"flicker is between neighbouring frames, got {len(pred)}; pass a clip")
    frame_dice(pred, target)  # checks shapes and types
    excess = frame_dice(target[:-1], target[1:]) - frame_dice(pred[:-1], pred[1:])
    return float(np.maximum(excess, 0).mean())
