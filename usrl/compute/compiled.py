"""Functions compiled for the CPU by Numba.

On a CPU an operation of torch costs microseconds however little it does, and a step of one environment would
be sixty of them. So the same arithmetic has a second form there, a loop over single items. Tensor formulas
serve every other device, and tests/envs/test_compiled.py compares the two.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from numba.core.caching import FunctionCache
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function on its first call, and keep the result on disk if a folder can be written."""
    dispatcher: Any = numba.njit(nogil=True)(function)
    try:
        dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
    except RuntimeError as error:  # there is no folder for the cache
        _NOTICE.say_uncached(str(error))
    return cast(Function, dispatcher)


class _Cache(FunctionCache):
    """Numba's cache. A full disk or a damaged file costs time, but stops nothing."""

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _NOTICE.say_uncached(f"{self.cache_path}: {error.strerror}")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # whatever unpickling meets
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None


def is_compiled_for(tensor: Tensor) -> bool:
    """Return whether a tensor is on the CPU, so that compiled functions serve it."""
    return tensor.device.type == "cpu"


class _Notice(event.Listener):
    """Says once in a process that a function of this package is compiled, which takes seconds."""

    def __init__(self) -> None:
        self.has_said = self.has_said_uncached = False

    def on_start(self, event: Any) -> None:
        """Log a line before the first compilation; a function from the disk is not compiled."""
        if not self.has_said and event.data["dispatcher"].py_func.__module__.startswith("usrl."):
            self.has_said = True
            logging.getLogger("usrl").warning(
                "usrl: compiling loops for this CPU, some seconds; kept on disk for later runs"
            )

    def say_uncached(self, why: str) -> None:
        if not self.has_said_uncached:
            self.has_said_uncached = True
            logging.getLogger("usrl").warning(
                "usrl: compiled loops cannot be kept (%s), so every process compiles them anew; make "
                "space, or set NUMBA_CACHE_DIR to another folder",
                why,
            )

    def on_end(self, event: Any) -> None:
        """Do nothing."""


_NOTICE = _Notice()
event.register("numba:compile", _NOTICE)  # type: ignore[no-untyped-call]
