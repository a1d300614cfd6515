"""Slices on the CPU: compiled loops, see `usrl.compute.compiled`."""

import numpy as np
from numpy.typing import NDArray

from usrl.compute.compiled import compiled

F = np.float32


@compiled
def scan(
    voxels: NDArray[np.uint32],
    body: NDArray[np.int64],
    origin: NDArray[np.float32],
    axes: NDArray[np.float32],
    rays: NDArray[np.float32],
    squeeze: NDArray[np.float32],
    lit: NDArray[np.float32],
    levels: NDArray[np.float32],
    physics: NDArray[np.float32],
    gray: NDArray[np.uint8],
    labels: NDArray[np.uint8],
) -> None:
    """Write what probes see along their rays into gray and labels, uint8, (B, S, S); see `Scanner`.

    Args:
        voxels: Of `usrl.data.bodies.volumes.Volumes`, the four bytes of each as one number, (M, Y, X, Z).
        body: Row of each environment's body, (B,).
        origin: Middle of each probe's face, voxels, (B, 3) as x, y, z.
        axes: Lateral and axial axes of each probe, voxels per mm, (B, 2, 3).
        rays: Start along the two axes (mm) and direction along them (mm per sample) of each ray, (S, 4).
        squeeze: Factor by which pressing makes depth shrink, (B,).
        lit: Share of the rays, from the middle outwards, that touch the skin, (B,).
        levels: Gray levels per code of echo, loss and speckle, (3,).
        physics: Gray of no echo, loss of gain per sample, specular loss, label of fascia, (4,).
        gray: B-mode gray levels by sample and ray.
        labels: Labels of the nearest voxels.
    """
    batch, side, _ = gray.shape
    _, rows, columns, depths = voxels.shape
    base, regain, specular, fascia = physics
    for b in range(batch):
        body_voxels = voxels[body[b]]
        for ray in range(side):
            start_u, start_d, step_u, step_d = rays[ray]
            x = origin[b, 0] + start_u * axes[b, 0, 0] + start_d * axes[b, 1, 0]
            y = origin[b, 1] + start_u * axes[b, 0, 1] + start_d * axes[b, 1, 1]
            z = origin[b, 2] + (start_u * axes[b, 0, 2] + start_d * axes[b, 1, 2]) * squeeze[b]
            dx = step_u * axes[b, 0, 0] + step_d * axes[b, 1, 0]
            dy = step_u * axes[b, 0, 1] + step_d * axes[b, 1, 1]
            dz = step_u * axes[b, 0, 2] + step_d * axes[b, 1, 2]
            glance = specular * (F(1) - dz * dz / (dx * dx + dy * dy + dz * dz))
            dz *= squeeze[b]
            is_lit = abs(F(2) * (F(ray) + F(0.5)) / F(side) - F(1)) <= lit[b]
            lost = F(0)
            x, y, z = x + F(0.5) * dx, y + F(0.5) * dy, z + F(0.5) * dz
            for sample in range(side):
                if z < F(-0.5) or not is_lit:
                    gray[b, sample, ray], labels[b, sample, ray] = 0, 0
                    x, y, z = x + dx, y + dy, z + dz
                    continue
                px = min(max(x, F(0)), F(columns - 1))
                py = min(max(y, F(0)), F(rows - 1))
                pz = min(max(z, F(0)), F(depths - 1))
                i, j, k = min(int(py), rows - 2), min(int(px), columns - 2), min(int(pz), depths - 2)
                fy, fx, fz = py - F(i), px - F(j), pz - F(k)
                echo, loss, noise = F(0), F(0), F(0)
                for corner in range(8):
                    di, dj, dk = corner >> 2, corner >> 1 & 1, corner & 1
                    w = (fy if di else F(1) - fy) * (fx if dj else F(1) - fx) * (fz if dk else F(1) - fz)
                    voxel = body_voxels[i + di, j + dj, k + dk]
                    echo += w * F(voxel & 255)
                    loss += w * F(voxel >> 8 & 255)
                    noise += w * F(voxel >> 16 & 255)
                label = body_voxels[i + (fy >= F(0.5)), j + (fx >= F(0.5)), k + (fz >= F(0.5))] >> 24
                value = base + echo * levels[0] + noise * levels[2] - lost
                if F(label) == fascia:
                    value -= glance
                lost += loss * levels[1] - regain
                gray[b, sample, ray] = np.uint8(min(max(value, F(0)), F(255)))
                labels[b, sample, ray] = label
                x, y, z = x + dx, y + dy, z + dz
