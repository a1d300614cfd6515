"""Where the time of PPO goes: shares of rollout and update, and of torch's operations, after one warm-up.

python benchmarks/ppo_profile.py --algorithm ppo
python benchmarks/ppo_profile.py --algorithm ppo-device
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3 import PPO
from torch.profiler import ProfilerActivity, profile

from usrl.agents.device_ppo import DevicePPO
from usrl.agents.policies import ContourPolicy
from usrl.agents.vec_env import TaskVecEnv
from usrl.envs.batch import default_bank
from usrl.registry import build_task

ALGORITHMS = {"ppo": PPO, "ppo-device": DevicePPO}
STEPS, ENVS = 20, 64


def build(algorithm: str) -> PPO:
    """Return an algorithm with the settings of agents/contour-ppo."""
    venv = TaskVecEnv(build_task("usrl/ContourRefine-v0", default_bank(), {}), ENVS)
    settings = {"n_steps": STEPS, "batch_size": 256, "n_epochs": 4, "gamma": 0.5, "device": "cpu"}
    return ALGORITHMS[algorithm](ContourPolicy, venv, policy_kwargs={"layers": 4}, **settings)


def timed(function: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    """Return a function that adds the processor time of its calls to ``seconds[name]``."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        began = time.process_time()
        result = function(*arguments, **keywords)
        seconds[name] = seconds.get(name, 0.0) + time.process_time() - began
        return result

    return call


def main() -> None:
    """Print the shares of parts over three rollouts, and of operations over one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="ppo")
    torch.set_num_threads(1)
    model = build(parser.parse_args().algorithm)
    model.learn(STEPS * ENVS)
    seconds: dict[str, float] = {}
    parts = {"environment": (model.env, "step_wait" if type(model) is PPO else "step_tensors")}
    parts |= {"update": (model, "train"), "rollout with environment": (model, "collect_rollouts")}
    for name, (owner, method) in parts.items():
        setattr(owner, method, timed(getattr(owner, method), seconds, name))
    model.learn(3 * STEPS * ENVS, reset_num_timesteps=False)
    for name, spent in seconds.items():
        print(f"{name:<26} {spent / 3 * 1000:8.0f} ms of processor time per {STEPS * ENVS} steps")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        model.learn(STEPS * ENVS, reset_num_timesteps=False)
    averages = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in averages)
    for row in averages[:8]:
        print(
            f"{row.key:<26} {row.self_cpu_time_total / total:8.1%} of the operations' time, {row.count} calls"
        )


if __name__ == "__main__":
    main()
