"""Peak memory per environment: of many environments less that of one, each in a process of its own.

python benchmarks/memory.py --json memory.json
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from plain import VERTICES, PlainContourEnv
from reporting import make_parser, parse, print_machine, write_rows
from stable_baselines3.common.vec_env import DummyVecEnv

from usrl.envs.batch import default_bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"
STEPS = 20


def make(name: str, count: int, device: str) -> Any:
    """Return what `STEPS` steps are played on, by the name of its row."""
    bank = default_bank()
    if name == "plain sb3 dummy":
        return DummyVecEnv([lambda: PlainContourEnv(bank)] * count)
    if name == "contour sb3 dummy":
        return DummyVecEnv([lambda: gym.make(ENV_ID, bank=bank)] * count)
    return TaskVecEnv(build_task(ENV_ID, bank.to(device), {}), count)


ROWS = {"plain sb3 dummy": 256, "contour sb3 dummy": 256, "contour sb3": 4096}
"""Number of environments that one environment is compared with."""


def peak_bytes(name: str, count: int, device: str) -> int:
    """Play in this process and return its peak: of the device, or resident on the host."""
    venv = make(name, count, device)
    venv.reset()
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (count, VERTICES)).astype(np.float32)
    for _ in range(STEPS):
        venv.step(actions)
    on_device = device == "cuda" and name == "contour sb3"
    return (
        torch.cuda.max_memory_allocated()
        if on_device
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )


def measure(run: Callable[[str, int], int], device: str) -> list[dict[str, Any]]:
    """Return a row per kind of environment."""
    rows = []
    for name, count in ROWS.items():
        each = (run(name, count) - run(name, 1)) / (count - 1)
        print(f"{name:<18} {count:>5} envs {each / 1024:>9.1f} KiB an environment", flush=True)
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
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    rows = measure(run, arguments.device)
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
