"""The standard plane of a target: the pose of a probe that shows it best."""

import numpy as np
import torch
from numpy.typing import NDArray

from usrl.data.bodies.poses import DEGREES, angles_of
from usrl.data.bodies.volumes import SKIN_MM, SPACING_MM, FloatArray
from usrl.errors import UserError

MAX_TILT, MAX_ROLL = 30 * DEGREES, 45 * DEGREES
"""A standard plane asks for no steeper probe."""
MIN_VOXELS = 8
"""A target of fewer voxels has no axes."""
NEARLY_EQUAL = 1.1
"""An axis that is longer than another by less than this factor could as well be the shorter one."""
"""A probe whose middle is farther out would hang over the edge of the body."""
_Axes = NDArray[np.float64]


def standard_pose(target: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return the pose of a target's standard plane, and the lengths of the target's half axes.

    The plane goes through the target's centre, along its longest principal axis. Of the planes through this
    axis it is the one that also contains the second axis. If a probe would have to tilt by more than 30
    degrees for that, it is the vertical plane. The probe has the centre in the middle of its slice and the
    longest axis across, and is yawed by at most 90 degrees. If the longest axis is too steep and the second
    is nearly as long, they change places.

    Args:
        target: Bool, (Y, X, Z), voxels of `usrl.data.bodies.volumes`.

    Returns:
        Pose (x, y, yaw, tilt, roll), float32, (5,), mm and radians; and half axes of the ellipsoid of equal
        moments, longest first, float32, (3,), mm.

    Raises:
        UserError: If the target is too small, or the probe would have to roll by more than 45 degrees, or to
            stand at the edge of the body.
    """
    y, x, z = np.nonzero(target)
    if len(z) < MIN_VOXELS:
        raise UserError(
            f"the target has {len(z)} voxels of {SPACING_MM} mm, and at least {MIN_VOXELS} are wanted; mark "
            "a larger target"
        )
    middle = (np.array(target.shape)[[1, 0]] - 1) / 2
    points = np.stack([x - middle[0], y - middle[1], z + 0.5], axis=1) * SPACING_MM
    centre = points.mean(axis=0)
    moments, vectors = np.linalg.eigh(np.cov(points, rowvar=False, bias=True))  # ascending
    half_axes = np.sqrt(
        5 * np.maximum(moments[::-1], 0)
    )  # a solid ellipsoid's variance is its half axis squared / 5
    axes, is_steep = _find_axes(vectors[:, 2], vectors[:, 1])
    if is_steep and half_axes[0] < NEARLY_EQUAL * half_axes[1]:
        axes, is_steep = _find_axes(vectors[:, 1], vectors[:, 2])
    if is_steep:
        _, _, roll = _angles(axes)
        raise UserError(
            f"the target's longest axis is {abs(roll) / DEGREES:.0f} degrees steep, and a probe rolls by at "
            f"most {MAX_ROLL / DEGREES:.0f} degrees; name another side as skin, or remove the volume"
        )
    contact = centre - axes[:, 2] * centre[2] / axes[2, 2]
    if np.abs(contact[:2]).max() > SKIN_MM:
        raise UserError(
            f"the probe would have to stand {np.abs(contact[:2]).max():.0f} mm from the middle, and at most "
            f"{SKIN_MM:.0f} mm are possible; name another side as skin, or remove the volume"
        )
    pose = np.array([*contact[:2], *_angles(axes)], np.float32)
    return pose, half_axes.astype(np.float32)


def _find_axes(longest: _Axes, second: _Axes) -> tuple[_Axes, bool]:
    """Return the axes of the probe, as columns, and whether it would have to roll too far."""
    axes = _along_both(longest, second)
    _, tilt, roll = _angles(axes)
    if max(abs(tilt) / MAX_TILT, abs(roll) / MAX_ROLL) > 1:
        axes = _upright(longest)
    _, _, roll = _angles(axes)
    return axes, abs(roll) > MAX_ROLL


def _along_both(longest: _Axes, second: _Axes) -> _Axes:
    """Return the axes of the probe, as columns, whose slice contains two axes of the target."""
    axial = second if second[2] >= 0 else -second
    return _facing(longest, axial)


def _upright(longest: _Axes) -> _Axes:
    """Return the axes of the probe, as columns, whose slice is vertical and contains an axis."""
    flat = np.array([-longest[1], longest[0], 0.0])
    length = np.linalg.norm(flat)
    if length < 1e-6:  # the axis is vertical; any direction will be too steep
        flat, length = np.array([0.0, 1.0, 0.0]), np.float64(1)
    axial = np.cross(longest, flat / length)
    return _facing(longest, axial if axial[2] >= 0 else -axial)


def _facing(lateral: _Axes, axial: _Axes) -> _Axes:
    """Return a right-handed system, as columns, whose yaw is at most 90 degrees."""
    elevational = np.cross(axial, lateral)
    if elevational[1] < 0:
        lateral, elevational = -lateral, -elevational
    return np.stack([lateral, elevational, axial], axis=1)


def _angles(axes: _Axes) -> tuple[float, float, float]:
    """Return yaw, tilt and roll."""
    yaw, tilt, roll = angles_of(torch.from_numpy(axes[None]))[0].tolist()
    return yaw, tilt, roll
