"""Where tensors are computed."""

import torch

from usrl.errors import UserError


def select_device(name: str, argument: str = "--device") -> torch.device:
    """Return the device of a name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        name: What the user wrote.
        argument: Where, for messages.

    Raises:
        UserError: If the name is not a device, or that device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"{argument} must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{argument} {name}: {torch.cuda.device_count()} CUDA devices here; use {argument} auto or cpu"
        )
    return device
