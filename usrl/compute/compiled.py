"""Functions compiled for the CPU by Numba.

On a CPU an operation of torch costs microseconds however little it does, and a step of one environment
would be sixty of them. Where that matters, the same arithmetic also stands as a loop over single items;
tensor formulas serve every other device, and tests/envs/test_compiled.py holds the two together.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function on its first call, and keep the result on disk where a folder can be written."""
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder for the cache: compile anew in each process
        return cast(Function, numba.njit(nogil=True)(function))


def is_compiled_for(tensor: Tensor) -> bool:
    """Return whether compiled functions serve a tensor: whether it lies on the CPU."""
    return tensor.device.type == "cpu"


class _Notice(event.Listener):
    """Says once in a process that a function of this package is compiled: that takes seconds, in silence."""

    def __init__(self) -> None:
        self.has_said = False

    def on_start(self, event: Any) -> None:
        """Log a line before the first compilation; what is read from disk is none."""
        if not self.has_said and event.data["dispatcher"].py_func.__module__.startswith("usrl."):
            self.has_said = True
            logging.getLogger("usrl").warning(
                "usrl: compiling loops for this CPU, some seconds; kept on disk for later runs"
            )

    def on_end(self, event: Any) -> None:
        """Do nothing."""


_NOTICE = _Notice()
event.register("numba:compile", _NOTICE)  # type: ignore[no-untyped-call]
