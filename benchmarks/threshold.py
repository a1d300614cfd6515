"""Steps per second of `usrl/ThresholdSelect-v0`, by observation and size of the region.

    python benchmarks/threshold.py --json threshold.json

Beside the rate by the wall clock stands that by the processor's time of this process: on a shared machine
the first falls with what else runs there, the second hardly.
"""

import time
from typing import Any

import gymnasium as gym
import numpy as np
from reporting import make_parser, parse, print_machine, print_round, write_rows

import usrl  # noqa: F401 - registers the environments

ENV_ID = "usrl/ThresholdSelect-v0"
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("threshold single features", 1, {"grid": 1, "action": "raster", "observation": "features"}),
    ("threshold single image", 1, {}),
    ("threshold vector features", 64, {"observation": "features"}),
    ("threshold vector features, one tile", 64, {"grid": 1, "action": "raster", "observation": "features"}),
    ("threshold vector image", 64, {}),
    ("threshold vector image, one tile", 64, {"grid": 1}),
    ("threshold vector image, 16 tiles", 64, {"grid": 4}),
    ("threshold vector image, 36 px", 64, {"side": 36}),
    ("threshold vector image, one tile, 36 px", 64, {"grid": 1, "side": 36}),
    ("threshold vector image, cleaned", 64, {"clean": "largest+holes"}),
]


class Case:
    """An environment that is stepped with prepared random actions."""

    def __init__(self, num_envs: int, settings: dict[str, Any], device: str) -> None:
        self.num_envs = num_envs
        self._env: Any = gym.make_vec(ENV_ID, num_envs=num_envs, device=device, **settings)
        if num_envs == 1:
            self._env = gym.make(ENV_ID, device=device, **settings)
        self._env.action_space.seed(0)
        self._env.reset(seed=0)
        self._actions = [self._env.action_space.sample() for _ in range(50)]

    def play(self, seconds: float) -> tuple[float, float]:
        """Step for a while; return steps per second of the wall clock and of the processor."""
        wall, cpu, steps = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - wall < seconds:
            for action in self._actions:
                truncated = self._env.step(action)[3]
                if self.num_envs == 1 and truncated:
                    self._env.reset()
            steps += len(self._actions) * self.num_envs
        return steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu)


def measure(rounds: int, seconds: float, device: str) -> list[dict[str, Any]]:
    """Return a row per case: the median over rounds in which all cases take turns."""
    cases = [Case(num_envs, settings, device) for _, num_envs, settings in CASES]
    for case in cases:
        case.play(0.1)
    found = []
    for number in range(1, rounds + 1):
        found.append([case.play(seconds) for case in cases])
        for (name, num_envs, _), (rate, _) in zip(CASES, found[-1], strict=True):
            print_round(number, name, num_envs, rate)
    rates = np.array(found)  # (R, cases, 2)
    wall, cpu = np.median(rates, axis=0).T
    return [
        {
            "name": name,
            "device": device,
            "num_envs": num_envs,
            "steps_per_second": round(float(wall[row])),
            "steps_per_cpu_second": round(float(cpu[row])),
        }
        for row, (name, num_envs, _) in enumerate(CASES)
    ]


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per case and round")
    arguments = parse(parser)
    print_machine(arguments)
    rows = measure(arguments.rounds, arguments.seconds, arguments.device)
    for row in rows:
        print(
            f"{row['name']:<40} {row['num_envs']:>3} envs {row['steps_per_second']:>8} steps/s "
            f"{row['steps_per_cpu_second']:>8} steps/s of processor time"
        )
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
