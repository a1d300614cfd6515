"""Settings of contour refinement, and the contours that its episodes start from."""

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from usrl.compute.rng import uniform
from usrl.data.bank import Bank
from usrl.data.sample import DEFAULT_JITTER, Jitter
from usrl.envs.task import require_proposals
from usrl.errors import UserError
from usrl.geometry.area import RowSums
from usrl.geometry.boxes import boxes_of_masks, move_sides
from usrl.geometry.fourier import combine, fourier_basis
from usrl.geometry.moves import move_simply, smoothing_matrices
from usrl.geometry.polygon import ellipse_in_box, polygon_of_mask
from usrl.strict import Strict


class ContourSettings(Strict):
    """Arguments of the environment; `usrl.envs.contour.task.ContourTask` describes them."""

    vertices: Annotated[int, Field(ge=8, le=1024)] = 64
    samples: Annotated[int, Field(ge=36, le=256)] = 40
    step_px: Annotated[float, Field(gt=0)] = 4.0
    scale: Literal["pixel", "proposal"] = "pixel"
    observation: Literal["profile", "profile+start", "image"] = "profile"
    parametrization: Literal["vertices", "fourier"] = "vertices"
    coefficients: Annotated[int, Field(ge=1, le=64)] = 15
    reward: Literal["dice", "iou", "dice+boundary"] = "dice"
    proposal: Literal["box", "target", "network"] = "box"
    jitter: Jitter = DEFAULT_JITTER


class ContourStarts:
    """Draws the proposals of a bank's rows; `usrl.envs.contour.task.ContourTask` says which there are.

    Args:
        bank: Images and targets.
        settings: Those of the task.

    Raises:
        UserError: If `coefficients` do not fit the other settings, or network proposals are asked for and the
            bank has none.
    """

    def __init__(self, bank: Bank, settings: ContourSettings) -> None:
        _check(settings)
        if settings.proposal == "network":
            require_proposals(bank, "proposal='network'")
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


def _check(settings: ContourSettings) -> None:
    """Raise where settings do not fit together."""
    count, limit = settings.coefficients, settings.vertices
    if settings.parametrization != "fourier":
        if count != ContourSettings().coefficients:
            raise UserError(
                f"coefficients: {count} does nothing with parametrization={settings.parametrization!r}; set "
                "parametrization='fourier', or leave coefficients out"
            )
    elif count > limit:
        raise UserError(
            f"coefficients: {limit} vertices have no more than {limit} independent moves, got {count}; "
            f"choose coefficients up to {limit}, or more vertices"
        )


def _boxes(bank: Bank) -> Tensor:
    return boxes_of_masks(bank.targets)  # (M, 4)
