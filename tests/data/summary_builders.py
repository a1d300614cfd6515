"""Small clips and tasks for the tests of summaries."""

from typing import Any

import numpy as np
import torch

from usrl.data.clips.clips import Clip, Clips
from usrl.envs.summary.task import SummaryState, SummaryTask
from usrl.registry import build_task

LENGTHS = (12, 9, 20)


def make_clip(name: str, frames: int, *, known: bool = True) -> Clip:
    """Return a clip of moving bars under noise that grows, whose every fourth frame is known."""
    rng = np.random.default_rng(frames)
    column = np.arange(32)
    images = np.stack([40 + 30 * ((column + 2 * place) // 8 % 2) for place in range(frames)])
    noise = rng.normal(0, 1, (frames, 32, 32)) * np.arange(1, frames + 1)[:, None, None]
    values = (images[:, None, :] + noise).clip(0, 255).astype(np.uint8)
    informative = np.arange(frames) % 4 == 0 if known else None
    return Clip(values, 20.0, None, name, name, "made", informative=informative)


def make_clips(*, known: bool = True) -> Clips:
    """Return three clips of `LENGTHS` frames."""
    return Clips.from_clips([make_clip(f"clip-{n}", n, known=known) for n in LENGTHS], 64)


def make_task(clips: Clips, **settings: Any) -> SummaryTask:
    """Return a task with places for 24 frames."""
    task = build_task("usrl/VideoSummary-v0", clips, {"frames": 24} | settings)
    assert isinstance(task, SummaryTask)
    return task


def begin(task: SummaryTask, *rows: int) -> SummaryState:
    """Return the start of episodes on some clips, or on each."""
    index = torch.tensor(rows or range(len(task.cases)))
    return task.reset(index, torch.arange(len(index)) + 7)


def play_out(
    task: SummaryTask, state: SummaryState, plans: torch.Tensor
) -> tuple[SummaryState, torch.Tensor]:
    """Follow plans (B, T) frame by frame to the end; return the last state and the sum of rewards."""
    total = torch.zeros(len(state.index))
    for place in range(task.places):
        state, reward = task.step(state, plans[:, place].long())
        total += reward
    return state, total
