"""Comparing methods that a simulated user corrects, image by image.

Every method gets the same boxes and meets the same user: the user's border, chances and patience depend on
the image, not on the method. What is measured is how the overlap grows with the number of corrections.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from usrl.data.prompts import jittered_boxes
from usrl.data.sample import DEFAULT_JITTER, BoolMask, Sample
from usrl.evaluation.compare import choose_lesions, claimed, describe_comparison, name_runs, write_report
from usrl.evaluation.report.figures import COLORS, encode_film, plot_panels, plot_scores, shorten
from usrl.evaluation.report.gallery import Shown, pick
from usrl.evaluation.report.html import render
from usrl.evaluation.report.overlay import overlay
from usrl.evaluation.statistics.intervals import Interval, bootstrap_mean
from usrl.evaluation.statistics.summary import Case, average_runs, compare_pairs, group_cases
from usrl.metrics.overlap import dice, iou
from usrl.metrics.surface import NSD_TOLERANCE, measure_surface
from usrl.progress import show_progress
from usrl.session import Interactive, Marks, Session, can_learn
from usrl.users.simulated import SimulatedUser, make_key
from usrl.users.users import User

MOST = 20
"""A user makes at most so many corrections; a case that needs more counts as this many."""
COUNTS = (0, 1, 2, 3, 5, 10, 20)
"""Numbers of corrections whose Dice and normalised surface Dice are reported."""
AREA = 10
"""The area under the Dice is over 0 to so many corrections."""
GOALS = {"85": 0.85, "90": 0.90}
"""Overlaps (IoU) to reach."""
_NEIGHBOURS = 10
"""Images that a plot of corrections in order averages over."""
TESTED = ("dice_auc", "noc85", "noc90")
"""Figures that are tested and have intervals."""


@dataclass(frozen=True)
class Meeting:
    """How a user meets methods.

    Attributes:
        user: Who corrects.
        seed: Seed of boxes and users.
        jitter: Of the boxes; see `usrl.data.prompts.jittered_boxes`.
    """

    user: User
    seed: int = 0
    jitter: float = DEFAULT_JITTER

    def correct(self, method: Interactive[Any], sample: Sample) -> list[BoolMask]:
        """Return a method's masks of a sample after 0, 1, ... corrections, until the user stops or tires."""
        key = make_key(f"{self.seed}/{self.user.name}/{sample.name}")
        simulated, session = SimulatedUser(self.user, sample.target, key), Session(method)
        boxes = jittered_boxes(sample, self.jitter, self.seed)
        masks = [session.start(sample.image, Marks(boxes=boxes)).mask]
        while session.corrections < MOST:
            marks = simulated.mark(masks[-1], session.corrections, method.asks)
            if marks is None:
                break
            masks.append(session.correct(marks).mask)
        session.accept()
        return masks


def compare_corrections(
    methods: Sequence[Interactive[Any] | Sequence[Interactive[Any]]],
    samples: Sequence[Sample],
    out: Path | str,
    meeting: Meeting,
    *,
    dataset: str,
    split: str,
) -> dict[str, Any]:
    """Let a simulated user correct methods on samples and write the report.

    Writes ``cases.csv`` (a row per case and method), ``results.json`` and ``report.html``. Images without a
    lesion are left out: there is nothing to correct towards.

    Args:
        methods: In the order of the tables; equal names get numbers. Several runs of one method add their
            mean, image by image, which replaces them in the tests.
        samples: Images with their targets.
        out: Folder to write: absent, empty, or that of a comparison that was killed.
        meeting: Who corrects, and from which boxes.
        dataset: Name of the data set, for the report.
        split: Name of the split, for the report.

    Returns:
        What ``results.json`` holds. A row has ``dice_after`` and ``nsd_after``, means by number of
        corrections; ``dice_auc``, the area under the Dice over 0 to 10 corrections, from 0 to 1; ``noc85``
        and ``noc90``, the mean number of corrections until IoU is 0.85 and 0.90, at most 20; and ``nof85``
        and ``nof90``, the number of cases that never get there. Once a user has stopped, an image stays as
        it is. ``corrections_by_third`` and ``noc90_by_third`` are of the first, the middle and the last
        images.

    Raises:
        UserError: If there is nothing to score, the folder holds other files or cannot be written, or a
            method refuses an image.
    """
    lesions = choose_lesions(methods, samples)
    named, means = name_runs(methods)
    unit = "mm" if all(sample.spacing_mm is not None for sample in lesions) else "px"
    with claimed(Path(out)) as folder:
        cases = []
        with show_progress(len(named) * len(lesions)) as progress:
            for name, method in named.items():
                progress.start(name)
                for sample in lesions:
                    cases.append(_correct_case(name, method, sample, meeting, unit))
                    progress.advance()
        cases += [row for name, members in means.items() for row in average_runs(cases, name, members)]
        seed, groups = meeting.seed, [sample.group for sample in lesions]
        results = describe_comparison(dataset, split, seed, groups) | {"images": len(lesions)}
        results |= {"jitter": meeting.jitter, "user": meeting.user.name, "most_corrections": MOST}
        results |= {"unit": unit, "nsd_tolerance": NSD_TOLERANCE[unit]}
        results["rows"] = [_summarise(own, meeting) for own in group_cases(cases, "method").values()]
        results["tests"] = _compare_pairs(cases, set().union(*means.values()))
        page = _format_report(results, cases, named, lesions, meeting)
        write_report(folder, results, page, {"cases.csv": cases})
    return results


def _correct_case(name: str, method: Interactive[Any], sample: Sample, meeting: Meeting, unit: str) -> Case:
    """Return the row of ``cases.csv`` of one method on one image."""
    start = time.perf_counter()
    masks = meeting.correct(method, sample)
    seconds = (time.perf_counter() - start) / len(masks)
    spacing = sample.spacing_mm if unit == "mm" else None

    @cache
    def measure_nsd(number: int) -> float:
        return measure_surface(masks[number], sample.target, NSD_TOLERANCE[unit], spacing).nsd

    scores = [dice(mask, sample.target) for mask in masks]
    overlaps = np.array([iou(mask, sample.target) for mask in masks])
    scores += [scores[-1]] * (MOST + 1 - len(masks))
    row: Case = {"case": sample.name, "group": sample.group, "source": sample.source, "method": name}
    row |= {"track": "prompted", "corrections": len(masks) - 1, "dice_auc": measure_area(scores)}
    for goal, least in GOALS.items():
        reached = np.flatnonzero(overlaps >= least)
        row |= {f"noc{goal}": int(reached[0]) if reached.size else MOST, f"nof{goal}": int(not reached.size)}
    row |= {f"dice_{count}": score for count, score in enumerate(scores)}
    row |= {f"nsd_{count}": measure_nsd(min(count, len(masks) - 1)) for count in COUNTS}
    return row | {"seconds": seconds}


def measure_area(scores: Sequence[float]) -> float:
    """Return the area under Dice after 0, 1, ... corrections, up to `AREA` of them, from 0 to 1."""
    counted = np.asarray(scores[: AREA + 1], np.float64)
    return float((counted[1:] + counted[:-1]).sum() / (2 * AREA))


def _summarise(cases: Sequence[Case], meeting: Meeting) -> dict[str, Any]:
    """Return the row of one method; see `compare_corrections`."""
    groups = [case["group"] for case in cases]

    def bound(key: str) -> Interval:
        return bootstrap_mean([case[key] for case in cases], groups, seed=meeting.seed)

    row: dict[str, Any] = {"method": cases[0]["method"], "track": "prompted", "user": meeting.user.name}
    row["n"] = len(cases)
    found = {count: bound(f"dice_{count}") for count in COUNTS}
    row["dice_after"] = {str(count): each.mean for count, each in found.items()}
    row["dice_after_low"] = {str(count): each.low for count, each in found.items()}
    row["dice_after_high"] = {str(count): each.high for count, each in found.items()}
    row["nsd_after"] = {str(c): float(np.mean([case[f"nsd_{c}"] for case in cases])) for c in COUNTS}
    for key in (*TESTED, "corrections"):
        each = bound(key)
        row |= {key: each.mean, f"{key}_low": each.low, f"{key}_high": each.high}
    for goal in GOALS:  # of a mean of runs, the mean number
        total = sum(case[f"nof{goal}"] for case in cases)
        row[f"nof{goal}"] = int(total) if float(total).is_integer() else total
    thirds = np.array_split(np.arange(len(cases)), 3)
    for key in ("corrections", "noc90"):  # in the order of the images, in which a method may learn
        values = np.array([case[key] for case in cases], np.float64)
        row[f"{key}_by_third"] = [float(values[part].mean()) for part in thirds if len(part)]
    row["seconds_per_answer"] = float(np.median([case["seconds"] for case in cases if "seconds" in case]))
    return row


def _compare_pairs(cases: Sequence[Case], left_out: set[str]) -> list[dict[str, Any]]:
    """Return paired tests between all methods but the runs of a mean."""
    fair = [case for case in cases if case["method"] not in left_out]
    return [test | {"figure": name} for name in TESTED for test in compare_pairs(fair, name)]


def print_corrections(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the rows of ``results.json`` of corrected methods."""
    if console is None:
        console = Console()
        if not console.is_terminal:  # a file is as wide as its lines
            console.width = max(console.width, 140)
    title = f"{results['dataset']}, {results['split']}, corrected by {results['user']}"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    head, body = _tabulate(results["rows"])
    table.add_column(head[0], overflow="fold")
    for name in head[1:]:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for cells in body:
        table.add_row(*map(escape, cells))
    console.print(table)


def _tabulate(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of the table."""
    head = ["method", *(f"Dice {count}" for count in COUNTS), "area [95%]", "NoC85", "NoC90 [95%]"]
    body = []
    for row in rows:
        cells = [f"{row['dice_after'][str(count)]:.3f}" for count in COUNTS]
        cells.append(f"{row['dice_auc']:.3f} [{row['dice_auc_low']:.3f}, {row['dice_auc_high']:.3f}]")
        cells.append(f"{row['noc85']:.2f}")
        cells.append(f"{row['noc90']:.2f} [{row['noc90_low']:.2f}, {row['noc90_high']:.2f}]")
        body.append([row["method"], *cells, f"{row['nof90']:g} of {row['n']}"])
    return [*head, "NoF90"], body


def _format_report(
    results: Mapping[str, Any],
    cases: Sequence[Case],
    methods: Mapping[str, Interactive[Any]],
    samples: Sequence[Sample],
    meeting: Meeting,
) -> str:
    """Return the HTML page of a comparison."""
    head, body = _tabulate(results["rows"])
    areas = {name: [case["dice_auc"] for case in own] for name, own in group_cases(cases, "method").items()}
    films: dict[str, list[Shown]] = {}
    steady = {name: method for name, method in methods.items() if not can_learn(method)}
    for name, method in steady.items():  # one that learns has changed since
        for label, place in pick(areas[name], ("best", "median", "worst")).items():
            sample = samples[place]
            masks = meeting.correct(method, sample)
            shown = ({"target": sample.target, "pred": mask} for mask in masks)
            film = encode_film([overlay(sample.image, both) for both in shown])
            text = f"area {areas[name][place]:.3f}, {len(masks) - 1} corrections"
            films.setdefault(name, []).append(
                Shown(film, f"{label} case of {name}", label, sample.name, text)
            )
    facts = ("dataset", "split", "user", "images", "groups", "seed", "date")
    return render(
        "corrections.html",
        title=f"Corrections of {results['dataset']}, {results['split']}, by {meeting.user.name}",
        facts={key: results[key] for key in facts} | {"box jitter": f"{meeting.jitter:.0%}"},
        results=results,
        table={"head": head, "body": body},
        curve_plot=plot_panels([_draw_curves(results["rows"])]),
        order_plot=plot_panels([_draw_order(cases)]),
        areas_plot=plot_scores(areas, "area under the Dice over 0 to 10 corrections"),
        films=films,
    )


def _draw_order(cases: Sequence[Case]) -> Callable[[Axes], None]:
    """Return a function that draws the corrections of images in their order, averaged over neighbours."""

    def draw(axes: Axes) -> None:
        for number, (name, own) in enumerate(group_cases(cases, "method").items()):
            values = np.array([case["corrections"] for case in own], np.float64)
            width = min(_NEIGHBOURS, len(values))
            means = np.convolve(values, np.full(width, 1 / width), mode="valid")
            places = np.arange(len(means)) + (width + 1) / 2
            axes.plot(places, means, label=shorten(name), color=COLORS[number % len(COLORS)])
        axes.set(xlabel="image", ylabel=f"corrections, mean of {width} images")

    return draw


def _draw_curves(rows: Sequence[Mapping[str, Any]]) -> Callable[[Axes], None]:
    """Return a function that draws the mean Dice of each method over corrections."""

    def draw(axes: Axes) -> None:
        for number, row in enumerate(rows):
            values = [row["dice_after"][str(count)] for count in COUNTS]
            color = COLORS[number % len(COLORS)]
            axes.plot(COUNTS, values, label=shorten(row["method"]), color=color, marker="o", ms=4)
        axes.set(xlabel="corrections", ylabel="mean Dice")

    return draw
