"""Where the time of PPO goes: shares of rollout and update, and of torch's operations, after one warm-up.

python benchmarks/ppo_profile.py --algorithm ppo
python benchmarks/ppo_profile.py --algorithm ppo-device
python benchmarks/ppo_profile.py --algorithm ppo-device --device cuda --num-envs 4096 --batch-size 16384
"""

import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from contour_ppo import build
from reporting import make_parser, parse, print_machine, wait, write_rows
from stable_baselines3 import PPO
from torch.profiler import ProfilerActivity, profile


def timed(
    function: Callable[..., Any], seconds: dict[str, float], name: str, device: str
) -> Callable[..., Any]:
    """Return a function that adds the time of its calls to ``seconds[name]``.

    On a CPU that is processor time, which load disturbs less; on a GPU what the clock on the wall says until
    the GPU is done.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter

    def call(*arguments: Any, **keywords: Any) -> Any:
        wait(device)
        began = clock()
        result = function(*arguments, **keywords)
        wait(device)
        seconds[name] = seconds.get(name, 0.0) + clock() - began
        return result

    return call


def main() -> None:
    """Print the shares of parts over three rollouts, and of operations over one."""
    parser = make_parser(__doc__)
    parser.add_argument("--algorithm", choices=["ppo", "ppo-device"], default="ppo")
    parser.add_argument("--num-envs", type=int, help="those of the recipe by default")
    parser.add_argument("--batch-size", type=int, help="that of the recipe by default")
    arguments = parse(parser)
    print_machine(arguments)
    changed = {} if arguments.batch_size is None else {"batch_size": arguments.batch_size}
    device = arguments.device
    model = build(arguments.algorithm, device, arguments.num_envs, **changed)
    steps = model.n_envs * model.n_steps
    model.learn(steps)
    seconds: dict[str, float] = {}
    parts: dict[str, tuple[Any, str]] = {
        "environment": (model.env, "step_wait" if type(model) is PPO else "step_tensors")
    }
    parts |= {"update": (model, "train"), "rollout with environment": (model, "collect_rollouts")}
    for name, (owner, method) in parts.items():
        setattr(owner, method, timed(getattr(owner, method), seconds, name, device))
    model.learn(3 * steps, reset_num_timesteps=False)
    shared = {"device": device, "num_envs": model.n_envs, "steps": steps}
    rows = []
    for name, spent in seconds.items():
        milliseconds = spent / 3 * 1000
        print(f"{name:<26} {milliseconds:8.0f} ms per {steps} steps")
        rows.append(
            {"name": f"{arguments.algorithm}: {name}"} | shared | {"milliseconds": round(milliseconds)}
        )
    write_rows(rows, arguments.json)
    on_gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        model.learn(steps, reset_num_timesteps=False)
    spent_by = attrgetter("self_device_time_total" if on_gpu else "self_cpu_time_total")
    averages = sorted(profiler.key_averages(), key=spent_by, reverse=True)
    total = sum(spent_by(row) for row in averages)
    for row in averages[:8]:
        print(f"{row.key:<26.26} {spent_by(row) / total:8.1%} of the operations' time, {row.count} calls")


if __name__ == "__main__":
    main()
