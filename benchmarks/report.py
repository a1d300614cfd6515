"""Time and size of the report of `usrl compare`: many native images and ten methods, scoring timed apart.

USRL_DATA=FOLDER python benchmarks/report.py --json report.json
"""

import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from reporting import make_parser, parse, print_machine, write_rows

from usrl.data.catalogue import load_split
from usrl.data.recipe import DataRecipe
from usrl.evaluation import compare as comparing
from usrl.evaluation.methods import open_segmenter

METHODS = (
    *("proposal", "otsu-box", "multi-otsu", "adaptive", "watershed"),
    *("contour-ppo", "contour-bc", "unet-prompted", "unet-phantom", "unet-phantom+judge-phantom"),
)


def main() -> None:
    """Print seconds of the scoring and of all that follows it, and the size of the page."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", default="busi")
    parser.add_argument("--images", type=int, default=150, help="with a lesion")
    parser.add_argument("--out", type=Path, help="folder that keeps the report")
    arguments = parse(parser)
    print_machine(arguments)
    samples = load_split(DataRecipe(name=arguments.data), "all")
    samples = [sample for sample in samples if sample.target.any()][: arguments.images]
    methods = [open_segmenter(name, arguments.device) for name in METHODS]
    scoring, score = [0.0], comparing.score_lesions

    def timed(*values: Any) -> Any:
        start = time.perf_counter()
        cases = score(*values)
        scoring[0] = time.perf_counter() - start
        return cases

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(comparing, "score_lesions", timed):
        out = arguments.out or Path(folder) / "report"
        start, busy = time.perf_counter(), time.process_time()
        comparing.compare(methods, samples, out, dataset=arguments.data, split="all")
        wall, used = time.perf_counter() - start, time.process_time() - busy
        size = (out / "report.html").stat().st_size
    row = {
        "images": len(samples),
        "methods": len(methods),
        "scoring_s": scoring[0],
        "report_s": wall - scoring[0],
    }
    print(", ".join(f"{key} {value:.1f}" for key, value in row.items()) + f", processor {used:.1f} s")
    print(f"report.html {size / 1e6:.2f} MB")
    write_rows([row | {"page_bytes": size}], arguments.json)


if __name__ == "__main__":
    main()
