"""Probe sweeps over simulated bodies: a data set of clips with a mask for each frame.

Origin: simulated here, as `usrl.data.bodies.dataset` says. The probe slides across the lesion, at times there
and back, so that the lesion comes into view and leaves it. Hand and breath make it drift, turn and press;
contact is lost on the sides now and then; gain wavers, and the electronics add noise.

Licence: that of this package. Citation: none. Count: one sweep a body, as many as asked for; sweep ``index``
of a seed is the same whatever the count. Each has 40 to 60 frames of 64 x 64 px. Spacing: 0.75 mm.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from usrl.data.bodies.dataset import check_count, make_body
from usrl.data.bodies.poses import DEGREES, rotations
from usrl.data.bodies.scanner import Scanner
from usrl.data.bodies.tissues import LESION
from usrl.data.bodies.volumes import Volumes
from usrl.data.clips.clips import Clip, Clips
from usrl.data.dataset import DataReport
from usrl.data.phantom.anatomy import Draws
from usrl.data.recipe import DataRecipe
from usrl.data.sample import FloatArray
from usrl.data.splits import Member, split_samples
from usrl.progress import track

SIDE_PX, DEPTH_MM = 64, 48.0
MIN_FRAMES, MAX_FRAMES = 40, 60
FPS = 20.0
_STREAM = 0x5EE9
"""Keeps the draws of a sweep apart from those of its body."""


def load_sweeps(data: DataRecipe, split: str) -> Clips:
    """Simulate the sweeps of a part of a recipe's data set; the other parts cost nothing.

    Raises:
        UserError: If the recipe asks for more bodies than `usrl.data.bodies.dataset.MAX_BODIES`.
    """
    members = list_sweeps(data)
    part = range(data.count) if split == "all" else split_samples(members, seed=data.split_seed)[split]
    clips = (make_sweep(data.seed, index, data.variety) for index in part)
    return Clips.from_clips(list(track(clips, "Simulating sweeps", len(part), "clips")), data.size)


def list_sweeps(data: DataRecipe) -> list[Member]:
    """Return the sweeps of a recipe's data set before they are made."""
    check_count(data)
    return [Member(f"sweep-{index:04d}", f"body-{index:04d}", "sweeps") for index in range(data.count)]


def check_sweeps(data: DataRecipe) -> DataReport:
    """Return how many sweeps and frames there are, and in how many the lesion is; they have no faults."""
    frames, shown = 0, 0
    indices = range(len(list_sweeps(data)))
    for index in track(indices, "Simulating sweeps", data.count, "clips"):
        clip = make_sweep(data.seed, index, data.variety)
        frames += len(clip.frames)
        shown += int(clip.masks.any(axis=(1, 2)).sum())  # type: ignore[union-attr]
    facts: dict[str, int | str] = {"frames": frames, "frames with the lesion": f"{shown / frames:.1%}"}
    return DataReport(data.name, None, {"sweeps": data.count}, data.count, facts, unit="clips")


def make_sweep(seed: int, index: int, variety: float = 0.0) -> Clip:
    """Simulate ``sweep-<index>``; equal arguments give equal bytes."""
    body = make_body(seed, index, variety)
    rng = Draws([seed, index, _STREAM], variety)
    count = int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))
    poses = torch.from_numpy(_draw_poses(rng, body.standard, count))
    breath = np.sin(2 * np.pi * (np.arange(count) / FPS * rng.uniform(0.2, 0.4) + rng.random()))
    squeeze = torch.from_numpy((1 + rng.within((0.01, 0.03), (0, 0.06)) * breath).astype(np.float32))
    lost = np.clip(2 * _smooth(rng, count, 8) - 1.2, 0, 1) * rng.within((0.1, 0.5), (0, 0.8))
    lit = torch.from_numpy((1 - lost).astype(np.float32))
    scanner = Scanner(Volumes.from_bodies([body]), SIDE_PX, DEPTH_MM)
    rows = torch.zeros(count, dtype=torch.int64)
    grays, labels = (part.numpy() for part in scanner.scan(rows, poses, squeeze, lit))
    name, spacing_mm = f"sweep-{index:04d}", (DEPTH_MM / SIDE_PX, DEPTH_MM / SIDE_PX)
    # Where a slice grazes the lesion, it cuts voxels one by one; the majority of 5 x 5 px joins them.
    masks = np.stack([cv2.medianBlur((label == LESION).astype(np.uint8), 5) for label in labels]) > 0
    return Clip(_add_noise(rng, grays), FPS, spacing_mm, name, body.group, "sweeps", masks=masks)


def _draw_poses(rng: Draws, standard: FloatArray, count: int) -> FloatArray:
    """Return the poses of a sweep, (T, 5): across the lesion, perhaps back, with an unsteady hand."""
    ends = [-rng.uniform(9, 15), rng.uniform(9, 15)]
    if rng.random() < 0.5:
        ends = ends[::-1]
    if rng.random() < 0.4:
        ends.append(ends[0] * rng.uniform(0.2, 1.0))
    at = np.linspace(0, len(ends) - 1, count)
    along = np.interp(at, range(len(ends)), ends) + 2 * (_smooth(rng, count, 8) - 0.5)  # mm
    elevational = rotations(torch.from_numpy(standard[None]))[0, :, 1].numpy()
    lateral = np.array([elevational[1], -elevational[0]])  # on the skin
    poses = np.repeat(standard[None].astype(np.float64), count, axis=0)
    across = rng.uniform(-5, 5) + 3 * (_smooth(rng, count, 10) - 0.5)
    poses[:, :2] += along[:, None] * elevational[:2] + across[:, None] * lateral
    for axis, most in ((2, 12), (3, 8), (4, 8)):  # yaw, tilt and roll, degrees
        poses[:, axis] += (rng.uniform(-most, most) + 5 * (_smooth(rng, count, 10) - 0.5)) * DEGREES
    return poses.astype(np.float32)


def _smooth(rng: Draws, count: int, period: float) -> NDArray[np.float64]:
    """Return slow noise from 0 to 1 over frames, (T,)."""
    knots = rng.random(int(count / period) + 3)
    return np.interp(np.arange(count) / period + rng.random(), np.arange(len(knots)), knots)


def _add_noise(rng: Draws, grays: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return frames with a gain that wavers, and the noise of electronics where there is contact."""
    gain = rng.within((4, 10), (0, 24)) * (_smooth(rng, len(grays), 6) - 0.5)
    noise = rng.within((5, 10), (2, 18)) * rng.standard_normal(grays.shape, np.float32)
    noisy = grays + noise + gain[:, None, None]
    return np.where(grays > 0, np.clip(np.rint(noisy), 0, 255), grays).astype(np.uint8)
