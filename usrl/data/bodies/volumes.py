"""Volumes as cases of episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.data.bodies.tissues import (
    FLOOR_DB,
    LOSS_STEP_DB,
    SPECKLE_FLOOR_DB,
    SPECKLE_RANGE_DB,
    TISSUES,
    tissue_table,
)
from usrl.data.cases import Cases

VOLUMES = "volumes"
"""Kind of these cases."""
SHAPE = (128, 128, 48)
"""Voxels along (y, x, z)."""
SPACING_MM = 1.25
"""Side of a voxel, mm. Volumes reach 80 mm to each side of their middle, and 60 mm deep."""
ECHO, LOSS, SPECKLE, LABEL = range(4)
"""What the four bytes of a voxel hold; `usrl.data.bodies.tissues` says what the codes mean."""
HALF_MM = SHAPE[0] * SPACING_MM / 2
"""Half the width of a volume, mm."""
SKIN_MM = HALF_MM - 8
"""The middle of a probe stays within this distance of the middle of the skin, along x and y, mm."""
Voxels = NDArray[np.uint8]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Body:
    """One body.

    Attributes:
        voxels: uint8, (Y, X, Z, 4): echo, loss, speckle and label of each voxel. Depth z begins at the skin.
        standard: Pose (x, y, yaw, tilt, roll) of the standard plane, float32, (5,), mm and radians.
        name: Name of the body.
        group: Patient or seed, which splits and intervals keep together.
    """

    voxels: Voxels
    standard: FloatArray
    name: str
    group: str


@dataclass(frozen=True)
class Volumes(Cases):
    """Bodies on one device.

    Attributes:
        voxels: uint8, (M, Y, X, Z, 4).
        standard: Pose of each body's standard plane, float32, (M, 5).
    """

    kind: ClassVar[str] = VOLUMES
    voxels: Tensor
    standard: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def from_bodies(cls, bodies: Sequence[Body]) -> "Volumes":
        """Hold bodies; 3 MiB each."""
        return cls(
            torch.from_numpy(np.stack([body.voxels for body in bodies])),
            torch.from_numpy(np.stack([body.standard for body in bodies])),
            tuple(body.name for body in bodies),
            tuple(body.group for body in bodies),
        )


def encode_voxels(labels: NDArray[np.uint8], texture: FloatArray, speckle: FloatArray) -> Voxels:
    """Return the voxels of a label volume.

    Args:
        labels: Labels of `TISSUES`, uint8, (Y, X, Z).
        texture: Slow noise of unit variance, float32, (Y, X, Z): each tissue has its own share of it.
        speckle: Envelope of speckle of unit mean power, float32, (Y, X, Z).
    """
    echo_db = tissue_table("echo_db")[labels] + tissue_table("texture_db")[labels] * texture
    speckle_db = 20 * np.log10(np.maximum(speckle, np.float32(1e-3)))
    is_outside = labels == TISSUES["outside"].label  # where nothing echoes, not even speckle
    parts = (
        np.where(is_outside, 0, 255 * (1 - echo_db / np.float32(FLOOR_DB))),
        tissue_table("loss_db_mm")[labels] / np.float32(LOSS_STEP_DB),
        np.where(
            is_outside, 0, (speckle_db - np.float32(SPECKLE_FLOOR_DB)) * np.float32(255 / SPECKLE_RANGE_DB)
        ),
    )
    codes = [np.clip(np.rint(part), 0, 255).astype(np.uint8) for part in parts]
    return np.stack([*codes, labels], axis=-1)
