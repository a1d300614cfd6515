"""Contour geometry on the CPU: loops over contours, compiled.

They do the arithmetic of the tensor formulas in `usrl.geometry.polygon`, `moves` and `area`
contour by contour, so that a contour's result does not depend on the batch around it.

Vertices are float32 (B, N, 2), and so are their products; sums are float64. Constants are float32, because
Numba would widen the product of a Python number and a float32. Loops replace NumPy's assignments of slices
and reductions: Numba takes seconds to compile those, and a first episode would wait for them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from usrl.compute.compiled import compiled

NORMAL_REACH = 2
"""A normal is perpendicular to the chord between the neighbours at this distance, in vertices."""
MAX_EDGE_RATIO, MIN_EDGE_RATIO = 2.0, 0.3
"""A moved contour is spaced again if its longest or shortest edge passes these multiples of the mean."""
SAMPLES_PER_EDGE = 4
"""Midpoint samples of row sums on each edge. Edges of a few pixels need no more (see the tests)."""

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Sums = NDArray[np.int16]
F32, I32, U32, U8 = np.float32, np.int32, np.uint32, np.uint8
HALF, ZERO, TINY = F32(0.5), F32(0.0), F32(1e-6)


@compiled
def normal(contour: Floats, i: int) -> tuple[np.float32, np.float32]:
    """Return the outward unit normal (x, y) at vertex i of a contour (N, 2)."""
    count = contour.shape[0]
    after, before = (i + NORMAL_REACH) % count, (i - NORMAL_REACH) % count
    x = contour[after, 1] - contour[before, 1]
    y = contour[before, 0] - contour[after, 0]
    length = max(math.sqrt(x * x + y * y), TINY)
    return x / length, y / length


@compiled
def move(vertices: Floats, displacement: Floats, smoothings: Floats, limit: np.float32) -> Floats:
    """Move polygons and keep them valid; see `usrl.geometry.moves.move_simply`."""
    moved = np.empty_like(vertices)
    count = vertices.shape[1]
    smooth, gentler = np.empty((count, 2), np.float32), np.empty(count, np.float32)
    for b in range(vertices.shape[0]):
        _displace(vertices[b], displacement[b], limit, moved[b])
        settled = _is_valid(moved[b])
        for k in range(smoothings.shape[0]):
            if settled:
                break
            for axis in range(2):
                _combine(vertices[b, :, axis], smoothings[k], smooth[:, axis])
            _combine(displacement[b], smoothings[k], gentler)
            _displace(smooth, gentler, limit, moved[b])
            settled = _is_valid(moved[b])
        if not settled:
            _copy(vertices[b], moved[b])
    return moved


@compiled
def _displace(contour: Floats, displacement: Floats, limit: np.float32, moved: Floats) -> None:
    """Write a contour (N, 2) after a move along its normals (N,), spaced again if it has bunched."""
    count = contour.shape[0]
    is_still = True
    for i in range(count):
        is_still &= displacement[i] == 0
        x, y = normal(contour, i)
        moved[i, 0] = min(max(contour[i, 0] + x * displacement[i], ZERO), limit)
        moved[i, 1] = min(max(contour[i, 1] + y * displacement[i], ZERO), limit)
    if is_still:
        _copy(contour, moved)
        return
    lengths = np.empty(count, np.float64)
    total, least, most = 0.0, np.inf, 0.0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        lengths[i] = math.hypot(moved[j, 0] - moved[i, 0], moved[j, 1] - moved[i, 1])
        total += lengths[i]
        least, most = min(least, lengths[i]), max(most, lengths[i])
    mean = total / count
    if most > MAX_EDGE_RATIO * mean or least < MIN_EDGE_RATIO * mean:
        _space(moved.copy(), lengths, mean, moved)


@compiled
def _space(contour: Floats, lengths: NDArray[np.float64], spacing: float, placed: Floats) -> None:
    """Write a contour (N, 2) with vertices at equal arc length, vertex 0 kept, given its edges' lengths."""
    count = contour.shape[0]
    edge, start = 0, 0.0  # the current edge, and the arc length at its start
    for i in range(count):
        while edge < count - 1 and start + lengths[edge] <= i * spacing:
            start += lengths[edge]
            edge += 1
        part = (i * spacing - start) / max(lengths[edge], 1e-6)
        following = edge + 1 if edge + 1 < count else 0
        for axis in range(2):
            low, high = contour[edge, axis], contour[following, axis]
            placed[i, axis] = low + part * (high - low)


@compiled
def _copy(contour: Floats, place: Floats) -> None:
    for i in range(contour.shape[0]):
        place[i, 0], place[i, 1] = contour[i, 0], contour[i, 1]


@compiled
def is_valid(vertices: Floats) -> NDArray[np.bool_]:
    """Return whether each polygon is simple and positively oriented, (B,)."""
    valid = np.empty(vertices.shape[0], np.bool_)
    for b in range(vertices.shape[0]):
        valid[b] = _is_valid(vertices[b])
    return valid


@compiled
def _is_valid(contour: Floats) -> bool:
    # Most contours are stars in positive orientation, which is quick to see.
    return _is_star(contour) or (_area(contour) > 0 and not _has_crossing(contour))


@compiled
def _area(contour: Floats) -> float:
    """Return the signed area of a contour (N, 2) in square pixels."""
    count = contour.shape[0]
    area = 0.0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        area += contour[i, 0] * contour[j, 1] - contour[i, 1] * contour[j, 0]
    return area / 2


@compiled
def _is_star(contour: Floats) -> bool:
    """Return whether a contour (N, 2) winds once around its mean vertex and always forward."""
    count = contour.shape[0]
    x0, y0 = 0.0, 0.0
    for i in range(count):
        x0 += contour[i, 0] / count
        y0 += contour[i, 1] / count
    turns = 0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        x, y = contour[i, 0] - x0, contour[i, 1] - y0
        next_x, next_y = contour[j, 0] - x0, contour[j, 1] - y0
        if x * next_y <= y * next_x:
            return False
        turns += y < 0 <= next_y
    return turns == 1


@compiled
def _has_crossing(contour: Floats) -> bool:
    """Return whether any two edges of a contour (N, 2) that are not neighbours cross."""
    count = contour.shape[0]
    low, high = np.empty((2, count), np.float32), np.empty((2, count), np.float32)
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        for axis in range(2):
            low[axis, i] = min(contour[i, axis], contour[j, axis])
            high[axis, i] = max(contour[i, axis], contour[j, axis])
    for i in range(count - 2):
        for j in range(i + 2, count if i else count - 1):
            # Only edges whose boxes meet are tested closely. They are few.
            is_near = (low[0, i] <= high[0, j]) & (low[0, j] <= high[0, i])
            is_near &= (low[1, i] <= high[1, j]) & (low[1, j] <= high[1, i])
            if is_near and _crosses(contour, i, j) and _crosses(contour, j, i):
                return True
    return False


@compiled
def _crosses(contour: Floats, i: int, j: int) -> bool:
    """Return whether the line through edge i separates the ends of edge j."""
    count = contour.shape[0]
    end_i, end_j = (i + 1) % count, (j + 1) % count
    x0, y0 = contour[i, 0], contour[i, 1]
    x, y = contour[end_i, 0] - x0, contour[end_i, 1] - y0
    first = x * (contour[j, 1] - y0) - y * (contour[j, 0] - x0)
    second = x * (contour[end_j, 1] - y0) - y * (contour[end_j, 0] - x0)
    return (first > 0) != (second > 0)


@compiled
def combine(weights: Floats, functions: Floats) -> Floats:
    """Return weighted sums of functions; see `usrl.geometry.moves.combine`."""
    sums = np.empty((weights.shape[0], functions.shape[1]), np.float32)
    for b in range(weights.shape[0]):
        _combine(weights[b], functions, sums[b])
    return sums


@compiled
def _combine(weights: Floats, functions: Floats, total: Floats) -> None:
    """Write the sum (N,) of functions (C, N) with weights (C,)."""
    for i in range(total.shape[0]):
        total[i] = ZERO
    for c in range(weights.shape[0]):
        for i in range(total.shape[0]):
            total[i] += weights[c] * functions[c, i]


@compiled
def measure_dice(
    vertices: Floats, index: Places, sums: Sums, box: Floats, place: Places, areas: Floats, factor: int
) -> Floats:
    """Return the Dice of polygons and masks, (B,); see `usrl.geometry.area.measure_dice`."""
    batch, count, _ = vertices.shape
    dice = np.empty(batch, np.float32)
    scale = F32(factor)
    for b in range(batch):
        mask = index[b]
        left, top, right, bottom = box[mask, 0], box[mask, 1], box[mask, 2], box[mask, 3]
        own, width = sums[place[mask, 0] :], U32(place[mask, 1])
        overlap = 0.0
        for i in range(count):
            j = i + 1 if i + 1 < count else 0
            edge_x = (vertices[b, j, 0] - vertices[b, i, 0]) * scale
            edge_y = (vertices[b, j, 1] - vertices[b, i, 1]) * scale
            start_x, start_y = (vertices[b, i, 0] + HALF) * scale, (vertices[b, i, 1] + HALF) * scale
            along = 0
            for q in range(SAMPLES_PER_EDGE):
                part = F32((q + 0.5) / SAMPLES_PER_EDGE)
                x = min(max(start_x + HALF + edge_x * part - left, ZERO), right)
                y = min(max(start_y + edge_y * part - top, ZERO), bottom)
                along += own[U32(y) * width + U32(x)]
            overlap += along * edge_y
        total = max(_area(vertices[b]) + areas[mask], 1e-6)
        dice[b] = min(max(2 * overlap / (SAMPLES_PER_EDGE * factor * factor * total), 0.0), 1.0)
    return dice


@compiled
def sample_images(
    cells: NDArray[np.int32],
    image_of_row: Places,
    index: Places,
    vertices: Floats,
    offsets: Floats,
    unit: Floats,
    scale: np.float32,
    profiles: Bytes,
) -> None:
    """Write image, blur and edge strength into the first channels of profiles (B, 3 or more, N, K)."""
    batch, count, _ = vertices.shape
    places = len(offsets)
    side, last = U32(cells.shape[1]), F32(cells.shape[1] - 1)
    # Each pass over a short array becomes vector instructions. Unsigned indices need no test of the sign.
    chosen, packed = np.empty(places, np.uint32), np.empty(places, np.uint32)
    for b in range(batch):
        image = cells[image_of_row[index[b]]].reshape(-1)
        for i in range(count):
            normal_x, normal_y = normal(vertices[b], i)
            step_x, step_y = normal_x * (unit[b, 0] * scale), normal_y * (unit[b, 0] * scale)
            start_x, start_y = (vertices[b, i, 0] + HALF) * scale, (vertices[b, i, 1] + HALF) * scale
            for k in range(places):
                x = min(max(start_x + step_x * offsets[k], ZERO), last)
                y = min(max(start_y + step_y * offsets[k], ZERO), last)
                chosen[k] = U32(I32(y)) * side + U32(I32(x))
            for k in range(places):
                packed[k] = U32(image[chosen[k]])
            for channel in range(3):
                shift = U32(8 * channel)
                for k in range(places):
                    profiles[b, channel, i, k] = U8(packed[k] >> shift)


@compiled
def sample_starts(vertices: Floats, start: Floats, offsets: Floats, unit: Floats, profiles: Bytes) -> None:
    """Write the distance from the start into the fourth channel of profiles (B, 4, N, K)."""
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
