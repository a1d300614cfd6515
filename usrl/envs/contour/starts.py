"""The contours that episodes start from."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from usrl.compute.rng import uniform
from usrl.data.bank import Bank
from usrl.envs.contour.settings import ContourSettings
from usrl.geometry.area import RowSums
from usrl.geometry.boxes import boxes_of_masks, move_sides
from usrl.geometry.fourier import combine, fourier_basis
from usrl.geometry.moves import move_simply, smoothing_matrices
from usrl.geometry.polygon import ellipse_in_box, polygon_of_mask


class ContourStarts:
    """Draws the proposals of a bank's rows; `usrl.envs.contour.task.ContourTask` says which there are.

    Args:
        bank: Images and targets.
        settings: Those of the task.

    Raises:
        UserError: If network proposals are asked for and the bank has none.
    """

    def __init__(self, bank: Bank, settings: ContourSettings) -> None:
        if settings.proposal == "network":
            bank.require_proposals("proposal='network'")
        self._bank, self._settings = bank, settings

    def propose(self, index: Tensor, keys: Tensor) -> Tensor:
        """Return the contours that episodes start from.

        Args:
            index: Rows of the bank, int64, (B,).
            keys: Keys of the episodes (`usrl.compute.rng`), int64, (B,).

        Returns:
            Valid polygons (`usrl.geometry.polygon.is_valid`), float32, (B, N, 2), working pixels.
        """
        settings = self._settings
        if settings.proposal == "network":
            return self._outlines[index]
        if settings.proposal == "box":
            shares = (2 * uniform(keys, 4) - 1) * settings.jitter  # (B, 4)
            return ellipse_in_box(move_sides(self._bank.prepare(_boxes)[index], shares), settings.vertices)
        waves = 2 * uniform(keys, 7) - 1  # (B, 7), up to the third harmonic
        basis = fourier_basis(7, settings.vertices, index.device)
        radius = torch.sqrt(self._bank.prepare(row_sums).area[index] / torch.pi)  # (B,)
        wave = (combine(waves, basis) / 7) * (settings.jitter * radius)[:, None]  # (B, N)
        smoothings = smoothing_matrices(settings.vertices, self._bank.device)
        return move_simply(self._outlines[index], wave, smoothings, self._bank.size - 1)

    @cached_property
    def _outlines(self) -> Tensor:
        """Outlines of the masks that episodes start from, (M, N, 2)."""
        bank, network = self._bank, self._settings.proposal == "network"
        masks = bank.proposals if network and bank.proposals is not None else bank.targets
        outlines = np.stack([polygon_of_mask(mask, self._settings.vertices) for mask in masks.cpu().numpy()])
        return torch.from_numpy(outlines).to(bank.device)


def row_sums(bank: Bank) -> RowSums:
    """Return the bank's targets prepared for `usrl.geometry.area.measure_dice`; for `Bank.prepare`."""
    return RowSums.of(bank.targets)


def _boxes(bank: Bank) -> Tensor:
    return boxes_of_masks(bank.targets)  # (M, 4)
