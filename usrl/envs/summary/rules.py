"""From a score for each frame to a summary: which frames are kept.

Every rule keeps exactly `count_kept` frames or, if it keeps whole shots, as many of them as fit into that.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from usrl.data.sample import FloatArray
from usrl.errors import UserError

WINDOW = 5
"""Frames of a window."""
RULES = ("windows", "shots")
_MIN_SHOT = 5
"""Frames of a shot, on average, at the least."""
MAX_SHOT_FRAMES = 2000
"""Longest clip that is divided into shots: time and memory grow with the square of the frames and more."""


def count_kept(lengths: Tensor, share: float) -> Tensor:
    """Return how many frames a summary of each clip keeps: the share of them, rounded, at least 1, (B,)."""
    return (lengths * share).round().long().clamp_min(1).minimum(lengths)


def keep_windows(scores: Tensor, lengths: Tensor, share: float) -> Tensor:
    """Return the frames of the best windows, bool, (B, T).

    The score of a window of five frames that follow each other is their mean. Windows are taken from the
    best on, each with its frames, until `count_kept` frames are kept. Of the last window only as many as are
    needed are taken, the best first. Of equal ones the earlier comes first. In a clip of fewer than five
    frames, each frame is a window.

    Mathews et al. keep the best 15% of windows. These overlap, so that the frames in them may be 15% of the
    clip or several times as many. Taken until the share of frames is full, every method keeps the same
    number.

    Args:
        scores: Of each frame, float32, (B, T), finite.
        lengths: Frames of each clip, int64, (B,); scores beyond do not matter.
        share: Share of frames to keep.
    """
    worth = _best_window(scores, lengths)
    is_frame = torch.arange(scores.shape[1], device=scores.device) < lengths[:, None]
    # By the worth of the window, then by the score: stable sorts from the last criterion to the first.
    order = scores.argsort(dim=1, descending=True, stable=True)
    ranked = worth.masked_fill(~is_frame, -torch.inf).gather(1, order)
    order = order.gather(1, ranked.argsort(dim=1, descending=True, stable=True))
    is_taken = torch.arange(scores.shape[1], device=scores.device) < count_kept(lengths, share)[:, None]
    return torch.zeros_like(is_frame).scatter(1, order, is_taken)


def _best_window(scores: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean of the best window that holds each frame, (B, T)."""
    places = scores.shape[1]
    if places < WINDOW:
        return scores
    sums = F.pad(scores.double().cumsum(dim=1), (1, 0))  # (B, T + 1)
    means = ((sums[:, WINDOW:] - sums[:, :-WINDOW]) / WINDOW).to(scores.dtype)  # (B, T - 4), by first frame
    first = torch.arange(means.shape[1], device=scores.device)
    means = means.masked_fill(first + WINDOW > lengths[:, None], -torch.inf)
    padded = F.pad(means, (WINDOW - 1, WINDOW - 1), value=-torch.inf)
    best = padded.unfold(1, WINDOW, 1).amax(dim=2)
    return torch.where(lengths[:, None] < WINDOW, scores, best)


def keep_shots(scores: Tensor, features: Tensor, lengths: Tensor, share: float) -> Tensor:
    """Return the frames of the shots that a knapsack takes, bool, (B, T).

    Kernel temporal segmentation divides each clip into shots (`find_shots`). A shot is worth its mean score
    times its frames, and the knapsack takes the shots that are worth most together and have at most
    `count_kept` frames. So it may keep fewer frames than `keep_windows`. Scores are moved so that the lowest
    of a clip is 0: a shot never costs anything.

    Args:
        scores: Of each frame, float32, (B, T), finite.
        features: float32, (B, T, F).
        lengths: Frames of each clip, int64, (B,).
        share: Share of frames to keep.
    """
    kept = np.zeros(scores.shape, np.bool_)
    limits = count_kept(lengths, share).tolist()
    values, own = scores.detach().cpu().numpy(), features.detach().cpu().numpy()
    for row, (length, limit) in enumerate(zip(lengths.tolist(), limits, strict=True)):
        bounds = find_shots(own[row, :length])
        worth = values[row, :length] - values[row, :length].min()
        sums = np.add.reduceat(worth, bounds[:-1]) + 1e-6  # of equal ones, more frames
        for shot in fill_knapsack(np.diff(bounds), sums, limit):
            kept[row, bounds[shot] : bounds[shot + 1]] = True
    return torch.from_numpy(kept).to(scores.device)


def find_shots(features: FloatArray) -> NDArray[np.int64]:
    """Return the first frame of each shot, and the number of frames, int64, (shots + 1,).

    The shots minimise the mean squared distance of features to the mean of their shot, plus a penalty on the
    number m of borders: m / T * (log(T / m) + 1) times the mean squared distance to the mean of the clip.
    There are at most as many shots as make five frames on average.

    Args:
        features: Of the frames of one clip, float32, (T, F).

    Raises:
        UserError: If there are more than `MAX_SHOT_FRAMES` frames.

    Source:
        Potapov, Douze, Harchaoui, Schmid (2014), Category-specific video summarization, ECCV,
        doi:10.1007/978-3-319-10599-4_35.
    """
    count = len(features)
    if count > MAX_SHOT_FRAMES:
        raise UserError(
            f"rule: shots are looked for in clips of at most {MAX_SHOT_FRAMES} frames, got {count}; choose "
            "rule=windows, or cut the clip into parts"
        )
    cost = _scatter(features)
    most = max(1, count // _MIN_SHOT)
    # best[m, t]: the least cost of the first t frames in m + 1 shots; last[m, t]: where the last shot begins
    best = np.full((most, count + 1), np.inf)
    last = np.zeros((most, count + 1), np.int64)
    best[0, 1:] = cost[0, 1:]
    for borders in range(1, most):
        total = best[borders - 1, :, None] + cost  # (T + 1, T + 1): the last shot is from row to column
        last[borders] = total.argmin(axis=0)
        best[borders] = total.min(axis=0)
    m = np.arange(most)
    penalty = m * (np.log(count / np.maximum(m, 1)) + 1) / count
    chosen = int((best[:, count] / count + penalty * cost[0, count] / count).argmin())
    bounds = [count]
    for number in range(chosen, 0, -1):
        bounds.append(int(last[number, bounds[-1]]))
    return np.array([0, *bounds[::-1]], np.int64)


def _scatter(features: FloatArray) -> NDArray[np.float64]:
    """Return the sum of squared distances to their mean of the frames from row up to column, (T + 1, T + 1).

    It is infinite where there is no frame.
    """
    values = features.astype(np.float64)
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])  # (T + 1, F)
    squares = np.concatenate([[0.0], np.square(values).sum(axis=1).cumsum()])
    gram = sums @ sums.T
    norms = np.diag(gram)
    of_sum = norms[:, None] + norms[None] - 2 * gram  # |the sum of the frames from row up to column|^2
    count = np.arange(len(sums))[None] - np.arange(len(sums))[:, None]
    scatter = squares[None] - squares[:, None] - of_sum / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, np.maximum(scatter, 0), np.inf))


def fill_knapsack(sizes: NDArray[np.int64], values: NDArray[np.floating], limit: int) -> list[int]:
    """Return the items, in order, that are worth most together and have at most a total size.

    Args:
        sizes: Of each item, at least 1, (N,).
        values: Of each item, (N,), none negative.
        limit: Largest total size.
    """
    best = np.zeros((len(sizes) + 1, limit + 1))
    for item, (size, value) in enumerate(zip(sizes.tolist(), values.tolist(), strict=True), start=1):
        best[item] = best[item - 1]
        if size <= limit:
            best[item, size:] = np.maximum(best[item, size:], best[item - 1, : limit + 1 - size] + value)
    chosen, left = [], limit
    for item in range(len(sizes), 0, -1):
        if best[item, left] != best[item - 1, left]:
            chosen.append(item - 1)
            left -= int(sizes[item - 1])
    return chosen[::-1]
