"""What every benchmark here shares: options, the line that names the machine, and the JSON file."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from usrl.compute.devices import select_device
from usrl.errors import UserError


def make_parser(description: str | None, devices: Sequence[str] = ("cpu", "cuda")) -> argparse.ArgumentParser:
    """Return a parser of ``--device``, ``--threads`` and ``--json``; a benchmark adds its own options."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=devices)
    parser.add_argument("--threads", type=int, default=1, help="of torch and OpenCV on the CPU")
    parser.add_argument("--json", type=Path, help="file for the rows")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options of this process, after it has been given its threads."""
    arguments = parser.parse_args()
    try:
        select_device(arguments.device)
    except UserError as error:
        parser.error(str(error))
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    return arguments


def print_machine(arguments: argparse.Namespace) -> None:
    """Print what the figures depend on: hardware, threads and versions."""
    hardware = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor()
    print(
        f"{hardware or platform.machine()}, {os.cpu_count()} CPUs, {arguments.threads} thread(s), "
        f"torch {torch.__version__}, numpy {np.__version__}, OpenCV {cv2.__version__}",
        flush=True,
    )


def print_round(number: int, name: str, num_envs: int, rate: float) -> None:
    """Print what a round measured as soon as it did: a run that is cut off has not measured for nothing."""
    print(f"round {number}: {name:<40} {num_envs:>5} envs {rate:>9.0f} steps/s", flush=True)


def wait(device: str) -> None:
    """Wait until a GPU has done what it was given; a clock that is read sooner has not timed it."""
    if device == "cuda":
        torch.cuda.synchronize()


def write_rows(rows: Sequence[dict[str, Any]], path: Path | None) -> None:
    """Write rows as JSON where a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(list(rows), indent=2) + "\n")
