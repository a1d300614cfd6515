"""Environment steps per second of every face, beside a plain one-image environment of the same rules.

All measurements take turns in the same process, so that a busy machine slows them alike: read the ratios.

    python benchmarks/throughput.py --json throughput.json
    python benchmarks/throughput.py --only ppo
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from usrl.agents.device_ppo import DevicePPO
from usrl.agents.policies import ContourPolicy
from usrl.agents.vec_env import TaskVecEnv
from usrl.data.bank import Bank
from usrl.envs.batch import default_bank
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"
REFERENCES = ("plain single", "contour ppo")
"""What the other rows are compared with."""
HORIZON = 10
VERTICES, SAMPLES, STEP_PX = 64, 40, 4.0


class PlainContourEnv(gym.Env[Any, Any]):
    """Contour refinement as one would write it first: one image, NumPy, and masks drawn by OpenCV.

    The same action, observation and reward, without the guarantees: vertices may cross and bunch.
    """

    def __init__(self, bank: Bank) -> None:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (VERTICES,), np.float32)
        self.observation_space = gym.spaces.Box(0, 255, (3, VERTICES, SAMPLES), np.uint8)
        self._targets = bank.targets.numpy().astype(np.uint8)
        self._channels = [_channels(image) for image in bank.images.numpy()]
        self._offsets = np.arange(SAMPLES, dtype=np.float32) - (SAMPLES - 1) / 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin with the ellipse in a jittered box."""
        super().reset(seed=seed)
        self._row = int(self.np_random.integers(len(self._targets)))
        x, y, width, height = cv2.boundingRect(self._targets[self._row])
        low, high = np.array([x, y], np.float32), np.array([x + width, y + height], np.float32)
        low += self.np_random.uniform(-0.2, 0.2, 2) * (width, height)
        high += self.np_random.uniform(-0.2, 0.2, 2) * (width, height)
        angle = np.arange(VERTICES) * (2 * np.pi / VERTICES)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        self._vertices = ((low + high) / 2 + circle * (high - low) / 2).astype(np.float32)
        self._dice, self._elapsed = self._score(), 0
        return self._observe(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move the vertices, draw the mask and pay the change of Dice."""
        moved = self._vertices + self._normals() * (action * STEP_PX)[:, None]
        self._vertices = np.clip(moved, 0, self._targets.shape[1] - 1)
        before, self._dice = self._dice, self._score()
        self._elapsed += 1
        return self._observe(), self._dice - before, False, self._elapsed >= HORIZON, {}

    def _normals(self) -> NDArray[np.float32]:
        chord = np.roll(self._vertices, -2, axis=0) - np.roll(self._vertices, 2, axis=0)
        normal = np.stack([chord[:, 1], -chord[:, 0]], axis=1)
        return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)

    def _score(self) -> float:
        target = self._targets[self._row]
        mask = np.zeros_like(target)
        cv2.fillPoly(mask, [self._vertices.round().astype(np.int32)], 1)
        return 2 * float((mask & target).sum()) / float(mask.sum() + target.sum())

    def _observe(self) -> NDArray[np.uint8]:
        places = self._vertices[:, None] + self._normals()[:, None] * self._offsets[:, None]
        x, y = places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
        profile = cv2.remap(
            self._channels[self._row], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.ascontiguousarray(profile.transpose(2, 0, 1))


def _channels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    slope_y, slope_x = np.gradient(smooth)
    edge = np.minimum(4 * np.hypot(slope_x, slope_y), 255).astype(np.uint8)
    return np.stack([image, cv2.GaussianBlur(image, (0, 0), 2.0), edge], axis=-1)


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


def _ppo(
    bank: Bank, count: int, device: str, algorithm: type[PPO] = PPO, **settings: Any
) -> Callable[[], int]:
    """Return what collects a rollout and learns from it, with the settings of agents/contour-ppo."""
    venv = TaskVecEnv(build_task(ENV_ID, bank.to(device), {}), count)
    settings |= {"n_steps": 20, "batch_size": 256, "n_epochs": 4, "gamma": 0.5, "device": device}
    model = algorithm(ContourPolicy, venv, policy_kwargs={"layers": 4}, **settings)

    def learn() -> int:
        model.learn(count * 20, reset_num_timesteps=False)
        return count * 20

    return learn


def cases(device: str) -> dict[tuple[str, int], Callable[[], int]]:
    """Return what is measured, by name and number of environments: each call plays and counts steps."""
    bank = default_bank()
    plain = DummyVecEnv([lambda: PlainContourEnv(bank)] * 16)
    found = {
        ("plain single", 1): _single(PlainContourEnv(bank)),
        ("plain sb3 dummy", 16): _sb3(plain, 16),
        ("contour single", 1): _single(gym.make(ENV_ID, bank=bank, device=device)),
        ("contour sb3", 16): _sb3(TaskVecEnv(build_task(ENV_ID, bank.to(device), {}), 16), 16),
        ("contour ppo", 64): _ppo(bank, 64, device),
        ("contour ppo-device", 64): _ppo(bank, 64, device, DevicePPO, autocast=True),
        ("contour ppo-device float32", 64): _ppo(bank, 64, device, DevicePPO, autocast=False),
    }
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
    plain, ppo = np.array(rates["plain single", 1]), np.array(rates["contour ppo", 64])
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="per case and round")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--only", default="", help="rows whose name holds this, and the references")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device here; use --device cpu")
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    chosen = {
        key: play
        for key, play in cases(arguments.device).items()
        if arguments.only in key[0] or key[0] in REFERENCES
    }
    rows = measure(chosen, arguments.rounds, arguments.seconds, arguments.device)
    hardware = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor()
    print(
        f"{hardware or platform.machine()}, {os.cpu_count()} CPUs, {arguments.threads} thread(s), "
        f"torch {torch.__version__}, numpy {np.__version__}, OpenCV {cv2.__version__}"
    )
    for row in rows:
        print(
            f"{row['name']:<26} {row['num_envs']:>5} envs {row['steps_per_second']:>9} steps/s "
            f"{row['times_plain']:>7.2f} x plain"
            + (f" {row['times_ppo']:>6.2f} x stock ppo" if "times_ppo" in row else "")
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
