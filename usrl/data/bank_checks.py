"""What is refused as a bank."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from usrl.data.sample import BoolMask, Sample
from usrl.errors import UserError

REMEDY = "Bank.from_arrays(images, targets) or Bank.from_samples(samples) makes a bank that fits"


def check_tensors(images: Any, targets: Any, proposals: Any, names: Sequence[str]) -> None:
    """Raise a `UserError` where the fields of a bank are not those that `usrl.data.bank.Bank` states.

    Only types and shapes are looked at: nothing is asked of the device.
    """
    shape: tuple[int | str, ...] = tuple(images.shape) if isinstance(images, torch.Tensor) else ()
    if len(shape) != 3 or shape[1] != shape[2]:
        shape = ("M", "S", "S")  # which no tensor has
    _check_tensor("images", images, torch.uint8, shape)
    _check_tensor("targets", targets, torch.bool, shape)
    if proposals is not None:
        _check_tensor("proposals", proposals, torch.bool, shape)
    if not len(images) or len(names) != len(images):
        raise UserError(
            f"a bank needs at least one row, and a name for each, got {len(images)} rows and "
            f"{len(names)} names; {REMEDY}"
        )


def _check_tensor(name: str, tensor: Any, dtype: torch.dtype, shape: tuple[int | str, ...]) -> None:
    """Raise where a field of a bank is not a tensor of a type and shape."""
    is_tensor = isinstance(tensor, torch.Tensor)
    if not is_tensor or tensor.dtype != dtype or tuple(tensor.shape) != shape:
        got = f"{tensor.dtype} {tuple(tensor.shape)}" if is_tensor else f"a {type(tensor).__name__}"
        wanted = f"({', '.join(map(str, shape))})"
        raise UserError(f"a bank's {name} must be a tensor of {dtype} {wanted}, got {got}; {REMEDY}")


def check_proposals(samples: Sequence[Sample], proposals: Sequence[BoolMask] | None) -> None:
    """Raise a `UserError` where proposals and samples do not match one to one."""
    if proposals is None:
        return
    if len(proposals) != len(samples):
        raise UserError(
            f"one proposal per sample is needed, got {len(proposals)} for {len(samples)} samples; "
            "pass the proposals of exactly these samples"
        )
    for sample, proposal in zip(samples, proposals, strict=True):
        if proposal.dtype != np.bool_ or proposal.shape != sample.image.shape:
            raise UserError(
                f"{sample.name}: its proposal must be bool of shape {sample.image.shape}, "
                f"got {proposal.dtype} {proposal.shape}; resample it to the native image"
            )
