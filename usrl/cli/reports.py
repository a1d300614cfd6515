"""Commands that score: one run, or several methods side by side."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usrl.cli.options import (
    Count,
    Data,
    Device,
    Jitter,
    Labels,
    Method,
    Methods,
    Root,
    Seed,
    Split,
    SplitSeed,
    Starts,
    Variety,
)
from usrl.data.sample import DEFAULT_JITTER
from usrl.errors import UserError

if TYPE_CHECKING:
    from usrl.data.recipe import DataRecipe
    from usrl.data.sample import Sample
    from usrl.runs.run import Run
    from usrl.segmenter import Method as Scored


def evaluate(
    run: Method,
    data: Data,
    root: Root = None,
    split: Split = "test",
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder for the report; if not given, evaluation-DATA-SPLIT inside the run.",
        ),
    ] = None,
    device: Device = "auto",
    split_seed: SplitSeed = 0,
    labels: Labels = 1.0,
    count: Count = 200,
    seed: Seed = 0,
    variety: Variety = 0.0,
    jitter: Jitter = DEFAULT_JITTER,
    starts: Starts = 1,
) -> None:
    """Score one run on a split of a data set and write a report.

    The report is report.html, with cases.csv and results.json beside it.

    Prompted methods get a jittered box around every lesion.
    """
    segmenters = _open([[run]], device, starts)
    name = f"evaluation-{data}-{split}" + (f"-x{starts}" if starts > 1 else "")
    chosen = _data(data, root, split_seed, labels, count, seed, variety)
    _report([[run]], segmenters, chosen, split, out or _report_folder(run, name), jitter)


def compare(
    methods: Methods,
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder for the report.")],
    root: Root = None,
    split: Split = "test",
    device: Device = "auto",
    split_seed: SplitSeed = 0,
    labels: Labels = 1.0,
    count: Count = 200,
    seed: Seed = 0,
    variety: Variety = 0.0,
    jitter: Jitter = DEFAULT_JITTER,
    starts: Starts = 1,
) -> None:
    """Score several methods on the same images and write a report.

    The report is report.html, with cases.csv and results.json beside it.

    Prompted methods get the same jittered box around every lesion.
    """
    chosen = _data(data, root, split_seed, labels, count, seed, variety)
    runs = [_split_runs(method) for method in methods]
    _report(runs, _open(runs, device, starts), chosen, split, out, jitter)


def _report_folder(run: str, name: str) -> Path:
    """Return the folder of a report: inside the run, or in runs/ of what comes with the package."""
    from usrl.runs.shipped import is_shipped, locate

    folder = locate(run)
    if not folder.is_dir():
        raise UserError(f"{run} is not a folder to write into; give the report's folder with --out DIR")
    return Path("runs") / f"{folder.name}-{name}" if is_shipped(folder) else folder / name


def _split_runs(method: str) -> list[str]:
    """Return the runs whose mean a method's text asks for, which commas separate; most name one."""
    runs = [method] if Path(method).exists() else method.split(",")  # a folder may have a comma in its name
    if len(set(runs)) < len(runs):
        raise UserError(f"{method}: a run stands there twice; name each run of a mean once")
    return runs


def _open(methods: Sequence[Sequence[str]], device: str, starts: int) -> "list[list[Scored]]":
    from usrl.compute.devices import select_device
    from usrl.evaluation.methods import open_segmenter

    where = select_device(device)
    return [[open_segmenter(run, where, starts) for run in runs] for runs in methods]


def _report(
    methods: Sequence[Sequence[str]],
    segmenters: "Sequence[Sequence[Scored]]",
    data: "DataRecipe",
    split: str,
    out: Path,
    jitter: float,
) -> None:
    from usrl.data.catalogue import load_recipe_split, resolve_root
    from usrl.evaluation.compare import compare as compare_segmenters
    from usrl.evaluation.tables import print_results
    from usrl.runs.leaks import trace
    from usrl.runs.run import open_run

    samples = load_recipe_split(data, split)
    runs = [path for method in methods for run in method for path in _run_folders(run)]
    opened = [open_run(path) for path in runs]
    opened += [open_run(run.refiner_path) for run in opened if run.refiner_path.is_dir()]
    # What a run started from may have learned from fewer training images.
    links = opened if split == "train" else [link for run in opened for link in trace(run)]
    for link in links:
        _check_images(link, data, split, samples)
    curves = _read_curves(runs)
    dataset = f"folder {resolve_root(data).name}" if data.name == "folder" else data.name
    results = compare_segmenters(
        segmenters, samples, out, dataset=dataset, split=split, jitter=jitter, curves=curves
    )
    print_results(results)
    typer.echo(f"wrote {out / 'report.html'}, with cases.csv and results.json beside it")


def _data(
    name: str, root: Path | None, split_seed: int, labels: float, count: int, seed: int, variety: float
) -> "DataRecipe":
    from usrl.data.recipe import DataRecipe
    from usrl.strict import check

    text = None if root is None else str(root)
    options = {"name": name, "root": text, "split_seed": split_seed, "labels": labels}
    simulated = {"count": count, "seed": seed, "variety": variety}
    return check(DataRecipe, options | simulated, "options of the data set")


def _run_folders(method: str) -> list[Path]:
    """Return the run folders that a method's text names: none, one, or those of a chain."""
    from usrl.classical import CLASSICAL
    from usrl.envs.threshold.ceilings import ORACLES
    from usrl.evaluation.methods import split_chain
    from usrl.runs.shipped import locate

    if chain := split_chain(method):
        return [path for part in chain for path in _run_folders(part)]
    # A folder may have the name of a method, such as the one that its masks were written to.
    is_run = locate(method).is_dir() and method not in CLASSICAL | ORACLES
    return [locate(method)] if is_run else []


def _read_curves(runs: Sequence[Path]) -> dict[str, list[dict[str, float]]]:
    """Return the logs of runs; those of one name are told apart as methods of one name are."""
    from usrl.evaluation.compare import free_name
    from usrl.runs.run import open_run

    curves: dict[str, list[dict[str, float]]] = {}
    for run in map(open_run, dict.fromkeys(runs)):
        curves[free_name(run.name, curves)] = run.read_log()
    return curves


def _check_images(run: "Run", data: "DataRecipe", split: str, samples: "Sequence[Sample]") -> None:
    """Raise where a run's split.tsv contradicts the part that it is to be scored on, or is not there to tell.

    Test and validation images must not be among those whose labels it has seen
    (`usrl.runs.leaks.FORBIDDEN`), nor training images among its unused ones. With all images nothing is said
    to be held back: a warning counts those that it has seen, where this is known.
    """
    from usrl.runs.leaks import FORBIDDEN, find_parts

    if split == "all" and not run.split_path.is_file():
        return
    wrong = ("unused",) if split == "train" else FORBIDDEN["val" if split == "val" else "test"]
    parts = find_parts(run, data)
    found = [sample.name for sample in samples if parts.get(sample.name) in wrong]
    if not found:
        return
    if split == "all":
        seen = f"{len(found)} of these {len(samples)} images"
        warnings.warn(f"{run.path} has learned from {seen} and is better on them", stacklevel=2)
        return
    own = run.recipe.data
    was = "was not trained on" if split == "train" else "was trained on"
    count = f" --count {own.count}" if own.name == "phantom" else ""
    labels = f" --labels {own.labels:g}" if split == "train" else ""
    raise UserError(
        f"{run.path} {was} {len(found)} of these {len(samples)} {split} images, such as {found[0]!r}; "
        f"give --split-seed {own.split_seed}{count}{labels}, as in its recipe"
    )
