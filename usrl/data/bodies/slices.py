"""Slices of simulated bodies as images: what a segmentation network learns to find the lesion from.

Origin: simulated here, as `usrl.data.bodies.dataset` says. Each body gives eight slices of 64 x 64 px at
random poses around its standard plane; in about half of them the lesion is in view.

Licence: that of this package. Citation: none. Spacing: 0.75 mm.
"""

import numpy as np
import torch

from usrl.data.bodies.dataset import check_count, make_body
from usrl.data.bodies.poses import DEGREES
from usrl.data.bodies.scanner import Scanner
from usrl.data.bodies.tissues import LESION
from usrl.data.bodies.volumes import Volumes
from usrl.data.dataset import DataReport, report_samples
from usrl.data.recipe import DataRecipe
from usrl.data.sample import Sample
from usrl.progress import track

SIDE_PX, DEPTH_MM = 64, 48.0
PER_BODY = 8
_FARTHEST_MM, _LARGEST_DEG = 10.0, 20.0


def load_slices(data: DataRecipe, split: str) -> list[Sample]:
    """Return the slices of ``data.count`` bodies; all slices of a body are one group."""
    check_count(data)
    bodies = track(range(data.count), "Simulating slices", data.count)
    return [sample for index in bodies for sample in make_slices(data.seed, index, data.variety)]


def make_slices(seed: int, index: int, variety: float = 0.0) -> list[Sample]:
    """Return the slices of ``body-<index>`` of `make_body`, with masks of its lesion."""
    body = make_body(seed, index, variety)
    rng = np.random.default_rng([seed, index, 1])
    moves = rng.uniform(-1, 1, (PER_BODY, 5)) * ([_FARTHEST_MM] * 2 + [_LARGEST_DEG * DEGREES] * 3)
    poses = torch.from_numpy((body.standard + moves).astype(np.float32))
    scanner = Scanner(Volumes.from_bodies([body]), SIDE_PX, DEPTH_MM)
    grays, labels = (part.numpy() for part in scanner.scan(torch.zeros(PER_BODY, dtype=torch.int64), poses))
    spacing_mm = (DEPTH_MM / SIDE_PX, DEPTH_MM / SIDE_PX)
    return [
        Sample(gray, label == LESION, spacing_mm, f"{body.name}-{place}", body.group, source="slices")
        for place, (gray, label) in enumerate(zip(grays, labels, strict=True))
    ]


def check_slices(data: DataRecipe) -> DataReport:
    """Return counts of the slices; they have no faults."""
    return report_samples(data.name, None, load_slices(data, "all"))
