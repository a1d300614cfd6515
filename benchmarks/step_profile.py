"""Where the time of a contour step goes, on the CPU or on a GPU.

    python benchmarks/step_profile.py --num-envs 64 --json step_profile.json

Each part is timed alone on the states of random episodes, by the functions that the task calls; `rest` is
what a whole step costs beyond them (bookkeeping, rewards, the other tensors of a state).
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from reporting import make_parser, parse, print_machine, wait, write_rows

from usrl.compute.rng import mix
from usrl.data.phantom.dataset import default_bank
from usrl.envs.batch import to_numpy
from usrl.geometry.area import RowSums, measure_dice
from usrl.geometry.moves import move_simply, smoothing_matrices
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"


def parts(num_envs: int, device: str, observation: str) -> dict[str, Callable[[], Any]]:
    """Return the parts of a step, and the whole, as calls on the same states."""
    bank = default_bank().to(device)
    task: Any = build_task(ENV_ID, bank, {"observation": observation})
    keys = torch.arange(num_envs, device=device)
    index = keys % len(bank)
    state = task.reset(index, mix(keys))
    generator = torch.Generator().manual_seed(0)
    action = (torch.rand(num_envs, task.settings.vertices, generator=generator) - 0.5).to(device)
    for _ in range(3):
        state, _ = task.step(state, action)
    moves, smoothings = (
        action * task.settings.step_px,
        smoothing_matrices(task.settings.vertices, bank.device),
    )
    targets = RowSums.of(bank.targets)
    observed = task.observe(state)

    def whole() -> None:
        following, _ = task.step(state, action)
        to_numpy(task.observe(following))

    return {
        "geometry": lambda: move_simply(state.vertices, moves, smoothings, bank.size - 1),
        "overlap": lambda: measure_dice(state.vertices, targets, index),
        "sampling": lambda: task.observe(state),
        "copy to NumPy": lambda: to_numpy(observed),
        "reset, per step": lambda: task.reset(index, mix(keys)),
        "step and observe": whole,
    }


def measure(call: Callable[[], Any], device: str, seconds: float) -> float:
    """Return the median time of a call in microseconds."""
    times = []
    call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1e6


def main() -> None:
    """Measure every part, print a table and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--observation", default="profile", help="or profile+start, or image")
    parser.add_argument("--seconds", type=float, default=1.0, help="per part")
    arguments = parse(parser)
    print_machine(arguments)
    calls = parts(arguments.num_envs, arguments.device, arguments.observation)
    found = {name: measure(call, arguments.device, arguments.seconds) for name, call in calls.items()}
    found["reset, per step"] /= 10  # an episode of ten steps has one
    whole = found.pop("step and observe")
    found["rest"] = whole + found["reset, per step"] - sum(found.values())
    total = whole + found["reset, per step"]
    print(
        f"{arguments.device}, {arguments.num_envs} environments, {arguments.threads} thread(s): "
        f"{total:.0f} us a step"
    )
    rows = []
    for name, microseconds in found.items():
        share = microseconds / total
        per_env = microseconds / arguments.num_envs
        print(f"{name:<22} {microseconds:>9.1f} us {share:>6.0%} {per_env:>8.2f} us an environment")
        rows.append(
            {
                "name": name,
                "device": arguments.device,
                "num_envs": arguments.num_envs,
                "microseconds": round(microseconds, 2),
                "share": round(share, 4),
            }
        )
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
