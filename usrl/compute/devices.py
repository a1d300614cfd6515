"""Where tensors are computed."""

import multiprocessing
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from usrl.errors import UserError


def select_device(name: str, argument: str = "--device") -> torch.device:
    """Return the device of a name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Messages call the place of the name by ``argument``.

    Raises:
        UserError: If the name is not a device, or this machine lacks that device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d?))?", name):
        raise UserError(f"{argument} must be auto, cpu, cuda or cuda:N, got {name!r}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{argument} {name}: found {torch.cuda.device_count()} CUDA devices; use {argument} auto or cpu"
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; elsewhere it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def spare_threads_in_workers() -> None:
    """Let torch compute with one thread in a process that another process started, as its data loaders do.

    A fork lacks the threads that its parent has begun to use, and would wait for them forever. Processes with
    several threads each would also wait for one another. Every task and every adapter calls this, so that a
    larger number of threads lasts only until the next one is made.
    """
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread on the CPU while the context lasts.

    A second thread gains nothing for work as small as the steps of a few contours, and each operation waits
    for it while another process has its core. With one other process on two cores, an agent took 18 times as
    long for an image.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
