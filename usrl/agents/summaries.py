"""Scripted players of clip summaries, which learn nothing from summaries.

Each makes a plan for the whole clip and keeps the same number of frames, `usrl.envs.summary.rules.count_kept`
of them. Those that score frames make a summary by the task's rule, as agents do.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.rng import mix, uniform
from usrl.compute.trees import Tree
from usrl.envs.summary.rules import count_kept
from usrl.envs.summary.task import SummaryState, SummaryTask

_CHANCE = 0x51DE
"""Keeps the draws of the random player apart from those of its task."""
_ROUNDS = 50
"""Most rounds of the search for medoids."""


class PlannedPlayer:
    """A player that decides about a whole clip before its first frame. A subclass makes the plan."""

    name: str

    def __init__(self, task: SummaryTask) -> None:
        self._task = task
        self.begin(0)

    def begin(self, count: int) -> None:
        """Forget the plans; see `Player.begin`."""
        self._plans: Tensor | None = None

    def act(self, seen: Tree, state: SummaryState) -> Tree:
        """Return the plan, or what it says of the present frame; see `Player.act`."""
        if self._plans is None:
            self._plans = self.plan(state)
        if not self._task.is_sequential:
            return self._plans.to(torch.int8)
        now = state.elapsed.clamp_max(self._plans.shape[1] - 1)
        return self._plans.gather(1, now[:, None])[:, 0].long()

    def plan(self, state: SummaryState) -> Tensor:
        """Return the frames to keep, bool, (B, T)."""
        return self._task.summarise(state.index, self.score(state))

    def score(self, state: SummaryState) -> Tensor:
        """Return a score for each frame, float32, (B, T)."""
        raise NotImplementedError(f"{type(self).__name__} makes plans without scores")


class UniformPlayer(PlannedPlayer):
    """Single frames, evenly spaced over the clip, each in the middle of its part."""

    name = "uniform"

    def plan(self, state: SummaryState) -> Tensor:
        """Return the frames to keep; see `PlannedPlayer.plan`."""
        lengths = self._task.lengths(state.index)
        count = count_kept(lengths, self._task.settings.share)
        part = torch.arange(int(count.max()), device=lengths.device)
        places = ((part + 0.5) * (lengths / count)[:, None]).long()  # (B, k)
        places = torch.where(part < count[:, None], places, places[:, :1])
        return torch.zeros_like(state.kept).scatter(1, places, True)


class RandomSummaryPlayer(PlannedPlayer):
    """Random scores, which the rule makes a summary of as large a share as everybody's."""

    name = "random"

    def score(self, state: SummaryState) -> Tensor:
        """Return a score for each frame; see `PlannedPlayer.score`."""
        return uniform(mix(state.key + _CHANCE), state.kept.shape[1])


class MedoidsPlayer(PlannedPlayer):
    """The k frames that are nearest to all others: k-medoids on the features (`find_medoids`)."""

    name = "k-medoids"

    def plan(self, state: SummaryState) -> Tensor:
        """Return the frames to keep; see `PlannedPlayer.plan`."""
        features, lengths = self._task.features(state.index), self._task.lengths(state.index)
        counts = count_kept(lengths, self._task.settings.share)
        kept = np.zeros(state.kept.shape, np.bool_)
        own = features.cpu().numpy()
        for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
            frames = own[row, :length]
            kept[row, find_medoids(np.maximum(2 - 2 * frames @ frames.T, 0), count)] = True
        return torch.from_numpy(kept).to(features.device)


class ClassifierPlayer(PlannedPlayer):
    """The frames that the frame classifier finds most abnormal."""

    name = "classifier"

    def score(self, state: SummaryState) -> Tensor:
        """Return a score for each frame; see `PlannedPlayer.score`."""
        return self._task.abnormality(state.index)


class MotionPlayer(PlannedPlayer):
    """The frames that differ most from the frames before and after them, in mean gray level."""

    name = "motion"

    def score(self, state: SummaryState) -> Tensor:
        """Return a score for each frame; see `PlannedPlayer.score`."""
        return measure_motion(self._task, state.index)


class StillPlayer(PlannedPlayer):
    """The frames that differ least from the frames before and after them: the probe rests."""

    name = "still"

    def score(self, state: SummaryState) -> Tensor:
        """Return a score for each frame; see `PlannedPlayer.score`."""
        return -measure_motion(self._task, state.index)


class SharpPlayer(PlannedPlayer):
    """The sharpest frames: those with the largest variance of the Laplacian."""

    name = "sharp"

    def score(self, state: SummaryState) -> Tensor:
        """Return a score for each frame; see `PlannedPlayer.score`."""
        return self._task.sharpness(state.index)


class KnownPlayer(PlannedPlayer):
    """The ceiling: the known frames are the scores, which the rule makes a summary of."""

    name = "known"

    def score(self, state: SummaryState) -> Tensor:
        """Return a score for each frame; see `PlannedPlayer.score`."""
        return self._task.known(state.index).float()


def measure_motion(task: SummaryTask, index: Tensor) -> Tensor:
    """Return the mean absolute gray difference of each frame to its neighbours in time, (B, T)."""
    images = task.images(index).float()  # padding repeats the last frame, and so adds no change
    change = (images[:, 1:] - images[:, :-1]).abs().mean(dim=(2, 3))  # (B, T - 1)
    is_next = torch.arange(1, images.shape[1], device=images.device) < task.lengths(index)[:, None]
    sums, counts = torch.zeros_like(images[:, :, 0, 0]), torch.zeros_like(images[:, :, 0, 0])
    for place in (slice(None, -1), slice(1, None)):
        sums[:, place] += change
        counts[:, place] += is_next
    return sums / counts.clamp_min(1)


def find_medoids(distance: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return the items whose distances to all items, each to the nearest of them, are smallest in sum.

    It is a local optimum: medoids are added one by one, each where it helps most, and then every cluster
    takes its own medoid until nothing changes.

    Args:
        distance: Between items, (N, N).
        count: Number of medoids, from 1 to N.

    Source:
        Kaufman, Rousseeuw (1990), Finding groups in data (the first part is their BUILD); Park, Jun (2009),
        A simple and fast algorithm for k-medoids clustering, doi:10.1016/j.eswa.2008.01.039 (the second).
    """
    nearest = np.full(len(distance), np.inf)
    medoids: list[int] = []
    for _ in range(count):
        costs = np.minimum(nearest[:, None], distance).sum(axis=0)
        costs[medoids] = np.inf
        medoids.append(int(costs.argmin()))
        nearest = np.minimum(nearest, distance[:, medoids[-1]])
    chosen = np.array(medoids)
    for _ in range(_ROUNDS):
        owner = distance[:, chosen].argmin(axis=1)
        owner[chosen] = np.arange(count)  # of equal items, each medoid keeps its own
        moved = np.array([_middle(distance, np.flatnonzero(owner == each)) for each in range(count)])
        if (moved == chosen).all():
            break
        chosen = moved
    return np.sort(chosen)


def _middle(distance: NDArray[Any], members: NDArray[np.int64]) -> int:
    return int(members[distance[np.ix_(members, members)].sum(axis=0).argmin()])
