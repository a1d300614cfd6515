"""A body: layers under the skin, ribs, an organ with vessels, and one lesion with its standard plane."""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

from usrl.data.bodies.poses import DEGREES, rotations
from usrl.data.bodies.tissues import TISSUES
from usrl.data.bodies.volumes import SHAPE, SPACING_MM, FloatArray
from usrl.data.phantom.anatomy import Draws

Labels = NDArray[np.uint8]
_X = ((np.arange(SHAPE[1], dtype=np.float32) - (SHAPE[1] - 1) / 2) * SPACING_MM).astype(np.float32)
_Y = ((np.arange(SHAPE[0], dtype=np.float32) - (SHAPE[0] - 1) / 2) * SPACING_MM).astype(np.float32)
_Z = ((np.arange(SHAPE[2], dtype=np.float32) + 0.5) * SPACING_MM).astype(np.float32)


@dataclass(frozen=True)
class _Frame:
    """Coordinates that are tied to the lesion, mm.

    All of a body's anatomy is laid out around its lesion, as organs and vessels of people lie to each other:
    what a probe sees tells in which direction the lesion is.
    """

    x: FloatArray  # along the skin, turned with the lesion, (Y, X, 1)
    y: FloatArray
    lateral: FloatArray  # along the axes of the standard plane, (Y, X, Z)
    elevational: FloatArray
    axial: FloatArray


def draw_body(rng: Draws) -> tuple[Labels, FloatArray]:
    """Draw a body: labels of its tissues, uint8 (Y, X, Z), and the pose of its standard plane, float32 (5,).

    The standard plane goes through the lesion's centre, along its longest and its second axis. The probe that
    sees it has the centre in the middle of its slice, and the longest axis across.
    """
    yaw = rng.uniform(-30, 30) * DEGREES
    tilt = rng.within((-12, 12), (-20, 20)) * DEGREES
    roll = rng.within((-8, 8), (-14, 14)) * DEGREES
    centre = np.array([rng.uniform(-10, 10), rng.uniform(-10, 10), 0.0])
    x, y = _turn(yaw, centre)
    fat_end, muscle_end = _draw_layers(rng, x, y)
    row, column = (int(np.abs(axis - place).argmin()) for axis, place in ((_Y, centre[1]), (_X, centre[0])))
    centre[2] = muscle_end[row, column, 0] + rng.uniform(8.5, 12)
    angles = torch.tensor([[0, 0, yaw, tilt, roll]], dtype=torch.float64)
    axes = rotations(angles)[0].numpy()
    contact = centre - axes[:, 2] * centre[2] / axes[2, 2]
    frame = _Frame(x, y, *_project(axes, centre))
    labels = _fill_layers(rng, frame, fat_end, muscle_end)
    _draw_ribs(rng, labels, frame, (fat_end + muscle_end) / np.float32(2))
    _draw_cysts(rng, labels, frame, muscle_end)
    _draw_vessels(rng, labels, frame)
    _draw_lesion(rng, labels, frame)
    return labels, np.array([*contact[:2], yaw, tilt, roll], np.float32)


def draw_texture(rng: np.random.Generator) -> FloatArray:
    """Return slow noise of unit variance, float32, (Y, X, Z)."""
    coarse = rng.standard_normal([side // 4 for side in SHAPE], dtype=np.float32)
    slow = scipy.ndimage.zoom(coarse, 4, order=1)
    return np.asarray(slow / slow.std(), np.float32)


def draw_speckle(rng: np.random.Generator) -> FloatArray:
    """Return the envelope of speckle, of unit mean power, float32, (Y, X, Z).

    Complex Gaussian scatterers are blurred by about one voxel, so that speckle is a property of the tissue:
    slices that nearly coincide show nearly the same, and slices that are some millimetres apart do not. The
    envelope is Rayleigh distributed (Wagner et al. 1983, doi:10.1109/T-SU.1983.31404).
    """
    parts = [
        scipy.ndimage.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), 0.6, mode="wrap")
        for _ in range(2)
    ]
    power = np.square(parts[0]) + np.square(parts[1])
    return np.asarray(np.sqrt(power / power.mean()), np.float32)


def _turn(yaw: float, centre: NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """Return coordinates along the skin that are turned around a centre, (Y, X, 1) each."""
    x, y = _X[None, :, None] - np.float32(centre[0]), _Y[:, None, None] - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    return cosine * x + sine * y, cosine * y - sine * x


def _project(axes: NDArray[np.float64], centre: NDArray[np.float64]) -> list[FloatArray]:
    """Return coordinates along the columns of axes, (Y, X, Z) each."""
    x, y, z = (axis - np.float32(place) for axis, place in zip((_X, _Y, _Z), centre, strict=True))
    a = axes.astype(np.float32)
    return [a[0, k] * x[None, :, None] + a[1, k] * y[:, None, None] + a[2, k] * z for k in range(3)]


def _noise(rng: Draws, cells: int) -> FloatArray:
    """Return smooth unit noise over the skin, (Y, X, 1)."""
    coarse = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, SHAPE[1::-1], interpolation=cv2.INTER_CUBIC)[..., None], np.float32)


def _draw_layers(rng: Draws, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the depths where fat and muscle end, mm, (Y, X, 1).

    Fat gets thicker along y, most of all above the lesion, and muscle along x.
    """
    uneven = np.float32(rng.within((0.4, 1.2), (0.2, 2.0)))
    step = np.float32(rng.within((3, 4), (2, 5))) * np.tanh(y / np.float32(14))
    fat_end = np.float32(rng.within((8, 11), (7, 15))) + step + uneven * _noise(rng, 5)
    fat_end = np.maximum(fat_end, np.float32(3.5))
    muscle = np.float32(rng.within((7, 10), (5, 13))) + np.float32(0.05) * x + uneven * _noise(rng, 5)
    return fat_end, fat_end + np.maximum(muscle, np.float32(4))


def _fill_layers(rng: Draws, frame: _Frame, fat_end: FloatArray, muscle_end: FloatArray) -> Labels:
    """Return skin, fat, muscle, the organ below and what is next to it, uint8, (Y, X, Z)."""
    skin_end = np.float32(2.0) + np.float32(0.2) * _noise(rng, 6)
    labels = np.full(SHAPE, TISSUES["organ"].label, np.uint8)
    # The organ ends on one side along y, and far away on one side along x.
    edge_y = np.float32(rng.within((24, 32), (18, 40))) - np.float32(0.004) * np.square(frame.x)
    edge_x = np.float32(rng.within((-48, -36), (-60, -28)))
    beyond = np.maximum(frame.y - edge_y - 2 * _noise(rng, 6), edge_x - frame.x)  # mm outside of the organ
    beyond = beyond + np.float32(0.3) * (_Z - np.float32(30))
    # A sloping boundary behind it, as the diaphragm is behind the liver: the slice that a probe sees has it
    # deeper or higher by how far it is off the lesion, and oblique by how far it is turned.
    slope = np.float32(rng.within((0.55, 0.7), (0.4, 0.9)))
    behind = frame.axial - np.float32(rng.within((12.5, 14.5), (12, 18))) - slope * frame.elevational
    behind = np.minimum(behind, frame.axial)  # it does not rise above the lesion's middle
    for surface in (beyond, behind):
        labels[surface > 0] = TISSUES["bowel"].label
        labels[np.abs(surface) < 0.9] = TISSUES["fascia"].label
    for name, end in (("muscle", muscle_end), ("fat", fat_end), ("skin", skin_end)):
        if name != "skin":
            labels[np.abs(end - _Z) < 0.8] = TISSUES["fascia"].label
            end = end - np.float32(0.8)
        labels[end > _Z] = TISSUES[name].label
    return labels


def _draw_ribs(rng: Draws, labels: Labels, frame: _Frame, depth: FloatArray) -> None:
    """Draw up to three ribs along x, on one side of the lesion."""
    first, spacing = rng.within((-27, -21), (-32, -18)), rng.uniform(17, 22)
    end, bend = rng.uniform(5, 30), np.float32(rng.uniform(0.0, 0.004))
    for rib in range(3):
        across = frame.y - np.float32(first - rib * spacing) - bend * np.square(frame.x)
        inside = np.square(across / np.float32(4.0)) + np.square((_Z - depth) / np.float32(2.6)) < 1
        labels[inside & (frame.x < end)] = TISSUES["bone"].label


def _draw_cysts(rng: Draws, labels: Labels, frame: _Frame, muscle_end: FloatArray) -> None:
    """Draw small cysts in the organ, away from the lesion."""
    for _ in range(rng.integers(1, 4 + round(3 * rng.variety))):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(26, 55)
        radius, depth = rng.uniform(2.5, 4.0), rng.uniform(8, 20)
        x, y = distance * np.cos(angle), distance * np.sin(angle)
        square = np.square(frame.x - np.float32(x)) + np.square(frame.y - np.float32(y))
        z = _Z - muscle_end - np.float32(depth)
        labels[square + np.square(z) < radius**2] = TISSUES["cyst"].label


def _draw_vessels(rng: Draws, labels: Labels, frame: _Frame) -> None:
    """Draw a vessel along the lesion on one side, its branch across, and a bright band on the other side."""
    bend, phase = np.float32(rng.within((0.5, 2.0), (0.0, 4.0))), np.float32(rng.uniform(0, 2 * np.pi))
    wave = bend * np.sin(frame.lateral / np.float32(22) + phase)
    beside = np.float32(rng.within((8.5, 9.5), (8.5, 13)))
    radius = rng.within((2.8, 3.6), (2.2, 4.2))
    main = np.square(frame.elevational - beside - wave) + np.square(frame.axial - np.float32(4))
    wall, vessel, fascia = (TISSUES[name].label for name in ("fascia", "vessel", "fascia"))
    deep = labels == TISSUES["organ"].label
    right = np.float32(rng.within((16, 19), (15, 24)))
    branch = np.square(frame.lateral - right) + np.square(
        frame.axial - np.float32(2) - np.float32(0.15) * np.abs(frame.elevational)
    )
    is_branch = frame.elevational < beside
    band = np.square(frame.elevational + np.float32(rng.uniform(7, 8))) + np.square(frame.axial)
    labels[deep & (band < 1.6**2)] = fascia
    labels[deep & ((main < (radius + 0.9) ** 2) | (is_branch & (branch < (radius - 0.2) ** 2)))] = wall
    labels[deep & ((main < radius**2) | (is_branch & (branch < (radius - 0.9) ** 2)))] = vessel


def _draw_lesion(rng: Draws, labels: Labels, frame: _Frame) -> None:
    """Draw the lesion, an ellipsoid with a slightly uneven surface."""
    longest = rng.within((10, 13), (8.5, 15))
    second = rng.within((5.5, 7), (5, 8))
    shortest = rng.within((4.0, 5.0), (3.5, 5.5))
    second, shortest = max(second, shortest), min(second, shortest)  # with variety their ranges overlap
    form = (
        np.square(frame.lateral / np.float32(longest))
        + np.square(frame.axial / np.float32(second))
        + np.square(frame.elevational / np.float32(shortest))
    )
    amplitude = np.float32(rng.within((0.0, 0.06), (0.0, 0.15)))
    phases = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    wave = np.sin(frame.lateral * np.float32(0.5) + phases[0])
    wave = wave + np.sin(frame.axial * np.float32(0.8) + phases[1])
    near = form < 2
    labels[near & (form < 1 + amplitude * wave)] = TISSUES["lesion"].label
