import numpy as np
import pytest
import torch
from nifti_builders import ellipsoid

from usrl.data.bodies.planes import standard_pose
from usrl.data.bodies.poses import DEGREES, angles_deg, distances_mm, rotations
from usrl.data.bodies.volumes import SHAPE, SPACING_MM
from usrl.errors import UserError

HALF_AXES = (16, 10, 6)


def axes_of(yaw, tilt, roll):
    """Return lateral, elevational and axial axes as columns, from degrees."""
    angles = [angle * DEGREES for angle in (yaw, tilt, roll)]
    return rotations(torch.tensor([[0, 0, *angles]], dtype=torch.float64))[0].numpy()


def target_along(axes, half_axes=HALF_AXES, centre_mm=(4.0, -3.0, 30.0)):
    """Return an ellipsoid, (Y, X, Z), whose longest, second and shortest axis are columns 0, 2 and 1."""
    longest, second, shortest = half_axes
    x, y, z = centre_mm
    place = (x / SPACING_MM + 63.5, y / SPACING_MM + 63.5, z / SPACING_MM - 0.5)
    shape = (SHAPE[1], SHAPE[0], SHAPE[2])
    return ellipsoid(shape, place, (longest, shortest, second), SPACING_MM, axes).transpose(1, 0, 2)


def check_pose(pose, yaw, tilt, roll, centre_mm=(4.0, -3.0, 30.0)):
    wanted = torch.tensor([[0, 0, *(angle * DEGREES for angle in (yaw, tilt, roll))]])
    axial = rotations(wanted)[0, :, 2]
    wanted[0, :2] = torch.tensor(centre_mm)[:2] - axial[:2] / axial[2] * centre_mm[2]
    found = torch.from_numpy(pose[None])
    assert angles_deg(found, wanted).item() < 1
    assert distances_mm(found, wanted).item() < 0.5


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (40, 0, 0), (-75, 10, -8), (20, 25, 15), (-30, -28, -40), (85, -12, 20)]
)
def test_an_ellipsoid_of_known_axes_gives_back_its_pose(angles):
    pose, half_axes = standard_pose(target_along(axes_of(*angles)))
    check_pose(pose, *angles)
    np.testing.assert_allclose(half_axes, HALF_AXES, atol=0.2)


@pytest.mark.parametrize("yaw", [100, 180, -120])
def test_a_yaw_beyond_90_degrees_is_turned_by_180(yaw):
    pose, _ = standard_pose(target_along(axes_of(yaw, 12, 9)))
    # The other way round the same plane leans to the other side.
    check_pose(pose, yaw - np.sign(yaw) * 180, -12, -9)


@pytest.mark.parametrize("tilt", [29, -29])
def test_a_plane_of_less_than_30_degrees_is_tilted(tilt):
    assert standard_pose(target_along(axes_of(10, tilt, 5)))[0][3] == pytest.approx(tilt * DEGREES, abs=0.02)


@pytest.mark.parametrize(("tilt", "roll"), [(40, 0), (-40, 0), (60, 20), (85, -30)])
def test_a_plane_that_asks_for_more_tilt_becomes_vertical(tilt, roll):
    axes = axes_of(10, tilt, roll)
    pose, _ = standard_pose(target_along(axes))
    lateral = axes[:, 0]
    steep = -np.arcsin(lateral[2]) / DEGREES
    yaw = np.arctan2(lateral[1], lateral[0]) / DEGREES
    check_pose(pose, yaw, 0, steep)


@pytest.mark.parametrize("roll", [50, -50, 89])
def test_a_target_that_stands_too_steep_is_refused(roll):
    message = rf"longest axis is {abs(roll)} degrees steep, and a probe rolls by at most 45 .*another side"
    with pytest.raises(UserError, match=message):
        standard_pose(target_along(axes_of(10, 0, roll)))


def test_a_probe_that_would_stand_beside_the_body_is_refused():
    lean = axes_of(0, 0, 40)  # 50 mm deep, so the probe stands 50 tan(40) = 42 mm to the side
    standard_pose(target_along(lean, (9, 6, 4), centre_mm=(-28, 0, 50)))
    with pytest.raises(
        UserError, match="have to stand 73 mm from the middle, and at most 72 mm are possible"
    ):
        standard_pose(target_along(lean, (9, 6, 4), centre_mm=(-32, 0, 50)))


@pytest.mark.parametrize("count", [0, 7])
def test_a_target_of_few_voxels_is_refused(count):
    target = np.zeros(SHAPE, bool)
    target[60, 60, :count] = True
    with pytest.raises(
        UserError, match=rf"the target has {count} voxels of 1.25 mm, and at least 8 are wanted"
    ):
        standard_pose(target)


@pytest.mark.parametrize("half_axes", [(8, 8, 8), (9, 8.5, 5)])
def test_a_target_of_nearly_equal_axes_has_a_plane_however_it_stands(half_axes):
    for roll in (0, 70, 90):
        target = target_along(axes_of(20, 0, roll), half_axes)
        pose, _ = standard_pose(target)
        np.testing.assert_array_equal(standard_pose(target)[0], pose)
        assert np.abs(pose[3:]).max() <= 45 * DEGREES
        if half_axes[2] < 8:  # the plane is known, and which of its axes is across is not
            assert pose[2:4] == pytest.approx([20 * DEGREES, 0], abs=0.05)
