"""Rewards and scores of a summary: pure functions of features and kept frames, over a batch of clips.

A clip has L frames; a batch has places for T frames, of which the first L of a clip are frames. Features x_t
have length 1, and are zero beyond the clip. The set K holds the k kept frames.

Source:
    Zhou, Qiao, Xiang (2018), Deep reinforcement learning for unsupervised video summarization with
    diversity-representativeness reward, AAAI, arXiv:1801.00054; Mathews et al. (2021), Unsupervised
    multi-latent space reinforcement learning framework for video summarization in ultrasound imaging,
    arXiv:2109.01309.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FARTHEST = 4.0
"""Largest squared distance of two features of length 1."""


def measure_diversity(similar: Tensor, kept: Tensor, apart: int) -> Tensor:
    """Return how different the kept frames are from each other, R_div, float32, (B,).

    R_div = 1 / (k (k - 1)) * the sum of d(s, t) over all ordered pairs s, t of K with s != t, where
    d(s, t) = 1 - x_s . x_t if |s - t| <= apart, and 1 if the frames are farther apart in time. It is 0 if
    fewer than two frames are kept.

    Args:
        similar: Products x_s . x_t of features, float32, (B, T, T).
        kept: Kept frames, bool, (B, T).
        apart: Frames that are more than this apart count as different.
    """
    places = torch.arange(kept.shape[1], device=kept.device)
    away = (places[:, None] - places).abs()  # (T, T)
    near = ((away <= apart) & (away > 0)).float()
    chosen = kept.float()
    alike = ((similar * near) @ chosen[..., None])[..., 0]  # (B, T): of a frame with the kept ones
    count = chosen.sum(dim=1)
    pairs = count * (count - 1)
    return torch.where(pairs > 0, 1 - (alike * chosen).sum(dim=1) / pairs.clamp_min(1), 0.0)


def measure_representativeness(similar: Tensor, kept: Tensor, lengths: Tensor) -> Tensor:
    """Return how near all frames are to a kept one, R_rep, float32, (B,).

    R_rep = exp(-1 / L * the sum over the frames t of the smallest |x_t - x_s|^2 over s in K). It is 0 if no
    frame is kept.

    Args:
        similar: Products x_s . x_t of features of length 1, float32, (B, T, T).
        kept: Kept frames, bool, (B, T).
        lengths: L of each clip, int64, (B,).
    """
    most = similar.masked_fill(~kept[:, None], -1).amax(dim=2)
    return exponentiate_nearest((2 - 2 * most).clamp(0, FARTHEST), lengths) * kept.any(dim=1)


def exponentiate_nearest(nearest: Tensor, lengths: Tensor) -> Tensor:
    """Return R_rep, (B,), of the smallest squared distances to a kept frame, (B, T), if one is kept."""
    is_frame = torch.arange(nearest.shape[1], device=nearest.device) < lengths[:, None]
    return torch.exp(-(nearest * is_frame).sum(dim=1) / lengths)


def measure_mean(values: Tensor, kept: Tensor) -> Tensor:
    """Return the mean value of the kept frames, float32, (B,); 0 if no frame is kept.

    Of the abnormality it is R_cls, and of the sharpness R_sharp.

    Args:
        values: Of each frame, from 0 to 1, float32, (B, T).
        kept: Kept frames, bool, (B, T).
    """
    return (values * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1)


def measure_share(kept: Tensor, lengths: Tensor) -> Tensor:
    """Return the share of frames that are kept, k / L, float32, (B,)."""
    return kept.sum(dim=1) / lengths


@dataclass(frozen=True)
class Weights:
    """Weights of the optional parts of the reward."""

    abnormality: float = 0.0
    sharpness: float = 0.0

    def combine(
        self, diversity: Tensor, representativeness: Tensor, abnormality: Tensor, sharpness: Tensor
    ) -> Tensor:
        """Return R = (R_div + R_rep + a R_cls + s R_sharp) / (2 + a + s), float32, (B,).

        a and s are the weights. If both are 0, it is the mean of R_div and R_rep, as in Zhou et al.
        """
        extra = self.abnormality * abnormality + self.sharpness * sharpness
        return (diversity + representativeness + extra) / (2 + self.abnormality + self.sharpness)


def measure_overlap(kept: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Return ``f1``, ``precision`` and ``recall`` of kept frames against known ones, float32, (B,) each.

    precision = |K and G| / k, recall = |K and G| / |G|, and f1 = 2 |K and G| / (k + |G|), where G holds the
    known frames. A ratio of 0 to 0 is 0; but f1 is 1 if no frame is known and none is kept.

    Args:
        kept: Kept frames, bool, (B, T).
        known: Frames that a summary should keep, bool, (B, T).
    """
    hits, count, wanted = ((part.sum(dim=1)).float() for part in (kept & known, kept, known))
    both = count + wanted
    return {
        "f1": torch.where(both > 0, 2 * hits / both.clamp_min(1), 1.0),
        "precision": hits / count.clamp_min(1),
        "recall": hits / wanted.clamp_min(1),
    }
