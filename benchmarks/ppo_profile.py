"""Where the time of PPO goes: shares of rollout and update, and of torch's operations, after one warm-up.

python benchmarks/ppo_profile.py --algorithm ppo
python benchmarks/ppo_profile.py --algorithm ppo-device
"""

import time
from collections.abc import Callable
from typing import Any

from contour_ppo import build
from reporting import make_parser, parse, print_machine, write_rows
from stable_baselines3 import PPO
from torch.profiler import ProfilerActivity, profile


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
    parser = make_parser(__doc__, devices=["cpu"])
    parser.add_argument("--algorithm", choices=["ppo", "ppo-device"], default="ppo")
    arguments = parse(parser)
    print_machine(arguments)
    model = build(arguments.algorithm, arguments.device)
    steps = model.n_envs * model.n_steps
    model.learn(steps)
    seconds: dict[str, float] = {}
    parts = {"environment": (model.env, "step_wait" if type(model) is PPO else "step_tensors")}
    parts |= {"update": (model, "train"), "rollout with environment": (model, "collect_rollouts")}
    for name, (owner, method) in parts.items():
        setattr(owner, method, timed(getattr(owner, method), seconds, name))
    model.learn(3 * steps, reset_num_timesteps=False)
    shared = {"device": arguments.device, "num_envs": model.n_envs, "steps": steps}
    rows = []
    for name, spent in seconds.items():
        milliseconds = spent / 3 * 1000
        print(f"{name:<26} {milliseconds:8.0f} ms of processor time per {steps} steps")
        rows.append(
            {"name": f"{arguments.algorithm}: {name}"} | shared | {"milliseconds": round(milliseconds)}
        )
    write_rows(rows, arguments.json)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        model.learn(steps, reset_num_timesteps=False)
    averages = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in averages)
    for row in averages[:8]:
        print(
            f"{row.key:<26} {row.self_cpu_time_total / total:8.1%} of the operations' time, {row.count} calls"
        )


if __name__ == "__main__":
    main()
