"""Steps per second of environments that are stepped with prepared random actions.

Next to the rate by the wall clock is the rate by the processor's time of this process. On a shared machine
the first falls with what else runs there, the second hardly.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from reporting import make_parser, parse, print_machine, print_round, write_rows

import usrl  # noqa: F401 - registers the environments


class Case:
    """An environment that is stepped with prepared random actions."""

    def __init__(self, env_id: str, num_envs: int, settings: dict[str, Any], device: str) -> None:
        self.num_envs = num_envs
        self._env: Any = gym.make_vec(env_id, num_envs=num_envs, device=device, **settings)
        if num_envs == 1:
            self._env = gym.make(env_id, device=device, **settings)
        self._env.action_space.seed(0)
        self._env.reset(seed=0)
        self._actions = [self._env.action_space.sample() for _ in range(50)]

    def play(self, seconds: float) -> tuple[float, float]:
        """Step for a while; return steps per second of the wall clock and of the processor."""
        wall, cpu, steps = time.perf_counter(), time.process_time(), 0
        for action in itertools.cycle(self._actions):
            _, _, terminated, truncated, _ = self._env.step(action)
            if self.num_envs == 1 and (terminated or truncated):
                self._env.reset()
            steps += self.num_envs
            if time.perf_counter() - wall >= seconds:  # a step of many environments takes long
                break
        return steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu)


def measure(
    env_id: str, listed: Sequence[tuple[str, int, dict[str, Any]]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row for each (name, environments, settings): the median over rounds of all of them."""
    device = arguments.device
    cases = [Case(env_id, num_envs, settings, device) for _, num_envs, settings in listed]
    for case in cases:
        case.play(0.1)
    found = []
    for number in range(1, arguments.rounds + 1):
        found.append([case.play(arguments.seconds) for case in cases])
        for (name, num_envs, _), (rate, _) in zip(listed, found[-1], strict=True):
            print_round(number, name, num_envs, rate)
    wall, cpu = np.median(np.array(found), axis=0).T  # of (R, cases, 2)
    return [
        {
            "name": name,
            "device": device,
            "num_envs": num_envs,
            "steps_per_second": round(float(wall[row])),
            "steps_per_cpu_second": round(float(cpu[row])),
        }
        for row, (name, num_envs, _) in enumerate(listed)
    ]


def run(description: str | None, env_id: str, listed: Sequence[tuple[str, int, dict[str, Any]]]) -> None:
    """Measure, print a table and write JSON: what a script does that steps one environment."""
    parser = make_parser(description)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per case and round")
    arguments = parse(parser)
    print_machine(arguments)
    rows = measure(env_id, listed, arguments)
    for row in rows:
        print(
            f"{row['name']:<40} {row['num_envs']:>4} envs {row['steps_per_second']:>8} steps/s "
            f"{row['steps_per_cpu_second']:>8} steps/s of processor time"
        )
    write_rows(rows, arguments.json)
