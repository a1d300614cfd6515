"""The one function that scores every method."""

from usrl.data.sample import BoolMask
from usrl.metrics.overlap import accuracy, dice, iou, precision, sensitivity, specificity
from usrl.metrics.surface import measure_surface

OVERLAPS = {
    "dice": dice,
    "iou": iou,
    "sensitivity": sensitivity,
    "precision": precision,
    "specificity": specificity,
    "accuracy": accuracy,
}
NSD_TOLERANCE = {"px": 2.0, "mm": 1.0}
"""Distance that the normalised surface Dice forgives, by unit."""


def score_case(
    pred: BoolMask, target: BoolMask, spacing_mm: tuple[float, float] | None = None
) -> dict[str, float]:
    """Return every metric of one prediction, by column name.

    Args:
        pred: Predicted mask at native resolution, bool, shape (H, W).
        target: Reference mask, bool, shape (H, W).
        spacing_mm: (row, column) pixel size in mm: distances are in mm and their columns say so; None
            measures in px.

    Raises:
        UserError: If the shapes differ.
    """
    unit = "px" if spacing_mm is None else "mm"
    surface = measure_surface(pred, target, NSD_TOLERANCE[unit], spacing_mm)
    return {name: overlap(pred, target) for name, overlap in OVERLAPS.items()} | {
        f"hd_{unit}": surface.hd,
        f"hd95_{unit}": surface.hd95,
        f"asd_{unit}": surface.asd,
        "nsd": surface.nsd,
    }
