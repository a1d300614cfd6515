"""Speckle: random scatterers seen through a point-spread function."""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from usrl.data.sample import FloatArray

ComplexArray = NDArray[np.complex64]

_LATERAL_PAD_PX = 16
"""The lateral convolution is circular; this much padding keeps one edge out of the other."""


@dataclass(frozen=True)
class PointSpread:
    """A separable Gaussian point-spread function whose lateral width follows the transmit focus.

    The lateral width at depth z is ``sqrt(lateral_px**2 + (divergence * (z - focus))**2)``, z and focus as
    fractions of the image's depth. Widths are standard deviations.
    """

    axial_px: float = 0.8
    lateral_px: float = 1.1  # at the focus
    focus: float = 0.45  # depth, as a fraction of the image
    divergence: float = 2.0  # growth of the lateral width, px per image depth

    def lateral_width(self, rows: int) -> FloatArray:
        """Return the lateral standard deviation of every row, px, float32, shape (rows,)."""
        depth = np.linspace(0.0, 1.0, rows, dtype=np.float32)
        width = np.sqrt(self.lateral_px**2 + (self.divergence * (depth - self.focus)) ** 2)
        return np.asarray(width, np.float32)


def speckle(
    rng: np.random.Generator,
    shape: tuple[int, int],
    amplitude: FloatArray | None = None,
    spread: PointSpread | None = None,
    looks: int = 1,
) -> FloatArray:
    """Return the envelope, before compression, of the echo from a random medium, float32, shape (H, W).

    The echo is the medium's complex Gaussian scatterers, weighted by ``amplitude`` (1 if None), convolved
    with the point-spread function (the linear model of Bamber and Dickinson). The function has unit energy at
    every depth, so that where the amplitude is 1 the mean power is 1 and the envelope is Rayleigh
    distributed: mean / standard deviation is sqrt(pi / (4 - pi)) = 1.91.

    Two looks are compounded as two views whose scatterers are uncorrelated (the same ones, moved by half
    the image along the beam), which halves the variance and makes the ratio 2.70.

    Source:
        Bamber and Dickinson (1980), Physics in Medicine and Biology 25(3):463-479 (the model);
        Wagner, Smith, Sandrik and Lopez (1983), IEEE Transactions on Sonics and Ultrasonics
        30(3):156-163 (the statistics).
    """
    spread = spread or PointSpread()
    columns = scipy.fft.next_fast_len(shape[1] + _LATERAL_PAD_PX)
    noise = rng.standard_normal((shape[0], columns, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    scatterers = noise.view(np.complex64)[..., 0]  # of unit power, (H, columns)
    transfer = _lateral_transfer(spread.lateral_width(shape[0]), columns)
    weights = np.ones(shape, np.float32) if amplitude is None else amplitude
    weights = np.pad(weights, ((0, 0), (0, columns - shape[1])), mode="reflect")
    envelope = np.zeros(shape, np.float32)
    for look in range(looks):
        view = np.roll(scatterers, look * shape[0] // looks, axis=0)
        echo = _blur_axially(_blur_laterally(view * weights, transfer), spread.axial_px)
        envelope += np.abs(echo[:, : shape[1]])
    return envelope / np.float32(looks)


def _lateral_transfer(sigma: FloatArray, columns: int) -> FloatArray:
    """Return the spectrum of each row's unit-energy Gaussian, float32, shape (H, columns)."""
    frequency = np.abs(scipy.fft.fftfreq(columns)).astype(np.float32)
    half = np.exp(-2 * np.float32(np.pi) ** 2 * np.outer(sigma**2, frequency[: columns // 2 + 1] ** 2))
    transfer = np.concatenate([half, half[:, 1 : (columns + 1) // 2][:, ::-1]], axis=1)  # symmetric
    transfer /= np.sqrt(np.mean(np.square(transfer), axis=1, keepdims=True))
    return np.asarray(transfer, np.float32)


def _blur_laterally(echo: ComplexArray, transfer: FloatArray) -> ComplexArray:
    """Convolve each row with its own kernel, given by its spectrum."""
    spectrum = scipy.fft.fft(echo, axis=1, overwrite_x=True)
    spectrum *= transfer
    return np.asarray(scipy.fft.ifft(spectrum, axis=1, overwrite_x=True), np.complex64)


def _blur_axially(echo: ComplexArray, sigma: float) -> ComplexArray:
    """Convolve the columns with a unit-energy Gaussian."""
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= np.sqrt(np.sum(kernel**2))
    parts = np.ascontiguousarray(echo).view(np.float32).reshape(*echo.shape, 2)
    blurred = cv2.sepFilter2D(parts, -1, np.ones(1, np.float32), kernel, borderType=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(blurred, np.float32).view(np.complex64)[..., 0]
