"""The tissues of bodies: what each sends back and how much it takes away."""

from dataclasses import dataclass

import numpy as np

from usrl.errors import UserError, suggest

FLOOR_DB = -60.0
"""Echo level of the code 0. A code e from 0 to 255 means ``FLOOR_DB * (1 - e / 255)`` dB."""
LOSS_STEP_DB = 0.1
"""A code of loss means this many dB per mm, there and back."""
SPECKLE_FLOOR_DB, SPECKLE_RANGE_DB = -25.0, 35.0
"""A code of speckle from 0 to 255 covers this range of dB around the mean power."""


@dataclass(frozen=True)
class Tissue:
    """One tissue.

    Attributes:
        label: Number in label volumes.
        echo_db: Echo level relative to the brightest, dB.
        loss_db_mm: Loss of the echo per mm of depth, there and back, dB/mm.
        texture_db: Standard deviation of slow changes of the echo level, dB.
    """

    label: int
    echo_db: float
    loss_db_mm: float
    texture_db: float = 1.0


SOFT_LOSS_DB_MM = 0.5
"""Loss of soft tissue, dB/mm: 0.5 dB/cm/MHz there and back at 5 MHz. Time gain compensation restores it."""

TISSUES: dict[str, Tissue] = {
    "outside": Tissue(0, FLOOR_DB, 0.0, 0.0),
    "skin": Tissue(1, -14, 0.6),
    "fat": Tissue(2, -30, 0.45, 1.5),
    "muscle": Tissue(3, -22, 0.55, 2.5),
    "fascia": Tissue(4, -6, 0.6),
    "organ": Tissue(5, -25, 0.5, 1.5),
    "bowel": Tissue(6, -18, 0.7, 4.0),
    "bone": Tissue(7, -2, 12.0, 0.0),
    "vessel": Tissue(8, -58, 0.05, 0.0),
    "cyst": Tissue(9, -52, 0.05, 0.0),
    "lesion": Tissue(10, -37, 0.55, 2.0),
}
"""Tissues by name. Levels follow how B-mode images of the abdomen look, not measurements of tissue.

The loss of soft tissue is the usual 0.5 dB/cm/MHz; that of bone makes a full shadow within some millimetres.
"""
FASCIA, LESION = TISSUES["fascia"].label, TISSUES["lesion"].label


def find_tissue(name: str) -> Tissue:
    """Return the tissue of a name; an unknown one is refused, and the nearest one is suggested."""
    if name not in TISSUES:
        raise UserError(f"unknown tissue {name!r}; {suggest(name, TISSUES)}")
    return TISSUES[name]


def tissue_table(attribute: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return an attribute of every tissue by label, float32, (labels,)."""
    return np.array([getattr(tissue, attribute) for tissue in TISSUES.values()], np.float32)
