"""Which lesions of an image are found."""

import numpy as np

from usrl.data.components import label_components
from usrl.data.sample import BoolMask
from usrl.metrics.overlap import check_masks

FOUND_IOU = 0.5
"""A lesion is found by a region whose intersection over union with it is larger than this."""


def detection_rate(pred: BoolMask, target: BoolMask) -> float:
    """Return the share of the target's components that are found, in [0, 1].

    A component is found if one component of the prediction has an IoU above `FOUND_IOU` with it. Above one
    half no region can find two lesions, and no lesion is found twice. Components are 8-connected. Both masks
    empty gives 1, exactly one empty 0.

    Args:
        pred: Predicted mask, bool, (H, W).
        target: Target mask, bool, (H, W).

    Raises:
        UserError: If the shapes differ.

    Source:
        Kirillov et al. (2019), Panoptic segmentation, CVPR 9404-9413, arXiv:1801.00868, for the threshold.
    """
    check_masks(pred, target)
    if not (pred.any() and target.any()):
        return float(pred.any() == target.any())
    (wanted, wanted_areas), (found, found_areas) = label_components(target), label_components(pred)
    count = len(found_areas)
    pairs = wanted.ravel().astype(np.int64) * count + found.ravel()
    shared = np.bincount(pairs, minlength=len(wanted_areas) * count).reshape(-1, count)  # (T + 1, P + 1)
    united = wanted_areas[:, None] + found_areas - shared
    return float((shared > FOUND_IOU * united)[1:, 1:].any(axis=1).mean())
