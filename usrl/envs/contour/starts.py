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
    """Draws the proposals of a bank's rows; see `usrl.envs.contour.task.ContourTask`.

    Raises:
        UserError: If the settings ask for network proposals and the bank has none.
    """

    def __init__(self, bank: Bank, settings: ContourSettings) -> None:
        if settings.proposal == "network":
            bank.require_proposals("proposal='network'")
        self._bank, self._settings = bank, settings

    def propose(self, index: Tensor, keys: Tensor) -> Tensor:
        """Return valid polygons (B, N, 2) in working pixels for rows of the bank and episodes' keys, (B,)."""
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
    """Return a bank's targets as `usrl.geometry.area.measure_dice` wants them, for `Bank.prepare`."""
    return RowSums.of(bank.targets)


def _boxes(bank: Bank) -> Tensor:
    return boxes_of_masks(bank.targets)  # (M, 4)
