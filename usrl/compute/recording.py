"""Functions of tensors that a GPU replays as CUDA graphs.

A step of environments, or of an update, is hundreds of small operations. The host takes longer to launch one
than the GPU takes to do it. Recorded as a graph they are one launch.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Sequence[Any]]


class Recorded:
    """A function that a GPU records at its third call with tensors of some shapes, and replays from then on.

    On other devices the function is called as it is. So is a function that reads a number on the host: it
    cannot be recorded. What differs between calls must be an argument: a number that Python computes is
    recorded as it was. Other tensors that the function reads must stay where they are in memory.

    Args:
        function: Takes tensors, and returns a sequence of tensors, or of tensors and None.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._graphs: dict[Any, _Graph] = {}
        self._calls: Counter[Any] = Counter()
        self._is_recordable = True

    def __getstate__(self) -> dict[str, Any]:
        """Leave the graphs out of copies, which record graphs of their own."""
        return self.__dict__ | {"_graphs": {}, "_calls": Counter()}

    def __call__(self, *arguments: Tensor) -> Sequence[Any]:
        """Return what the function returns. The next call overwrites it: copy what you keep."""
        if not (self._is_recordable and all(argument.is_cuda for argument in arguments)):
            return self._function(*arguments)
        key = tuple((argument.shape, argument.dtype) for argument in arguments)
        if key not in self._graphs:
            self._calls[key] += 1
            if self._calls[key] <= 2:
                with _aside(arguments[0].device):
                    # The first call prepares what later calls use, often on the host.
                    return self._function(*arguments) if self._calls[key] == 1 else self._try(arguments)
            self._graphs[key] = _Graph(self._function, arguments)
        return self._graphs[key].replay(arguments)

    def _try(self, arguments: Sequence[Tensor]) -> Sequence[Any]:
        """Call the function, and note if it waits for the GPU."""
        try:
            with _waiting_is_an_error():
                return self._function(*arguments)
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
        self._is_recordable = False
        return self._function(*arguments)


class _Graph:
    """A function's operations on one set of tensors, and these tensors."""

    def __init__(self, function: Function, arguments: Sequence[Tensor]) -> None:
        self._arguments = [argument.clone() for argument in arguments]
        self._graph = torch.cuda.CUDAGraph()
        device = arguments[0].device
        recorded = torch.cuda.graph(self._graph, stream=_stream(device), capture_error_mode="thread_local")
        with torch.cuda.device(device), recorded:
            results = function(*self._arguments)
            # A result that shares memory with an argument would change with the arguments of the next call.
            own = {argument.untyped_storage().data_ptr() for argument in self._arguments}
            self._results = [
                each.clone() if each is not None and each.untyped_storage().data_ptr() in own else each
                for each in results
            ]

    def replay(self, arguments: Sequence[Tensor]) -> Sequence[Any]:
        for own, given in zip(self._arguments, arguments, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._results


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """Work on the stream of the records.

    Autograd ties a parameter to the stream of its first use while anything remembers that use, as SB3's
    distributions do. A parameter that is tied to another stream cannot be recorded.
    """
    stream, current = _stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        # Torch warns at each first use that it may miss a wait. In that case recording raises.
        warnings.filterwarnings("ignore", message="Synchronization debug mode")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
