"""Functions compiled for the CPU by Numba.

On a CPU an operation of torch costs microseconds however little it does, and a step of one environment
would be sixty of them. Where that matters, the same arithmetic also stands as a loop over single items;
tensor formulas serve every other device, and tests/envs/test_compiled.py holds the two together.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
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
