"""Steps per second of `usrl/ProbeNavigate-v0`, and slices per second of SciPy from the same bodies.

OMP_NUM_THREADS=1 python benchmarks/probe.py --json probe.json
python benchmarks/probe.py --device cuda --json probe-cuda.json
"""

import time
from typing import Any

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from stepping import run

from usrl.data.bodies.dataset import default_volumes
from usrl.data.bodies.poses import rotations
from usrl.data.bodies.volumes import SHAPE, SPACING_MM

SIDE, VIEW_MM = 64, 48.0
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("probe single image", 1, {}),
    ("probe vector image", 64, {}),
    ("probe vector image, sector", 64, {"geometry": "sector"}),
    ("probe vector image, 128 px", 64, {"side": 128}),
    ("probe vector labels", 64, {"observation": "labels"}),
    ("probe vector scene", 64, {"observation": "scene"}),
    ("probe vector image", 1024, {}),
    ("probe vector image", 4096, {}),
]


def measure_scipy(seconds: float) -> float:
    """Return slices per second of `scipy.ndimage`: echo, loss and speckle sampled, shadows and compression.

    This is how one would write it first. It leaves out the labels, the fascia's angle and the bookkeeping.
    """
    volumes = default_volumes()
    voxels = volumes.voxels.numpy()
    place = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * VIEW_MM
    depth = (np.arange(SIDE) + 0.5) / SIDE * VIEW_MM
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2, -0.5])
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        body = count % len(voxels)
        pose = volumes.standard[body]
        axes = rotations(pose[None])[0].numpy()
        points = place[:, None] * axes[:, 0] + depth[:, None, None] * axes[:, 2]  # (S, S, 3)
        x, y, z = np.moveaxis(points / SPACING_MM + middle, -1, 0)
        x, y = x + float(pose[0]) / SPACING_MM, y + float(pose[1]) / SPACING_MM
        echo, loss, noise = (
            map_coordinates(voxels[body, ..., channel], [y, x, z], np.float32, order=1, mode="nearest")
            for channel in range(3)
        )
        level = echo + 0.6 * noise - np.cumsum(0.3 * loss, axis=0)
        np.clip(level, 0, 255).astype(np.uint8)
        count += 1
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"scipy, one slice after the other: {measure_scipy(2.0):.0f} slices/s", flush=True)
    run(__doc__, "usrl/ProbeNavigate-v0", CASES)
    print(f"scipy again: {measure_scipy(2.0):.0f} slices/s", flush=True)
