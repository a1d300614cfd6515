"""Time to score masks at native size, against MONAI, and to write the whole report.

Methods are the targets themselves, moved, grown and shrunk. Their masks cost nothing, so that the scoring is
measured. Both take turns in one process, and a row is the median over the rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from reporting import make_parser, parse, print_machine, write_rows
from scipy import ndimage

from usrl.data.catalogue import load_split
from usrl.data.sample import BoolMask, Prompt, Sample
from usrl.evaluation.compare import compare, score_sample
from usrl.metrics.surface import NSD_TOLERANCE
from usrl.segmenter import Answer


class Changed:
    """A method whose masks are the targets, changed in its own way."""

    track = "automatic"

    def __init__(self, number: int, samples: Sequence[Sample]) -> None:
        self.name = f"method {number}"
        self.masks = {sample.name: change(sample.target, number) for sample in samples}

    def segment(self, image: BoolMask, prompt: Prompt | None) -> Answer:
        """Refuse an image, which has no name."""
        raise NotImplementedError

    def segment_sample(self, sample: Sample, prompt: Prompt | None) -> Answer:
        """Return the changed target."""
        return Answer(self.masks[sample.name])


def change(mask: BoolMask, number: int) -> BoolMask:
    """Return a mask that is moved by some pixels, and grown or shrunk."""
    moved = np.roll(mask, (2 * number % 7, 3 * number % 5), (0, 1))
    turn = ndimage.binary_dilation if number % 2 else ndimage.binary_erosion
    return np.asarray(turn(moved, iterations=1 + number // 3), np.bool_)


def score_with_monai(pred: BoolMask, sample: Sample) -> None:
    """Compute with MONAI what it has of our metrics: overlap, HD, HD95, ASD, ASSD and NSD."""
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (pred, sample.target)]
    compute_dice(*pair)
    compute_iou(*pair)
    compute_hausdorff_distance(*pair)
    compute_hausdorff_distance(*pair, percentile=95)
    compute_average_surface_distance(*pair)
    compute_average_surface_distance(*pair, symmetric=True)
    compute_surface_dice(*pair, [NSD_TOLERANCE["px"]])


def measure(work: Callable[[BoolMask, Sample], object], cases: Sequence[tuple[BoolMask, Sample]]) -> float:
    """Return the seconds that a function takes for a case."""
    start = time.perf_counter()
    for pred, sample in cases:
        work(pred, sample)
    return (time.perf_counter() - start) / len(cases)


def take_samples(options: argparse.Namespace) -> list[Sample]:
    """Return so many images with a lesion."""
    kwargs = {"count": options.images} if options.data == "phantom" else {}
    found = [sample for sample in load_split(options.data, "all", **kwargs) if sample.target.any()]
    return found[: options.images]


def main() -> None:
    parser = make_parser(__doc__, ("cpu",))
    parser.add_argument("--data", default="phantom", help="data set, such as busi with USRL_DATA set")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--methods", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--monai-cases", type=int, default=100, help="cases of a round of MONAI")
    options = parse(parser)
    print_machine(options)
    samples = take_samples(options)
    methods = [Changed(number, samples) for number in range(options.methods)]
    cases = [(method.masks[sample.name], sample) for sample in samples for method in methods]
    some = cases[:: max(1, len(cases) // options.monai_cases)]
    ours, monai = [], []
    for _ in range(options.rounds):
        ours.append(measure(lambda pred, sample: score_sample(pred, sample, in_mm=False), cases))
        monai.append(measure(score_with_monai, some))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        compare(methods, samples, Path(folder) / "report", dataset=options.data, split="all")
        report = time.perf_counter() - start
    each, theirs = statistics.median(ours), statistics.median(monai)
    rows = [
        {
            "what": "scoring, usrl",
            "cases": len(cases),
            "ms_per_case": 1e3 * each,
            "seconds": each * len(cases),
        },
        {
            "what": "scoring, MONAI",
            "cases": len(cases),
            "ms_per_case": 1e3 * theirs,
            "seconds": theirs * len(cases),
        },
        {
            "what": "whole report",
            "cases": len(cases),
            "ms_per_case": 1e3 * report / len(cases),
            "seconds": report,
        },
    ]
    pixels = np.mean([sample.image.size for sample in samples])
    print(f"{len(samples)} images of {options.data}, {pixels:.0f} px on average, {len(methods)} methods")
    for row in rows:
        print(f"{row['what']:<16} {row['ms_per_case']:>8.2f} ms a case {row['seconds']:>8.1f} s")
    ratio = statistics.median(their / own for own, their in zip(ours, monai, strict=True))
    print(f"MONAI takes {ratio:.1f} times as long for fewer metrics")
    write_rows(rows, options.json)


if __name__ == "__main__":
    main()
