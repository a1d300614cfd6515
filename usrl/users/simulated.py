"""A simulated user who corrects a session on a native image."""

import hashlib

import torch

from usrl.compute.rng import step_keys
from usrl.data.sample import BoolMask
from usrl.geometry.area import signed_distances
from usrl.session import Asks, Marks
from usrl.users.users import User, draw_border, look

SATISFIED = 0.95
"""Overlap (IoU) with a user's own border from which the user is content."""


class SimulatedUser:
    """Corrects the segmentations of one image.

    What the user marks depends only on the segmentation, the number of corrections and the key, so that all
    methods meet the same user.

    Args:
        user: How the user looks and marks.
        target: The true mask, bool, (H, W), with at least one pixel.
        key: Random key of the user's own border and choices; `make_key` makes one from a text.
        satisfied: The user stops at this overlap (IoU) with the user's own border.
    """

    def __init__(self, user: User, target: BoolMask, key: int, satisfied: float = SATISFIED) -> None:
        self._user, self._satisfied = user, satisfied
        self._key = torch.tensor([key])
        self._border = draw_border(user, signed_distances(torch.from_numpy(target)[None]), self._key)

    def mark(self, mask: BoolMask, corrections: int, asks: Asks) -> Marks | None:
        """Return what the user marks in a mask, bool, (H, W), after some corrections; None to stop."""
        key = step_keys(self._key, torch.tensor([corrections]))
        seen = look(self._user, signed_distances(torch.from_numpy(mask)[None]), self._border, key)
        if float(seen.iou[0]) >= self._satisfied or not bool(seen.sees_error[0]):
            return None
        if asks == "border":
            return Marks(border=(_as_pair(seen.border),))
        click = (_as_pair(seen.centre),)
        return Marks(inside=click) if bool(seen.is_missing[0]) else Marks(outside=click)


def make_key(text: str) -> int:
    """Return a random key, a whole number of 63 bits, that is the same for the same text everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _as_pair(point: torch.Tensor) -> tuple[float, float]:
    x, y = point[0].tolist()
    return float(x), float(y)
