"""Poses of a probe: a point on the skin and three angles, and how far one is from another.

The body lies in coordinates x, y (along the skin) and z (depth), mm. A probe at rest looks along z, and its
slice lies along x. It turns by yaw around the depth, then by tilt around its own lateral axis, then by roll
within its slice. A pose is (x, y, yaw, tilt, roll), float32, in mm and radians.
"""

import math

import torch
from torch import Tensor

DEGREES = math.pi / 180


def rotations(poses: Tensor) -> Tensor:
    """Return the axes of probes as columns (lateral, elevational, axial), (B, 3, 3), from poses (B, 5)."""
    sy, st, sr = poses[:, 2:].sin().unbind(dim=1)
    cy, ct, cr = poses[:, 2:].cos().unbind(dim=1)
    lateral = [cy * cr - sy * st * sr, sy * cr + cy * st * sr, -ct * sr]
    elevational = [-sy * ct, cy * ct, st]
    axial = [cy * sr + sy * st * cr, sy * sr - cy * st * cr, ct * cr]
    columns = [torch.stack(axis, dim=1) for axis in (lateral, elevational, axial)]
    return torch.stack(columns, dim=2)


def angles_of(rotation: Tensor) -> Tensor:
    """Return (yaw, tilt, roll) of rotations (B, 3, 3), radians, (B, 3); the inverse of `rotations`."""
    yaw = torch.atan2(-rotation[:, 0, 1], rotation[:, 1, 1])
    tilt = torch.asin(rotation[:, 2, 1].clamp(-1, 1))
    roll = torch.atan2(-rotation[:, 2, 0], rotation[:, 2, 2])
    return torch.stack([yaw, tilt, roll], dim=1)


def turn(poses: Tensor, axis: Tensor, angle: Tensor) -> Tensor:
    """Return poses turned about axes (B, 3) of their own by angles (B,), radians: Rodrigues' formula."""
    x, y, z = (axis / axis.norm(dim=1, keepdim=True).clamp_min(1e-6)).unbind(dim=1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    sine, rest = angle.sin()[:, None, None], (1 - angle.cos())[:, None, None]
    turned = rotations(poses)
    turned = turned + turned @ (sine * cross + rest * (cross @ cross))
    return torch.cat([poses[:, :2], angles_of(turned)], dim=1)


def distances_mm(poses: Tensor, others: Tensor) -> Tensor:
    """Return how far the points of two poses are apart, mm, (B,)."""
    return (poses[:, :2] - others[:, :2]).norm(dim=1)


def angles_deg(poses: Tensor, others: Tensor) -> Tensor:
    """Return the angle of the rotation from one pose to the other, degrees, (B,)."""
    product = rotations(poses) * rotations(others)  # its sum is the trace of the relative rotation
    cosine = (product.sum(dim=(1, 2)) - 1) / 2
    return cosine.clamp(-1, 1).acos() / DEGREES
