"""Synthetic B-mode breast images: the embedded default dataset.

Origin: simulated here, in the field's usual model. A map of echo amplitude (skin, fat, gland, muscle, one
lesion, cysts and fat lobules that distract) weights complex Gaussian scatterers, a depth-dependent
point-spread function blurs them, the envelope is attenuated along each line (shadows, posterior
enhancement), amplified, joined by receiver noise and compressed logarithmically.

Licence: that of this package. Citation: none. Count: as many as asked for; image ``index`` of a seed is
the same whatever the count. Spacing: 0.15 mm.

Known-bad cases: none in the reference masks, which are exact. Contrast is drawn at random, hence a few
lesions are close to invisible, as they are in the clinic.
"""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from usrl.data.bank import Bank
from usrl.data.phantom.anatomy import Draws, draw_anatomy
from usrl.data.phantom.speckle import PointSpread, speckle
from usrl.data.sample import FloatArray, GrayImage, Sample
from usrl.errors import UserError
from usrl.files import make_empty_folder, writing_to
from usrl.progress import track

SPACING_MM = (0.15, 0.15)
"""(row, column) pixel size, mm."""


def load_phantom(
    count: int = 200,
    seed: int = 0,
    shape: tuple[int, int] = (256, 256),
    variety: float = 0.0,
    show_progress: bool = False,
) -> list[Sample]:
    """Simulate a dataset.

    Args:
        count: Number of images.
        seed: Non-negative; together with the position it determines every image.
        shape: (H, W) of the images, px, each at least 32.
        variety: From 0, the usual looks, to 1, wide ranges of speckle, blur, contrast, gain and gray map, of
            layers and shadows, and of lesions' size, shape, edge and inner structure.
        show_progress: Show a progress bar.

    Returns:
        ``count`` samples with exactly one lesion each; every one is a group of its own.
    """
    if count < 1:
        raise UserError(f"count must be at least 1, got {count}; ask for one image or more")
    images = (make_phantom(seed, index, shape, variety) for index in range(count))
    return list(track(images, "Simulating images", count) if show_progress else images)


def make_phantom(seed: int, index: int, shape: tuple[int, int] = (256, 256), variety: float = 0.0) -> Sample:
    """Simulate ``phantom-<index>`` of `load_phantom`; equal arguments give equal bytes."""
    if min(seed, index) < 0 or min(shape) < 32 or not 0 <= variety <= 1:
        raise UserError(
            "a phantom needs seed >= 0, index >= 0, sides of at least 32 px and a variety from 0 to 1, got "
            f"seed {seed}, index {index}, shape {tuple(shape)} and variety {variety}; fix the wrong one"
        )
    rng = Draws([seed, index], variety)
    anatomy = draw_anatomy(rng, shape)
    image = _acquire(rng, anatomy.echo_db, anatomy.loss_db)
    name = f"phantom-{index:04d}"
    return Sample(image, anatomy.lesion, SPACING_MM, name, group=name, source="phantom")


def write_phantom(
    out: Path, count: int = 200, seed: int = 0, variety: float = 0.0, show_progress: bool = False
) -> list[Path]:
    """Write a data set of `load_phantom` as PNG into a new or empty folder; return the images' paths.

    It has the layout of the data set ``folder``: ``images/NAME.png`` and ``masks/NAME.png``.
    """
    out = make_empty_folder(out)
    samples = load_phantom(count, seed, variety=variety, show_progress=show_progress)
    with writing_to(out):
        for folder in ("images", "masks"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for sample in samples:
            mask = sample.target.astype(np.uint8) * np.uint8(255)
            for folder, picture in (("images", sample.image), ("masks", mask)):
                content = cv2.imencode(".png", picture)[1].tobytes()
                (out / folder / f"{sample.name}.png").write_bytes(content)
    return [out / "images" / f"{sample.name}.png" for sample in samples]


def _acquire(rng: Draws, echo_db: FloatArray, loss_db: FloatArray) -> GrayImage:
    """Return the scanner's view of a medium, uint8, shape (H, W)."""
    rows, columns = echo_db.shape
    spread = PointSpread(
        axial_px=rng.within((0.7, 1.0), (0.5, 1.8)),
        lateral_px=rng.within((0.9, 1.4), (0.7, 2.6)),
        focus=rng.uniform(0.3, 0.6),
        divergence=rng.within((1.0, 3.0), (0.0, 4.0)),
    )
    amplitude = _from_db(echo_db)
    envelope = speckle(rng, (rows, columns), amplitude, spread, looks=2) * _from_db(-loss_db)
    noise_db = rng.within((-58, -48), (-70, -44)) + np.linspace(0, rng.uniform(4, 12), rows, dtype=np.float32)
    noise = np.abs(rng.standard_normal((rows, columns), dtype=np.float32))
    envelope += noise * _from_db(noise_db)[:, None]
    return _compress(
        envelope,
        dynamic_range_db=rng.within((50, 60), (42, 75)),
        gamma=rng.within((1.4, 2.4), (0.9, 3.0)),
        blur_px=rng.within((0, 0), (0, 1.5)),
    )


def _compress(envelope: FloatArray, dynamic_range_db: float, gamma: float, blur_px: float) -> GrayImage:
    """Compress logarithmically, smooth, and map to gray by a power as scanners do."""
    white = np.percentile(envelope[::3, ::3], 99.7)
    level_db = np.float32(20) * np.log10(envelope / np.float32(white) + np.float32(1e-6))
    if blur_px:
        level_db = cv2.GaussianBlur(level_db, (0, 0), blur_px)
    level = np.clip(1 + level_db / np.float32(dynamic_range_db), 0, 1)
    return np.asarray(255 * level ** np.float32(gamma), np.uint8)


def _from_db(level: FloatArray) -> FloatArray:
    return np.asarray(np.exp(level * np.float32(np.log(10) / 20)), np.float32)


@lru_cache(maxsize=2)
def default_bank(size: int = 128) -> Bank:
    """Return the bank of 64 synthetic images for environments that are made without cases."""
    return Bank.from_samples(load_phantom(64), size)
