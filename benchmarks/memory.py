"""Memory of a bank per row, and peak memory per environment of many environments less that of one.

Each number of environments plays in a process of its own. Every line is printed as soon as it is measured.

python benchmarks/memory.py --json memory.json
"""

import argparse
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from plain import VERTICES, PlainContourEnv
from reporting import make_parser, parse, print_machine, write_rows
from stable_baselines3.common.vec_env import DummyVecEnv

from usrl.data.bank import Bank
from usrl.data.phantom.dataset import default_bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"
STEPS = 20
ROWS = {"plain sb3 dummy": 256, "contour sb3 dummy": 256, "contour sb3": 4096}
"""Number of environments that one environment is compared with."""


def make(name: str, count: int, device: str) -> Any:
    """Return what `STEPS` steps are played on, by the name of its row."""
    bank = default_bank()
    if name == "plain sb3 dummy":
        return DummyVecEnv([lambda: PlainContourEnv(bank)] * count)
    if name == "contour sb3 dummy":
        return DummyVecEnv([lambda: gym.make(ENV_ID, cases=bank)] * count)
    return TaskVecEnv(build_task(ENV_ID, bank.to(device), {}), count)


def play(venv: Any, count: int) -> None:
    """Play some steps, which prepares all that steps need."""
    venv.reset()
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (count, VERTICES)).astype(np.float32)
    for _ in range(STEPS):
        venv.step(actions)


def peak_bytes(name: str, count: int, device: str) -> int:
    """Play in this process and return its peak: of the device, or resident on the host."""
    play(make(name, count, device), count)
    if device == "cuda" and name == "contour sb3":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bank_bytes(bank: Bank) -> dict[str, int]:
    """Return the memory of a bank by what it holds, once contour refinement was played on it."""
    play(TaskVecEnv(build_task(ENV_ID, bank, {}), 1), 1)
    sizes: dict[str, int] = defaultdict(int)
    for name, tensor in [
        *_tensors("bank", bank),
        *(t for made in bank._prepared.values() for t in _named(made)),
    ]:
        sizes[name] += tensor.numel() * tensor.element_size()
    return dict(sizes)


def _named(made: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what was prepared: under the name of its class, or as one of the smaller tables."""
    yield from _tensors("tables" if isinstance(made, torch.Tensor) else type(made).__name__, made)


def _tensors(name: str, holder: Any) -> Iterator[tuple[str, torch.Tensor]]:
    values = [getattr(holder, each.name) for each in fields(holder)] if is_dataclass(holder) else [holder]
    yield from ((name, value) for value in values if isinstance(value, torch.Tensor))


def measure_bank() -> list[dict[str, Any]]:
    """Return a row per part of a bank of phantoms, in bytes per row of the bank."""
    bank = default_bank()
    sizes = bank_bytes(bank)
    sizes["sum"] = sum(sizes.values())
    for name, size in sizes.items():
        print(f"{name:<18} {len(bank):>5} rows {size / len(bank) / 1024:>9.1f} KiB a row", flush=True)
    return [
        {"name": name, "rows": len(bank), "bytes_per_row": round(size / len(bank))}
        for name, size in sizes.items()
    ]


def measure(run: Callable[[str, int], int], device: str) -> list[dict[str, Any]]:
    """Return a row per kind of environment."""
    rows = []
    for name, count in ROWS.items():
        peaks = {}
        for number in (1, count):
            peaks[number] = run(name, number)
            print(f"{name:<18} {number:>5} envs {peaks[number] / 1024**2:>9.1f} MiB at peak", flush=True)
        each = (peaks[count] - peaks[1]) / (count - 1)
        print(f"{name:<18} {'':>10} {each / 1024:>9.1f} KiB an environment", flush=True)
        rows.append({"name": name, "device": device, "num_envs": count, "bytes_per_env": round(each)})
    return rows


def main() -> None:
    """Measure in child processes, print a table and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--child", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    arguments = parse(parser)
    if arguments.child:
        print(peak_bytes(arguments.child[0], int(arguments.child[1]), arguments.device))
        return
    print_machine(arguments)
    options = ["--device", arguments.device, "--threads", str(arguments.threads)]

    def run(name: str, count: int) -> int:
        command = [sys.executable, __file__, *options, "--child", name, str(count)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    rows = measure_bank()
    rows += measure(run, arguments.device)
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
