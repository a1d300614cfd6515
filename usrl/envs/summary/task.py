"""Clip summaries: which frames of a clip are worth keeping?"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.data.clips.clips import Clips
from usrl.envs.summary.drawing import draw_summary
from usrl.envs.summary.rewards import (
    FARTHEST,
    Weights,
    exponentiate_nearest,
    measure_diversity,
    measure_mean,
    measure_overlap,
    measure_representativeness,
    measure_share,
)
from usrl.envs.summary.rules import count_kept, keep_shots, keep_windows
from usrl.envs.summary.settings import SummarySettings
from usrl.envs.task import State
from usrl.errors import UserError
from usrl.features.networks import LATENTS, Latents
from usrl.features.table import FeatureTable

EXTRAS = 6
"""Numbers that follow the features in a sequential observation."""
COLUMNS = 3
"""Numbers that follow the features of a frame: abnormality, sharpness and the wanted share."""


@dataclass(frozen=True)
class SummaryState(State):
    """State of a batch of summaries.

    Attributes:
        kept: Frames that are kept so far, bool, (B, T).
        nearest: Smallest squared distance of each frame's features to those of a kept one, float32, (B, T).
        alike: Sum of the similarities of kept frames that are not too far apart, over ordered pairs,
            float32, (B,).
        value: Reward so far, float32, (B,).
    """

    kept: Tensor
    nearest: Tensor
    alike: Tensor
    value: Tensor


class SummaryTask:
    """Keep the frames of an ultrasound clip that are worth keeping.

    Description:
        A clip has many frames, and a reader has little time. The agent keeps a share of the frames, without
        ever being told which are good: it is rewarded for frames that differ from each other and together
        stand for the clip, measured by features of three small networks. Where the good frames are known, as
        in simulated clips, only scores use them.

    Action Space:
        | action | space | meaning |
        | --- | --- | --- |
        | `frames` | `MultiBinary(T)` | 1 keeps a frame, 0 does not; one step is the episode |
        | `sequential` | `Discrete(2)` | 1 keeps the present frame, 0 does not; the next frame follows |

        Clips differ in length. T is `frames`, or the length of the longest clip if that is more. A clip of L
        frames has T - L places of padding behind it. The part of an action that is about padding does
        nothing.

        `budget` (with `sequential`) keeps exactly as many frames as `share` says: further ones are not
        kept, and the last frames are kept if otherwise too few would be.

    Observation Space:
        | action | observation | space | content |
        | --- | --- | --- | --- |
        | `frames` | `features` | `Box(-1, 1, (T, F + 3))`, float32 | see below; padding is 0 |
        | `frames` | `image` | `Box(0, 255, (T, S, S))`, uint8 | the frames; padding is 0 |
        | `sequential` | `features` | `Box(-1, 1, (2 F + 6,))`, float32 | see below |
        | `sequential` | `image` | `Box(0, 255, (4, S, S))`, uint8 | see below |

        F features describe a frame: 32 of each of the networks of `summary-features`, or of one of them with
        `latents`. Features of one network have length 1, and all together have length 1 too. Then follow
        the probability that the frame is not normal, by the frame classifier, and the rank of its sharpness
        in the clip, from 0 to 1. The last column is `share` for a frame and 0 for padding, so it tells both
        what is wanted and what is a frame.

        Sequential features are those of the present frame; the mean of those of the kept frames, 0 if there
        are none; the present frame's probability and rank; its smallest squared distance to a kept frame,
        divided by 4; the number of kept frames divided by the number wanted, at most 1; the elapsed share of
        the clip; and the time since a frame was kept, in units of `apart`, at most 1. Sequential images are
        the present frame, the last kept one, and two planes of one gray level: kept frames by wanted ones,
        and elapsed time.

    Rewards:
        R = (R_div + R_rep + a R_cls + s R_sharp) / (2 + a + s), where a is `abnormality` and s is
        `sharpness`, both 0 by default. With k kept frames in a set K, features x of length 1 and L frames:

        | part | formula | if k = 0 |
        | --- | --- | --- |
        | R_div | mean over pairs of K of 1 - x_s . x_t, or of 1 if more than `apart` frames apart | 0 |
        | R_rep | exp(-mean over all frames t of the smallest squared distance of x_t to x_s, s in K) | 0 |
        | R_cls | mean probability of the frame classifier that a kept frame is not normal | 0 |
        | R_sharp | mean rank of the sharpness of a kept frame in its clip, from 0 to 1 | 0 |

        R_div of one frame is 0. `share_penalty` times the distance of k / L from `share` is taken away. With
        `frames`, the one reward is R less the penalty. With `sequential`, each step is rewarded by the change
        of that figure, so that the sum over an episode is the same.

    Starting State:
        A clip, uniformly at random. No frame is kept.

    Episode End:
        Termination after one step (`frames`), or after the last frame (`sequential`). Truncation at the step
        limit, 160 by default; frames that were not reached are not kept.

    Info:
        `score` is R without the penalty; `diversity` is R_div, `representativeness` R_rep, `abnormality`
        R_cls, `sharpness` R_sharp; `share` is k / L. If the good frames of all clips are known, `f1`,
        `precision` and `recall` of the kept frames.

    Arguments:
        See `SummarySettings`; ``usrl envs usrl/VideoSummary-v0`` prints them with their defaults.

        `rule` turns scores of frames into a summary, the same way for every player: `windows` keeps the best
        windows of five frames until `share` of the frames is kept, and `shots` fills a knapsack of that size
        with shots from kernel temporal segmentation (`usrl.envs.summary.rules`).

    Version History:
        v0: first version.

    References:
        Mathews, Panicker, Hareendranathan et al. (2021), Unsupervised multi-latent space reinforcement
        learning framework for video summarization in ultrasound imaging, arXiv:2109.01309; Zhou, Qiao, Xiang
        (2018), AAAI, arXiv:1801.00054 (R_div, R_rep). The sequential form and the simulated clips are ours.
    """

    def __init__(self, clips: Clips, settings: SummarySettings, horizon: int) -> None:
        """Find the networks that give the features.

        Raises:
            UserError: If `features` names no run of such networks.
        """
        self.cases = clips
        self.settings = settings
        self.is_sequential = settings.action == "sequential"
        self.horizon = horizon if self.is_sequential else 1
        self.table = FeatureTable.open(settings.features)
        self.places = max(settings.frames, int(clips.lengths.max()))
        kinds = len(LATENTS) if settings.latents == "all" else 1
        self.features_dim = kinds * self.table.width
        self._weights = Weights(settings.abnormality, settings.sharpness)
        self._range = torch.arange(self.places, device=clips.device)
        side = clips.frames.shape[-1]
        shape: tuple[int, ...]
        if settings.observation == "image":
            shape = (4 if self.is_sequential else self.places, side, side)
            self.observation_space: gym.Space[Any] = gym.spaces.Box(0, 255, shape, np.uint8)
        else:
            stepwise, at_once = (2 * self.features_dim + EXTRAS,), (self.places, self.features_dim + COLUMNS)
            shape = stepwise if self.is_sequential else at_once
            self.observation_space = gym.spaces.Box(-1, 1, shape, np.float32)
        self.action_space: gym.Space[Any] = (
            gym.spaces.Discrete(2) if self.is_sequential else gym.spaces.MultiBinary(self.places)
        )

    def reset(self, index: Tensor, keys: Tensor) -> SummaryState:
        """Begin episodes; see `Task.reset`."""
        zero = torch.zeros(len(index), device=index.device)
        kept = torch.zeros((len(index), self.places), dtype=torch.bool, device=index.device)
        nearest = torch.full_like(kept, FARTHEST, dtype=torch.float32)
        return SummaryState(index, torch.zeros_like(index), keys, kept, nearest, zero, zero)

    def step(self, state: SummaryState, action: Tensor) -> tuple[SummaryState, Tensor]:
        """Keep frames; see `Task.step`."""
        moved = self._keep_one(state, action) if self.is_sequential else self._keep_all(state, action)
        return moved, moved.value - state.value

    def observe(self, state: SummaryState) -> Tensor:
        """Return features or images; see `Task.observe`."""
        if self.is_sequential:
            show = self._show_image if self.settings.observation == "image" else self._show_features
            return show(state)
        is_frame = self.is_frame(state.index)[..., None]
        if self.settings.observation == "image":
            return self.cases.frames[self._rows(state.index)] * is_frame[..., None]
        wanted = torch.full_like(is_frame, self.settings.share, dtype=torch.float32) * is_frame
        numbers = torch.stack(self._rates(state.index), dim=2)
        return torch.cat([self.features(state.index), numbers, wanted], dim=2)

    def figures(self, state: SummaryState) -> dict[str, Tensor]:
        """Return parts of the reward, the share, and agreement with known frames; see `Task.figures`."""
        features, lengths = self.features(state.index), self.lengths(state.index)
        similar = features @ features.transpose(1, 2)  # (B, T, T)
        parts = {
            "diversity": measure_diversity(similar, state.kept, self.settings.apart),
            "representativeness": measure_representativeness(similar, state.kept, lengths),
            "abnormality": measure_mean(self.abnormality(state.index), state.kept),
            "sharpness": measure_mean(self.sharpness(state.index), state.kept),
        }
        score = self._weights.combine(**parts)
        figures = {"score": score} | parts | {"share": measure_share(state.kept, lengths)}
        if self.cases.informative is None:
            return figures
        return figures | measure_overlap(state.kept, self.known(state.index))

    def terminated(self, state: SummaryState) -> Tensor:
        """Return which summaries are complete; see `Task.terminated`."""
        return state.elapsed >= (self.lengths(state.index) if self.is_sequential else 1)

    def oracle_action(self, state: SummaryState) -> Tensor:
        """Return the known frames, or whether the present one is known. They may be more than `share`.

        Raises:
            UserError: If the good frames of a clip are not known.
        """
        known = self.known(state.index)
        if not self.is_sequential:
            return known.to(torch.int8)
        return known.gather(1, self._now(state)[:, None])[:, 0].long()

    def decide(self, state: SummaryState, scores: Tensor) -> Tensor:
        """Return the summary that `rule` makes of scores of frames, float32 (B, T): actions of `frames`."""
        return self.summarise(state.index, scores).to(torch.int8)

    def summarise(self, index: Tensor, scores: Tensor) -> Tensor:
        """Return the frames of clips that `rule` keeps by scores (B, T), bool, (B, T)."""
        lengths, share = self.lengths(index), self.settings.share
        if self.settings.rule == "windows":
            return keep_windows(scores, lengths, share)
        return keep_shots(scores, self.features(index), lengths, share)

    def render(self, state: SummaryState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one summary of the batch; see `Task.render`."""
        index = state.index[row : row + 1]
        length = int(self.lengths(index))
        first = int(self.cases.first[index])
        known = None if self.cases.informative is None else self.known(index)[0, :length].cpu().numpy()
        figures = {name: float(values[row]) for name, values in self.figures(state).items()}
        names = [name for name in ("score", "f1", "share") if name in figures]
        told = "   ".join(f"{name} {figures[name]:.2f}" for name in names)
        return draw_summary(
            self.cases.frames[first : first + length].cpu().numpy(),
            state.kept[row, :length].cpu().numpy(),
            known,
            int(state.elapsed[row]) if self.is_sequential else None,
            f"{self.cases.names[int(index)]}   {told}",
        )

    def lengths(self, index: Tensor) -> Tensor:
        """Return the frames of clips, int64, (B,)."""
        return self.cases.lengths[index]

    def is_frame(self, index: Tensor) -> Tensor:
        """Return which places of clips are frames and not padding, bool, (B, T)."""
        return self._range < self.lengths(index)[:, None]

    def features(self, index: Tensor) -> Tensor:
        """Return the features of clips, of length 1, and 0 in padding, float32, (B, T, F)."""
        kind = self.settings.latents
        vectors = self._latents.vectors
        chosen = vectors if kind == "all" else vectors[:, LATENTS.index(kind)].unsqueeze(1)
        scaled = chosen.flatten(1) / chosen.shape[1] ** 0.5  # (N, F)
        return scaled[self._rows(index)] * self.is_frame(index)[..., None]

    def abnormality(self, index: Tensor) -> Tensor:
        """Return the probability that frames are not normal, and 0 in padding, float32, (B, T)."""
        return self._latents.abnormality[self._rows(index)] * self.is_frame(index)

    def sharpness(self, index: Tensor) -> Tensor:
        """Return the rank of the sharpness of frames in their clip, and 0 in padding, float32, (B, T)."""
        return self._latents.sharpness[self._rows(index)] * self.is_frame(index)

    def images(self, index: Tensor) -> Tensor:
        """Return the frames of clips, uint8, (B, T, S, S); padding repeats the last one."""
        return self.cases.frames[self._rows(index)]

    def known(self, index: Tensor) -> Tensor:
        """Return the frames of clips that a summary should keep, bool, (B, T).

        Raises:
            UserError: If they are not known.
        """
        if self.cases.informative is None:
            raise UserError(
                "the good frames of these clips are not known, so there is no teacher; leave it out, or use "
                "simulated clips (lung)"
            )
        return self.cases.informative[self._rows(index)] & self.is_frame(index)

    @property
    def _latents(self) -> Latents:
        return self.cases.prepare(self.table)

    def _rates(self, index: Tensor) -> list[Tensor]:
        return [self.abnormality(index), self.sharpness(index)]

    def _rows(self, index: Tensor) -> Tensor:
        """Return the place of each frame among all frames, (B, T); padding has that of the last frame."""
        within = torch.minimum(self._range, self.lengths(index)[:, None] - 1)
        return self.cases.first[index][:, None] + within

    def _now(self, state: SummaryState) -> Tensor:
        """Return the place of the present frame, (B,); after the last frame, of the last."""
        return torch.minimum(state.elapsed, self.lengths(state.index) - 1)

    def _keep_all(self, state: SummaryState, action: Tensor) -> SummaryState:
        """Return the state after the one step of `frames`. An episode that has ended stays as it is."""
        is_open = (state.elapsed == 0)[:, None]
        kept = torch.where(is_open, (action > 0) & self.is_frame(state.index), state.kept)
        moved = state.replace(elapsed=state.elapsed + 1, kept=kept)
        return moved.replace(value=self.figures(moved)["score"] - self._penalty(moved))

    def _keep_one(self, state: SummaryState, action: Tensor) -> SummaryState:
        """Return the state after a frame was kept or not."""
        lengths, now = self.lengths(state.index), self._now(state)
        is_kept = self._within_budget(state, action > 0) & (state.elapsed < lengths)
        features = self.features(state.index)
        present = features.gather(1, now[:, None, None].expand(-1, -1, self.features_dim))  # (B, 1, F)
        similar = (features * present).sum(dim=2)  # (B, T)
        away = (self._range - now[:, None]).abs()
        near = state.kept & (away > 0) & (away <= self.settings.apart)
        alike = state.alike + 2 * (similar * near).sum(dim=1) * is_kept
        squared = (2 - 2 * similar).clamp(0, FARTHEST)
        nearest = torch.where(is_kept[:, None], torch.minimum(state.nearest, squared), state.nearest)
        kept = state.kept | (is_kept[:, None] & (away == 0))
        moved = state.replace(elapsed=state.elapsed + 1, kept=kept, nearest=nearest, alike=alike)
        return moved.replace(value=self._value(moved))

    def _within_budget(self, state: SummaryState, is_wanted: Tensor) -> Tensor:
        """Return which environments keep the present frame, bool, (B,)."""
        if not self.settings.budget:
            return is_wanted
        left = count_kept(self.lengths(state.index), self.settings.share) - state.kept.sum(dim=1)
        return (is_wanted & (left > 0)) | (left >= self.lengths(state.index) - state.elapsed)

    def _value(self, state: SummaryState) -> Tensor:
        """Return the reward so far, (B,), from the sums that the state holds."""
        lengths, count = self.lengths(state.index), state.kept.sum(dim=1)
        pairs = count * (count - 1)
        diversity = torch.where(pairs > 0, 1 - state.alike / pairs.clamp_min(1), 0.0)
        representativeness = exponentiate_nearest(state.nearest, lengths) * (count > 0)
        abnormality = measure_mean(self.abnormality(state.index), state.kept)
        sharpness = measure_mean(self.sharpness(state.index), state.kept)
        value = self._weights.combine(diversity, representativeness, abnormality, sharpness)
        return value - self._penalty(state)

    def _penalty(self, state: SummaryState) -> Tensor:
        off = (measure_share(state.kept, self.lengths(state.index)) - self.settings.share).abs()
        return self.settings.share_penalty * off

    def _progress(self, state: SummaryState) -> tuple[Tensor, Tensor]:
        """Return kept frames by wanted ones, at most 1, and the elapsed share of the clip, (B,) each."""
        lengths = self.lengths(state.index)
        wanted = count_kept(lengths, self.settings.share)
        return (state.kept.sum(dim=1) / wanted).clamp_max(1), (state.elapsed / lengths).clamp_max(1)

    def _show_features(self, state: SummaryState) -> Tensor:
        now = self._now(state)
        features = self.features(state.index)
        present = features.gather(1, now[:, None, None].expand(-1, -1, self.features_dim))[:, 0]
        is_over = state.elapsed >= self.lengths(state.index)
        count = state.kept.sum(dim=1).clamp_min(1)
        summary = (features * state.kept[..., None]).sum(dim=1) / count[:, None]  # (B, F)
        distance = state.nearest.gather(1, now[:, None])[:, 0] / FARTHEST
        since = ((state.elapsed - self._last(state)) / max(self.settings.apart, 1)).clamp_max(1)
        own = [values.gather(1, now[:, None])[:, 0] for values in self._rates(state.index)]
        numbers = torch.stack([*own, distance, *self._progress(state), since], dim=1)
        return torch.cat([present * ~is_over[:, None], summary, numbers], dim=1)

    def _show_image(self, state: SummaryState) -> Tensor:
        first, last = self.cases.first[state.index], self._last(state)
        present = self.cases.frames[first + self._now(state)]
        kept = self.cases.frames[first + last.clamp_min(0)] * (last >= 0)[:, None, None]
        planes = [
            (255 * part).to(torch.uint8)[:, None, None].expand_as(present) for part in self._progress(state)
        ]
        return torch.stack([present, kept, *planes], dim=1)

    def _last(self, state: SummaryState) -> Tensor:
        """Return the place of the last kept frame, int64, (B,); far in the past if there is none."""
        never = -self.settings.apart - 1
        return torch.where(state.kept, self._range, never).amax(dim=1)
