"""What is said while functions are compiled; tests/envs/test_compiled.py compares what they return."""

import numba
import pytest

from usrl.compute import compiled


def call_new(module: str) -> None:
    """Compile and call a function that is on no disk, as if a module held it."""

    def add(number: int) -> int:
        return number + 1

    add.__module__ = module
    assert numba.njit(add)(1) == 2


def test_the_first_compilation_of_a_process_is_announced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled._NOTICE, "has_said", False)
    for module, count in (("elsewhere", 0), ("usrl.new", 1), ("usrl.newer", 1)):
        call_new(module)
        assert caplog.text.count("compiling loops for this CPU, some seconds") == count
