"""Environment steps per second of every face, beside a plain one-image environment of the same rules.

All measurements take turns in the same process, so that a busy machine slows them alike: read the ratios.

    python benchmarks/throughput.py --json throughput.json
    python benchmarks/throughput.py --only ppo
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from contour_ppo import build
from plain import HORIZON, VERTICES, PlainContourEnv
from reporting import make_parser, parse, print_machine, print_round, wait, write_rows
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from usrl.data.bank import Bank
from usrl.data.phantom.dataset import default_bank
from usrl.envs.sb3 import TaskVecEnv
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"
REFERENCES = ("plain single", "contour ppo")
"""What the other rows are compared with: PPO with stock PPO of as many environments."""
COUNTS = {"cpu": (1, 16, 64, 256), "cuda": (1, 16, 64, 256, 4096)}
"""Environments of the vector face."""
TENSOR_COUNTS = {"cpu": (64,), "cuda": (64, 1024, 4096, 16384)}
"""Environments whose actions and observations stay on their device."""
WARM_UP = 3
"""Calls of each case before the first round, unless one is long: a GPU replays from the third on."""
LARGE_PPO = {"num_envs": 4096, "batch_size": 16384}
"""What keeps a GPU busy, the recipe's other hyperparameters unchanged."""


def _single(env: gym.Env[Any, Any]) -> Callable[[], int]:
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (HORIZON, VERTICES)).astype(np.float32)

    def play() -> int:
        env.reset()
        for action in actions:
            env.step(action)
        return HORIZON

    return play


def _vector(count: int, bank: Bank, device: str) -> Callable[[], int]:
    envs = gym.make_vec(ENV_ID, num_envs=count, cases=bank, device=device)
    envs.reset(seed=0)
    shape = (HORIZON, count, VERTICES)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)

    def play() -> int:
        for action in actions:
            envs.step(action)
        return HORIZON * count

    return play


def _sb3(venv: Any, count: int) -> Callable[[], int]:
    venv.reset()
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (HORIZON, count, VERTICES)).astype(np.float32)

    def play() -> int:
        for action in actions:
            venv.step(action)
        return HORIZON * count

    return play


def _tensors(venv: TaskVecEnv, device: str) -> Callable[[], int]:
    """Return what steps as `ppo-device` does: nothing is copied to NumPy."""
    venv.reset()
    shape = (HORIZON, venv.num_envs, VERTICES)
    actions = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5).to(device)

    def play() -> int:
        for action in actions:
            venv.step_tensors(action)
        return HORIZON * venv.num_envs

    return play


def _ppo(model: PPO) -> Callable[[], int]:
    """Return what collects a rollout and learns from it."""
    steps = model.n_envs * model.n_steps

    def learn() -> int:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    return learn


def cases(device: str) -> dict[tuple[str, int], Callable[[], int]]:
    """Return what is measured, by name and number of environments: each call plays and counts steps."""
    bank = default_bank()
    plain, ours = [lambda: PlainContourEnv(bank)] * 16, [lambda: gym.make(ENV_ID, cases=bank)] * 16
    found = {
        ("plain single", 1): _single(PlainContourEnv(bank)),
        ("plain sb3 dummy", 16): _sb3(DummyVecEnv(plain), 16),
        ("plain sb3 subproc", 4): _sb3(SubprocVecEnv(plain[:4]), 4),
        ("contour sb3 dummy", 16): _sb3(DummyVecEnv(ours), 16),
        ("contour single", 1): _single(gym.make(ENV_ID, cases=bank, device=device)),
        ("contour sb3", 16): _sb3(TaskVecEnv(build_task(ENV_ID, bank.to(device), {}), 16), 16),
    }
    on_device = build_task(ENV_ID, bank.to(device), {})
    for count in TENSOR_COUNTS[device]:
        found["contour tensors", count] = _tensors(TaskVecEnv(on_device, count), device)
    for changed in ({}, LARGE_PPO) if device == "cuda" else ({},):
        models = {
            "contour ppo": build("ppo", device, **changed),
            "contour ppo-device": build("ppo-device", device, **changed),
            "contour ppo-device float32": build("ppo-device", device, autocast=False, **changed),
        }
        found |= {(name, model.n_envs): _ppo(model) for name, model in models.items()}
    return found | {("contour vector", count): _vector(count, bank, device) for count in COUNTS[device]}


def measure(
    plays: dict[tuple[str, int], Callable[[], int]], rounds: int, seconds: float, device: str
) -> list[Any]:
    """Return a row per case: the median over rounds in which all cases take turns."""
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in plays}
    for play in plays.values():
        began = time.perf_counter()
        for _ in range(WARM_UP):
            if time.perf_counter() - began < seconds:
                play()
    for number in range(1, rounds + 1):
        for key, play in plays.items():
            wait(device)
            began, steps = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                steps += play()
                wait(device)
            rates[key].append(steps / (time.perf_counter() - began))
            print_round(number, *key, rates[key][-1])
    plain, ppo = REFERENCES
    rows = []
    for (name, count), rate in rates.items():
        # Within a round, what else the machine does weighs on both.
        row = {
            "name": name,
            "device": device,
            "num_envs": count,
            "steps_per_second": round(median(rate)),
            "times_plain": round(median(np.divide(rate, rates[plain, 1])), 3),
        }
        if "ppo" in name:
            row["times_ppo"] = round(median(np.divide(rate, rates[ppo, count])), 3)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="per case and round")
    parser.add_argument("--only", default="", help="rows whose name holds this, and the references")
    arguments = parse(parser)
    print_machine(arguments)
    chosen = {
        key: play
        for key, play in cases(arguments.device).items()
        if arguments.only in key[0] or key[0] in REFERENCES
    }
    rows = measure(chosen, arguments.rounds, arguments.seconds, arguments.device)
    for row in rows:
        print(
            f"{row['name']:<26} {row['num_envs']:>5} envs {row['steps_per_second']:>9} steps/s "
            f"{row['times_plain']:>7.2f} x plain"
            + (f" {row['times_ppo']:>6.2f} x stock ppo" if "times_ppo" in row else "")
        )
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
