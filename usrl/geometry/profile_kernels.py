"""Profiles of contours on the CPU: loops over contours, compiled; see `usrl.geometry.kernels`."""

import numpy as np
from numpy.typing import NDArray

from usrl.compiled import compiled
from usrl.geometry.kernels import F32, HALF, I32, U8, U32, ZERO, normal


@compiled
def sample_images(
    atlas: NDArray[np.int32],
    index: NDArray[np.int64],
    vertices: NDArray[np.float32],
    offsets: NDArray[np.float32],
    unit: NDArray[np.float32],
    scale: np.float32,
    profiles: NDArray[np.uint8],
) -> None:
    """Write image, blur and edge strength along the normals into the first channels of profiles.

    See `usrl.geometry.sampling.sample_profiles`; profiles are (B, 3 or more, N, K).
    """
    batch, count, _ = vertices.shape
    places = len(offsets)
    side, last = U32(atlas.shape[1]), F32(atlas.shape[1] - 1)
    # A profile is read in passes over short arrays: each becomes vector instructions. Unsigned indices
    # spare the test for negative ones.
    cells, packed = np.empty(places, np.uint32), np.empty(places, np.uint32)
    for b in range(batch):
        image = atlas[index[b]].reshape(-1)
        for i in range(count):
            normal_x, normal_y = normal(vertices[b], i)
            step_x, step_y = normal_x * (unit[b, 0] * scale), normal_y * (unit[b, 0] * scale)
            start_x, start_y = (vertices[b, i, 0] + HALF) * scale, (vertices[b, i, 1] + HALF) * scale
            for k in range(places):
                x = min(max(start_x + step_x * offsets[k], ZERO), last)
                y = min(max(start_y + step_y * offsets[k], ZERO), last)
                cells[k] = U32(I32(y)) * side + U32(I32(x))
            for k in range(places):
                packed[k] = U32(image[cells[k]])
            for channel in range(3):
                shift = U32(8 * channel)
                for k in range(places):
                    profiles[b, channel, i, k] = U8(packed[k] >> shift)


@compiled
def sample_starts(
    vertices: NDArray[np.float32],
    start: NDArray[np.float32],
    offsets: NDArray[np.float32],
    unit: NDArray[np.float32],
    profiles: NDArray[np.uint8],
) -> None:
    """Write the distance from the start into the fourth channel of profiles (B, 4, N, K).

    See `usrl.geometry.sampling.sample_profiles`.
    """
    batch, count, _ = vertices.shape
    reach, middle = F32(len(offsets) / 2), F32(127.5)
    gaps = np.empty(count, np.float32)
    for b in range(batch):
        for i in range(count):
            x, y = vertices[b, i, 0], vertices[b, i, 1]
            for j in range(count):
                away_x, away_y = x - start[b, j, 0], y - start[b, j, 1]
                gaps[j] = away_x * away_x + away_y * away_y
            nearest = int(gaps.argmin())
            normal_x, normal_y = normal(start[b], nearest)
            away_x, away_y = x - start[b, nearest, 0], y - start[b, nearest, 1]
            distance = (away_x * normal_x + away_y * normal_y) / unit[b, 0]
            for k in range(len(offsets)):
                place = min(max((distance + offsets[k]) / reach, F32(-1)), F32(1))
                profiles[b, 3, i, k] = U8(I32(middle * (F32(1) + place)))
