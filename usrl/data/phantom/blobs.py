"""Closed regions of random shape for the phantom."""

from dataclasses import dataclass

import numpy as np

from usrl.data.sample import FloatArray


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
