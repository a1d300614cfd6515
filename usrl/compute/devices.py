"""Where tensors are computed."""

import multiprocessing
import re
from collections.abc import Iterator
from contextlib import contextmanager

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
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d?))?", name):
        raise UserError(f"{argument} must be auto, cpu, cuda or cuda:N, got {name!r}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{argument} {name}: {torch.cuda.device_count()} CUDA devices here; use {argument} auto or cpu"
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; elsewhere it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def spare_threads_in_workers() -> None:
    """Let torch compute with one thread in a process that another one started, as its data loaders do.

    The threads that a parent has begun to use do not exist in its fork, which would wait for them forever,
    and processes of several threads each would wait for one another. Every task and every face of one calls
    this, so that more threads last only until the next one is made.
    """
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread on the CPU while the context lasts.

    For work as small as the steps of a few contours. A second thread gains nothing there, and each operation
    waits for it wherever another process has its core: on two cores, with one other process, an agent took 18
    times as long for an image.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
