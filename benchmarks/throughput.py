"""Environment steps per second of every face, beside a plain one-image environment of the same rules.

All measurements take turns in the same process, so that a busy machine slows them alike: read the ratios.

    python benchmarks/throughput.py --json throughput.json
    python benchmarks/throughput.py --only ppo
"""

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from contour_ppo import build
from plain import HORIZON, VERTICES, PlainContourEnv
from reporting import make_parser, parse, print_machine, write_rows
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from usrl.agents.vec_env import TaskVecEnv
from usrl.data.bank import Bank
from usrl.envs.batch import default_bank
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"
REFERENCES = ("plain single", "contour ppo")
"""What the other rows are compared with."""


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
    envs = gym.make_vec(ENV_ID, num_envs=count, bank=bank, device=device)
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
    plain, ours = [lambda: PlainContourEnv(bank)] * 16, [lambda: gym.make(ENV_ID, bank=bank)] * 16
    found = {
        ("plain single", 1): _single(PlainContourEnv(bank)),
        ("plain sb3 dummy", 16): _sb3(DummyVecEnv(plain), 16),
        ("plain sb3 subproc", 4): _sb3(SubprocVecEnv(plain[:4]), 4),
        ("contour sb3 dummy", 16): _sb3(DummyVecEnv(ours), 16),
        ("contour single", 1): _single(gym.make(ENV_ID, bank=bank, device=device)),
        ("contour sb3", 16): _sb3(TaskVecEnv(build_task(ENV_ID, bank.to(device), {}), 16), 16),
    }
    models = {
        "contour ppo": build("ppo", device),
        "contour ppo-device": build("ppo-device", device),
        "contour ppo-device float32": build("ppo-device", device, autocast=False),
    }
    found |= {(name, model.n_envs): _ppo(model) for name, model in models.items()}
    counts = (1, 16, 64, 256) if device == "cpu" else (1, 16, 256, 4096)
    return found | {("contour vector", count): _vector(count, bank, device) for count in counts}


def measure(
    plays: dict[tuple[str, int], Callable[[], int]], rounds: int, seconds: float, device: str
) -> list[Any]:
    """Return a row per case: the median over rounds in which all cases take turns."""
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in plays}
    for play in plays.values():
        play()
    for _ in range(rounds):
        for key, play in plays.items():
            began, steps = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                steps += play()
            rates[key].append(steps / (time.perf_counter() - began))
    plain, ppo = (
        np.array(next(rate for (name, _), rate in rates.items() if name == wanted)) for wanted in REFERENCES
    )
    return [
        {
            "name": name,
            "device": device,
            "num_envs": count,
            "steps_per_second": round(float(np.median(rate))),
            # Within a round, what else the machine does weighs on both.
            "times_plain": round(float(np.median(np.array(rate) / plain)), 3),
        }
        | ({"times_ppo": round(float(np.median(np.array(rate) / ppo)), 3)} if "ppo" in name else {})
        for (name, count), rate in rates.items()
    ]


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
