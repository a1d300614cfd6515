"""What is said while functions are compiled; tests/envs/test_compiled.py compares what they return."""

import os
import subprocess
import sys
from pathlib import Path

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


SCRIPT = """
import resource, signal, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
from usrl.compute.rng import uniform
print(uniform(torch.arange(2), 1).shape)
"""


def test_a_full_cache_costs_time_and_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert "torch.Size([2, 1])" in done.stdout
    assert done.stderr.count("compiled loops cannot be kept") == 1
    assert str(tmp_path) in done.stderr
    assert "File too large" in done.stderr


def test_a_damaged_cache_is_compiled_anew(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    script = SCRIPT.partition("resource.setrlimit")[0] + SCRIPT.partition("INFINITY))")[2]
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], env=environment, check=True)
        for path in [*tmp_path.rglob("*.nbi"), *tmp_path.rglob("*.nbc")]:
            path.write_bytes(b"damaged")
