"""How environment steps per second grow with environments, vertices and the side of the image, as a plot.

python benchmarks/growth.py --json cpu.json --out growth.png
python benchmarks/growth.py --device cuda --beside cpu.json --out growth.png
"""

import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from reporting import make_parser, parse, print_machine, wait, write_rows

from usrl.data.bank import Bank
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.sb3 import TaskVecEnv
from usrl.registry import build_task

ENV_ID = "usrl/ContourRefine-v0"
AXES = {
    "num_envs": [1, 4, 16, 64, 256, 1024, 4096, 16384],
    "vertices": [16, 32, 64, 128, 256],
    "size_px": [64, 128, 256, 512],
}
DEFAULTS = {"num_envs": 64, "vertices": 64, "size_px": 128}
TITLES = {"num_envs": "environments", "vertices": "vertices", "size_px": "side of the image [px]"}

LINES = {"cpu": ("CPU", "#0072b2"), "cuda": ("GPU", "#d55e00")}
"""Label and colour of a device."""


def rate(num_envs: int, vertices: int, size_px: int, device: str, seconds: float) -> float:
    """Return environment steps per second of episodes of random moves."""
    bank = Bank.from_samples(load_phantom(16), size_px).to(device)
    venv = TaskVecEnv(build_task(ENV_ID, bank, {"vertices": vertices}), num_envs)
    venv.reset()
    actions = torch.rand(num_envs, vertices, generator=torch.Generator().manual_seed(0)) - 0.5
    actions = actions.to(device)
    for _ in range(10):
        venv.step_tensors(actions)
    wait(device)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(10):  # whole episodes, resets included
            venv.step_tensors(actions)
        wait(device)
        steps += 10 * num_envs
    return steps / (time.perf_counter() - began)


def measure(device: str, seconds: float) -> list[dict[str, Any]]:
    """Return a row per value of each axis, the others at their defaults."""
    rows = []
    for axis, values in AXES.items():
        for value in values:
            setting = DEFAULTS | {axis: value}
            steps = rate(**setting, device=device, seconds=seconds)
            print(f"{axis:<9} {value:>6} {steps:>10.0f} steps/s", flush=True)
            rows.append(
                {
                    "name": f"contour vector by {axis}",
                    "device": device,
                    "axis": axis,
                    **setting,
                    "steps_per_second": round(steps),
                }
            )
    return rows


def plot(rows: list[dict[str, Any]], out: Path) -> None:
    """Draw a panel per axis, and in each a line per device."""
    figure, panels = plt.subplots(1, len(AXES), figsize=(11, 3.2), sharey=True, layout="constrained")
    for panel, axis in zip(panels, AXES, strict=True):
        for device, (label, color) in LINES.items():
            own = [row for row in rows if row["axis"] == axis and row["device"] == device]
            rates = [row["steps_per_second"] for row in own]
            if own:
                panel.loglog([row[axis] for row in own], rates, "o-", color=color, label=label)
        panel.set_xlabel(TITLES[axis])
        panel.set_xticks(AXES[axis], [str(value) for value in AXES[axis]], rotation=45, fontsize=8)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("environment steps/s")
    panels[0].legend(fontsize=8)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Measure, print, plot and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="per point, at least")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--beside", type=Path, help="JSON of another run, to draw too")
    arguments = parse(parser)
    beside = json.loads(arguments.beside.read_text()) if arguments.beside else []
    print_machine(arguments)
    rows = measure(arguments.device, arguments.seconds)
    plot([*beside, *rows], arguments.out)
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
