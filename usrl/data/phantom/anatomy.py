"""The tissue that the phantom's scanner images: layers, one lesion, and shapes that resemble it."""

from dataclasses import dataclass

import cv2
import numpy as np

from usrl.data.components import clean_mask
from usrl.data.sample import BoolMask, FloatArray

MALIGNANT_SHARE = 0.4
"""Share of lesions that are rough, soft-edged and shadowing; the others are smooth and enhancing."""


class Draws(np.random.Generator):
    """A generator of an image's seed and position; variety is 0 for usual ranges, 1 for wide ones."""

    def __init__(self, seed: list[int], variety: float = 0.0) -> None:
        super().__init__(np.random.SFC64(seed))
        self.variety = variety

    def within(self, usual: tuple[float, float], wide: tuple[float, float]) -> float:
        """Draw uniformly from a range between the usual and the wide one."""
        low, high = (a + self.variety * (b - a) for a, b in zip(usual, wide, strict=True))
        return float(self.uniform(low, high))


@dataclass(frozen=True)
class Blob:
    """An ellipse whose radius is modulated by a Fourier series of the angle."""

    centre: tuple[float, float]  # (x, y), px
    radii: tuple[float, float]  # half axes (along x, along y), px
    tilt: float = 0.0  # radians
    harmonics: tuple[tuple[float, float], ...] = ()  # relative amplitude and phase (radians) of 2, 3, ...

    @property
    def reach(self) -> float:
        """Distance from the centre that the outline never exceeds, px."""
        return max(self.radii) * (1 + sum(abs(amplitude) for amplitude, _ in self.harmonics))

    def paint(self, shape: tuple[int, int], softness: float = 1.0) -> "Patch":
        """Return how much of each pixel the region covers: 0.5 on the outline.

        The edge is ``softness`` px wide on both sides. Outside the patch, nothing is covered.
        """
        reach = self.reach + softness + 1
        x0, x1 = _span(self.centre[0], reach, shape[1])
        y0, y1 = _span(self.centre[1], reach, shape[0])
        x = np.arange(x0, x1, dtype=np.float32)[None, :] - np.float32(self.centre[0])
        y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(self.centre[1])
        cosine, sine = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        u = (cosine * x + sine * y) / np.float32(self.radii[0])
        v = (cosine * y - sine * x) / np.float32(self.radii[1])
        margin = 1 - np.hypot(u, v)
        if self.harmonics:
            angle = np.arctan2(v, u)
            for order, (amplitude, phase) in enumerate(self.harmonics, start=2):
                margin += np.float32(amplitude) * np.cos(np.float32(order) * angle + np.float32(phase))
        margin *= np.float32(min(self.radii) / (2 * softness))
        return Patch(slice(y0, y1), slice(x0, x1), np.clip(margin + np.float32(0.5), 0, 1))


@dataclass(frozen=True)
class Patch:
    """A coverage map over a rectangle of an image."""

    rows: slice
    columns: slice
    coverage: FloatArray  # (h, w) of the rectangle, in [0, 1]

    def blend(self, image: FloatArray, value: FloatArray | float) -> None:
        """Move the image towards a value where the patch covers it, in place."""
        view = image[self.rows, self.columns]
        view += (value - view) * self.coverage

    def add(self, image: FloatArray, value: float) -> None:
        """Add a value to the image where the patch covers it, in place."""
        image[self.rows, self.columns] += np.float32(value) * self.coverage


def random_blob(
    rng: np.random.Generator,
    centre: tuple[float, float],
    radii: tuple[float, float],
    roughness: float,
    tilt: float,
) -> Blob:
    """Draw a blob around an ellipse, whose fields are those of `Blob`.

    ``roughness`` is the standard deviation of the second harmonic; that of the k-th falls with 2 / k. The
    harmonics sum to 0.45 at most, so that the outline never touches the centre.
    """
    orders = np.arange(2, 9)
    amplitudes = np.abs(rng.standard_normal(len(orders))) * roughness * 2 / orders
    amplitudes *= min(1.0, 0.45 / max(float(amplitudes.sum()), 1e-6))
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    harmonics = tuple(zip(amplitudes.tolist(), phases.tolist(), strict=True))
    return Blob(centre, radii, tilt, harmonics)


def _span(centre: float, reach: float, side: int) -> tuple[int, int]:
    """Return the pixels within reach, cut to the image."""
    low = min(max(int(centre - reach), 0), side)
    return low, max(low, min(int(centre + reach) + 2, side))


@dataclass(frozen=True)
class Anatomy:
    """A medium to insonify, (H, W)."""

    echo_db: FloatArray  # echo level relative to gland
    loss_db: FloatArray  # round-trip loss that time gain compensation leaves
    lesion: BoolMask  # one component that does not touch the image's border


def draw_anatomy(rng: Draws, shape: tuple[int, int]) -> Anatomy:
    """Draw a breast with exactly one lesion, shape (H, W), px."""
    fat_end, gland_end = rng.uniform(0.12, 0.32), rng.uniform(0.58, 0.8)
    echo_db = _draw_layers(rng, shape, fat_end, gland_end)
    loss = np.zeros(shape, np.float32, order="F")  # dB per px along the beam; summed by column
    malignant = bool(rng.random() < MALIGNANT_SHARE)
    blob = _place_lesion(rng, shape, (fat_end, gland_end), malignant)
    _draw_distractors(rng, echo_db, loss, blob)
    lesion = _draw_lesion(rng, echo_db, loss, blob, malignant)
    _draw_surface_shadows(rng, loss)
    width = max(1, min(shape) // 40)
    loss_db = cv2.blur(np.ascontiguousarray(np.cumsum(loss, axis=0)), (width, 1))
    return Anatomy(echo_db, np.asarray(loss_db, np.float32) + _residual_gain(rng, shape), lesion)


def _noise(rng: Draws, shape: tuple[int, int], cells: tuple[int, int]) -> FloatArray:
    """Return smooth unit noise with the given number of cells along (y, x), float32, shape (H, W)."""
    coarse = rng.standard_normal((cells[0] + 1, cells[1] + 1), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _strands(noise: FloatArray, width: float) -> FloatArray:
    """Return thin curved strands in [0, 1]: the zero crossings of smooth noise."""
    return np.asarray(np.exp(-np.square(noise * np.float32(1 / width))), np.float32)


def _draw_layers(rng: Draws, shape: tuple[int, int], fat_end: float, gland_end: float) -> FloatArray:
    """Return the echo level of skin, fat, gland, muscle and chest wall, dB, float32, shape (H, W).

    The layers are drawn flat, row by row, and then bent by a smooth displacement that vanishes at the skin.
    """
    rows = shape[0]
    depth = np.linspace(0, 1, rows, dtype=np.float32)
    wall = rng.uniform(gland_end + 0.1, 1.15)
    edges = np.array([0.0, 0.025, fat_end, gland_end, wall], np.float32)
    levels = np.array([2, rng.uniform(-14, -7), 0, rng.uniform(-16, -8), -26], np.float32)
    texture = np.array([1, 2, rng.within((2, 4.5), (1, 7)), 3, 3], np.float32)
    septa = np.array([0, rng.within((6, 12), (2, 14)), rng.within((3, 8), (0, 12)), 3, 0], np.float32)
    fibres = np.array([3, 2, rng.within((1, 6), (0, 14)), rng.within((6, 13), (3, 16)), 6], np.float32)
    layer = np.searchsorted(edges, depth, side="right") - 1  # of each row
    weights = np.stack([values[layer] for values in (levels, texture, septa, fibres)])
    flat = weights[0][:, None] + weights[1][:, None] * (
        _noise(rng, shape, (14, 8)) + np.float32(0.7) * _noise(rng, shape, (40, 24))
    )
    flat += weights[2][:, None] * _strands(_noise(rng, shape, (9, 5)), 0.13)
    flat += weights[3][:, None] * _strands(_noise(rng, shape, (22, 3)), 0.3)
    for edge, height in ((0.008, 8), (0.025, 6), (fat_end, 5), (gland_end, 8), (wall, 14)):
        flat += np.float32(height) * np.exp(-np.square((depth - np.float32(edge)) / 0.007))[:, None]
    return _bend(rng, flat, depth)


def _bend(rng: Draws, flat: FloatArray, depth: FloatArray) -> FloatArray:
    """Displace the layers along the beam by a smooth random amount."""
    rows, columns = flat.shape
    shift = _noise(rng, (rows, columns), (3, 4)) * np.float32(0.035 * rows)
    shift += _noise(rng, (1, columns), (1, 6)) * np.float32(0.012 * rows)
    shift += np.linspace(-1, 1, columns, dtype=np.float32) * np.float32(rng.normal(0, 0.05) * rows)
    shift *= np.clip(depth * 6, 0, 1)[:, None]
    y = shift + np.arange(rows, dtype=np.float32)[:, None]
    x = np.broadcast_to(np.arange(columns, dtype=np.float32), (rows, columns))
    return np.asarray(cv2.remap(flat, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _place_lesion(rng: Draws, shape: tuple[int, int], gland: tuple[float, float], malignant: bool) -> Blob:
    """Return the lesion's outline, wholly inside the image and centred in the gland."""
    rows, columns = shape
    width = min(shape) * np.exp(rng.within((np.log(0.07), np.log(0.26)), (np.log(0.05), np.log(0.36))))
    aspects = ((0.7, 1.15), (0.5, 1.4)) if malignant else ((0.5, 0.85), (0.35, 1.0))
    height = width * rng.within(*aspects)
    tilt = rng.normal(0, 0.25)
    roughness = rng.within(*(((0.08, 0.16), (0.05, 0.2)) if malignant else ((0.02, 0.07), (0.01, 0.12))))
    blob = random_blob(rng, (0.0, 0.0), (width, height), roughness, tilt)
    margin = min(blob.reach + 3, min(shape) / 2)
    x = np.clip(rng.uniform(0.15, 0.85) * columns, margin, columns - margin)
    y = np.clip(rng.uniform(gland[0] + 0.08, gland[1] - 0.05) * rows, margin, rows - margin)
    return Blob((float(x), float(y)), blob.radii, blob.tilt, blob.harmonics)


def _draw_lesion(rng: Draws, echo_db: FloatArray, loss: FloatArray, blob: Blob, malignant: bool) -> BoolMask:
    """Draw the lesion with its shadow or enhancement, and return its mask."""
    shape = echo_db.shape
    if (kind := rng.random()) < 0.8:
        level = rng.within((-24, -11), (-30, -9))
    else:
        level = rng.uniform(-10, -6) if kind < 0.93 else rng.uniform(5, 8)
    softness = rng.within((2.0, 5.0), (1.0, 8.0)) if malignant else rng.within((0.7, 2.0), (0.7, 4.0))
    patch = blob.paint(shape, softness)
    rim = patch.coverage * (1 - patch.coverage) * 4
    inner = _noise(rng, rim.shape, (5, 5)) * np.float32(rng.within((0.5, 2.5), (0, 9)))
    if rng.variety:  # a draw here would change every usual image
        height_db = rng.variety * max(0.0, rng.uniform(-8, 12))  # of walls, which three of five lesions have
        inner += _strands(_noise(rng, rim.shape, (4, 4)), 0.3) * np.float32(height_db)
    patch.blend(echo_db, inner + np.float32(level))
    echo_db[patch.rows, patch.columns] += rim * np.float32(rng.uniform(0, 4 if malignant else 7))
    total_db = rng.within((2, 18), (-8, 24)) if malignant else rng.within((-8, 1), (-16, 6))
    patch.add(loss, total_db / (2 * blob.radii[1]))
    if rng.random() < 0.5:
        _draw_edge_shadows(rng, loss, blob)
    if malignant and rng.random() < 0.4:
        _draw_calcifications(rng, echo_db, blob)
    mask = np.zeros(shape, np.bool_)
    mask[patch.rows, patch.columns] = clean_mask(patch.coverage >= 0.5, "largest")
    return mask


def _draw_edge_shadows(rng: Draws, loss: FloatArray, blob: Blob) -> None:
    """Add the thin refractive shadows below a lesion's flanks."""
    x, y = blob.centre
    for side in (-1, 1):
        flank = Blob((x + side * blob.radii[0] * 0.97, y), (max(2.0, 0.12 * blob.radii[0]), blob.radii[1]))
        flank.paint(loss.shape, 1.5).add(loss, rng.uniform(1, 6) / (2 * blob.radii[1]))


def _draw_calcifications(rng: Draws, echo_db: FloatArray, blob: Blob) -> None:
    """Add a few bright grains inside a lesion."""
    for _ in range(rng.integers(2, 7)):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6)
        x = blob.centre[0] + distance * blob.radii[0] * np.cos(angle)
        y = blob.centre[1] + distance * blob.radii[1] * np.sin(angle)
        grain = Blob((float(x), float(y)), (1.2, 0.8))
        grain.paint(echo_db.shape, 0.7).add(echo_db, rng.uniform(10, 20))


def _draw_distractors(rng: Draws, echo_db: FloatArray, loss: FloatArray, lesion: Blob) -> None:
    """Draw dark shapes that a threshold confuses with the lesion: fat lobules and small anechoic cysts."""
    shape = echo_db.shape
    unit = min(shape)
    for _ in range(rng.integers(0, 5 + round(4 * rng.variety))):
        width = unit * rng.within((0.03, 0.11), (0.02, 0.22))
        lobule = _place_away(rng, shape, lesion, (width, width * rng.uniform(0.25, 0.6)), 0.06)
        if lobule is not None:
            lobule.paint(shape, 2.5).add(echo_db, rng.within((-9, -4), (-16, -2)))
    for _ in range(rng.choice([0, 0, 1, 2])):
        width = unit * rng.uniform(0.018, 0.04)
        cyst = _place_away(rng, shape, lesion, (width, width * rng.uniform(0.6, 1.0)), 0.03)
        if cyst is not None:
            patch = cyst.paint(shape, 1.0)
            patch.blend(echo_db, -45.0)
            patch.add(loss, rng.uniform(-7, -3) / (2 * cyst.radii[1]))


def _place_away(
    rng: Draws, shape: tuple[int, int], lesion: Blob, radii: tuple[float, float], roughness: float
) -> Blob | None:
    """Return a blob, or None if it was drawn too close to the lesion."""
    centre = (rng.uniform(0.05, 0.95) * shape[1], rng.uniform(0.15, 0.85) * shape[0])
    blob = random_blob(rng, centre, radii, roughness, rng.normal(0, 0.3))
    distance = np.hypot(centre[0] - lesion.centre[0], centre[1] - lesion.centre[1])
    return blob if distance > (blob.reach + lesion.reach) * (1 - 0.4 * rng.variety) + 3 else None


def _draw_surface_shadows(rng: Draws, loss: FloatArray) -> None:
    """Add shadows of poor contact and of ligaments, which begin near the skin."""
    rows, columns = loss.shape
    x = np.arange(columns, dtype=np.float32)
    for _ in range(rng.integers(0, 4)):
        centre, width = rng.uniform(0, columns), columns * rng.uniform(0.012, 0.07)
        start = int(rng.uniform(0.03, 0.4) * rows)
        length = max(1, rows // 12)
        band = np.exp(-np.square((x - np.float32(centre)) / np.float32(width)))
        loss[start : start + length] += band * np.float32(rng.uniform(2, 9) / length)


def _residual_gain(rng: Draws, shape: tuple[int, int]) -> FloatArray:
    """Return the gain that time gain compensation leaves, dB, float32, shape (H, W)."""
    depth = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    aside = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    onset = np.float32(rng.uniform(0.4, 0.9))
    deep = np.float32(rng.uniform(5, 30)) * np.clip(depth - onset, 0, None)
    edges = np.float32(rng.uniform(0, 8)) * np.square(np.square(aside))
    return np.asarray(deep + edges + np.float32(rng.uniform(-2, 4)) * depth, np.float32)
