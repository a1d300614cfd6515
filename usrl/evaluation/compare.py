"""Scoring several methods on the same images, by one function and at native resolution.

Images without a lesion count on their own. There an automatic method has a share of false detections and no
Dice, and a prompted method takes no part, because there is no lesion to draw a box around.
"""

import datetime
import itertools
import json
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from usrl.data.prompts import jittered_boxes
from usrl.data.sample import DEFAULT_JITTER, BoolMask, Prompt, Sample, Spacing
from usrl.errors import UserError
from usrl.evaluation.costs import list_costs
from usrl.evaluation.report.diagrams import draw_profiles, draw_ranks
from usrl.evaluation.report.html import format_report, list_sheets
from usrl.evaluation.report.outlines import trace_answer
from usrl.evaluation.report.sheets import format_csv, write_sheets
from usrl.evaluation.statistics.agreement import list_agreements, list_strata
from usrl.evaluation.statistics.summary import (
    TRACKS,
    Case,
    Comparison,
    add_improvements,
    average_runs,
    compare_pairs,
    group_cases,
    measure_drops,
    rank_cases,
    stack_runs,
    summarise_folds,
    summarise_iqm,
    summarise_method,
    summarise_negatives,
    trace_profiles,
)
from usrl.files import check_empty, locked, make_folder, write_atomically, writing_to
from usrl.metrics.detection import detection_rate
from usrl.metrics.overlap import dice, measure_overlap
from usrl.metrics.size import (
    measure_area,
    measure_circumference,
    measure_perimeter,
    relative_area_error,
)
from usrl.metrics.surface import HD95_DEFINITION, NSD_TOLERANCE, boundary_iou, measure_surface
from usrl.progress import ImageProgress, show_progress
from usrl.runs.run import find_versions
from usrl.segmenter import Answer, CaseSegmenter, Ceiling, Method, Segmenter, answer_sample


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


@dataclass(frozen=True)
class Additions:
    """What a comparison may have besides methods and samples.

    Attributes:
        foreign: Tables of cases of methods that were run elsewhere (`usrl.evaluation.foreign.read_cases`);
            names that are taken get a number.
        external: Images with a lesion of another data set, on which the methods are scored too.
        external_name: Name of that data set, for the report.
        folds: The fold of each sample, by name, if the methods are cross-validated.
    """

    foreign: Sequence[Sequence[Case]] = ()
    external: Sequence[Sample] = ()
    external_name: str = ""
    folds: Mapping[str, int] = field(default_factory=dict)


_MARK = ".unfinished"  # in the folder of a comparison while it is computed
NOTHING_MORE = Additions()


def compare(
    segmenters: Sequence[Method | Sequence[Method]],
    samples: Sequence[Sample],
    out: Path | str,
    *,
    dataset: str,
    split: str,
    seed: int = 0,
    jitter: float = DEFAULT_JITTER,
    curves: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    more: Additions = NOTHING_MORE,
) -> dict[str, Any]:
    """Score methods on samples and write the report.

    Writes ``cases.csv`` (a row per case and method, images with a lesion), ``negatives.csv`` (a row per
    lesion-free image and automatic method, if there are any), ``results.json``, ``report.html`` and its
    tables as CSV and LaTeX in ``tables/``, and for each track ``profiles-TRACK.svg`` and, with three methods
    or more, ``ranks-TRACK.svg``. A call that was killed can be repeated into the same folder.

    Args:
        segmenters: Methods in the order of the tables; equal names get numbers. A sequence among them holds
            several runs of one method, such as trainings of several seeds. Below them the tables show
            their mean, image by image, which replaces them in the tests.
        samples: Images with their targets; distances are in mm if every sample has a spacing.
        out: Folder to write: absent, empty, or that of a comparison that was killed.
        dataset: Name of the data set, for the report.
        split: Name of the split, for the report.
        seed: Seed of boxes and bootstrap.
        jitter: Jitter of the boxes; see `usrl.data.prompts.jittered_boxes`.
        curves: Log rows with ``seconds`` and ``val_score`` by method, drawn as learning curves.
        more: Results from elsewhere, images of another data set, and folds.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: If there is nothing to score, the folder holds other files or cannot be written, or a
            method refuses an image.
    """
    lesions = choose_lesions(segmenters, samples)
    methods, runs = name_methods(segmenters)
    prompts = {sample.name: jittered_boxes(sample, jitter, seed) for sample in lesions}
    negatives = [sample for sample in samples if not sample.target.any()]
    automatic = {name: method for name, method in methods.items() if method.track == "automatic"}
    unit = "mm" if all(sample.spacing_mm is not None for sample in lesions) else "px"
    asked = len(methods) * len(lesions) + len(automatic) * len(negatives)
    with claimed(Path(out)) as folder:
        with show_progress(asked + len(methods) * len(more.external)) as progress:
            traced: dict[tuple[str, str], Mapping[str, str]] = {}
            cases = score_lesions(methods, lesions, prompts, progress, traced)
            cases += [mean for name, members in runs.items() for mean in average_runs(cases, name, members)]
            negative_cases = _score_negatives(automatic, negatives, progress)
            elsewhere = _score_external(methods, runs, more, seed, jitter, progress)
            progress.start("scored")
        foreign = _name_foreign(more.foreign, [*methods, *runs])
        cases += foreign
        cases = [case | ({"fold": more.folds[case["case"]]} if more.folds else {}) for case in cases]
        results = describe_comparison(dataset, split, seed, [sample.group for sample in lesions])
        results |= {"jitter": jitter, "images": len(lesions), "unit": unit}
        results |= {"nsd_tolerance": NSD_TOLERANCE[unit], "hd95": HD95_DEFINITION}
        results |= _summarise(cases, seed, methods, runs)
        results["negatives"] = summarise_negatives(negative_cases)
        results |= _summarise_more(results["rows"], cases, elsewhere, more, seed)
        names = {case["method"] for case in foreign}
        results["rows"] = [
            row | ({"foreign": True} if row["method"] in names else {}) for row in results["rows"]
        ]
        results |= {"agreement": list_agreements(cases), "strata": list_strata(cases, seed)}
        results["costs"] = list_costs(methods, lesions[0], prompts)
        named = {sample.name: sample for sample in lesions}
        comparison = Comparison(results, cases, methods, named, prompts, curves or {}, traced)
        sheets, figures = list_sheets(comparison), draw_statistics(results)
        page = format_report(comparison, sheets, figures)
        tables = {"cases.csv": cases, "negatives.csv": negative_cases, "external.csv": elsewhere}
        write_report(folder, results, page, tables, figures | write_sheets(sheets))
    return results


@contextmanager
def claimed(out: Path) -> Iterator[Path]:
    """Lock and yield the folder of a comparison: new, or one that a kill left with its mark.

    After an error the folder is empty.
    """
    check_claim(out)
    make_folder(out)
    mark = out / _MARK
    with locked(out):
        with writing_to(out):
            _clear(out)
            mark.touch()
        try:
            yield out
        except BaseException:
            _clear(out)
            raise
        finally:
            mark.unlink(missing_ok=True)


def check_claim(out: Path) -> None:
    """Refuse a folder that `claimed` would refuse: before images are read, which takes longer."""
    if not (out / _MARK).is_file():
        check_empty(out)


def _clear(folder: Path) -> None:
    figures = [f"{what}-{track}.svg" for what in ("ranks", "profiles") for track in TRACKS]
    tables = ("cases.csv", "negatives.csv", "external.csv")
    for name in (*tables, "results.json", "report.html", *figures):
        (folder / name).unlink(missing_ok=True)
    if (written := folder / "tables").is_dir():
        for path in [*written.glob("*.csv"), *written.glob("*.tex"), *written.glob(".*")]:
            path.unlink(missing_ok=True)
        if not any(written.iterdir()):
            written.rmdir()


def describe_comparison(dataset: str, split: str, seed: int, groups: Sequence[str]) -> dict[str, Any]:
    """Return what ``results.json`` says of every comparison: of which cases, when, and by which code."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    facts = {"dataset": dataset, "split": split, "seed": seed, "groups": len(set(groups)), "date": date}
    return facts | {"versions": find_versions()}


def draw_statistics(results: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the figures of the statistics of ``results.json`` by the name of their files, such as SVG."""
    figures = {f"ranks-{ranks['track']}.svg": draw_ranks(ranks) for ranks in results["ranks"]}
    return figures | {f"profiles-{each['track']}.svg": draw_profiles(each) for each in results["profiles"]}


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    page: str,
    tables: Mapping[str, Sequence[Case]],
    others: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write ``report.html``, ``results.json``, the tables that have rows, and other files, by name."""
    contents = {name: format_csv(rows) for name, rows in tables.items() if rows}
    contents["results.json"] = json.dumps(results, indent=2, allow_nan=False).encode()
    contents |= others
    with writing_to(folder):
        for name, content in (contents | {"report.html": page.encode()}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_atomically(folder / name, content)


def choose_lesions(methods: Sequence[object], samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with a lesion.

    Raises:
        UserError: If there is no method, or no such sample.
    """
    lesions = [sample for sample in samples if sample.target.any()]
    if not methods or not lesions:
        raise UserError(
            f"a comparison needs a method and an image with a lesion, got {len(methods)} methods and "
            f"{len(lesions)} such images; choose another split"
        )
    return lesions


def name_methods(
    segmenters: Sequence[Method | Sequence[Method]],
) -> tuple[dict[str, Method], dict[str, list[str]]]:
    """Return all methods by name, in order, and the names of the runs of each mean, by its name.

    Raises:
        UserError: If runs of one mean are prompted and automatic.
    """
    for entry in segmenters:
        members = entry if isinstance(entry, Sequence) else [entry]
        if len({member.track for member in members}) > 1:
            tracks = ", ".join(f"{member.name} is {member.track}" for member in members)
            raise UserError(
                f"a mean is of runs that all take boxes or all take none: {tracks}; separate them"
            )
    return name_runs(segmenters)


def name_runs(entries: Sequence[_N | Sequence[_N]]) -> tuple[dict[str, _N], dict[str, list[str]]]:
    """Return methods or players by name, in order, and the names of the runs of each mean, by its name."""
    named: dict[str, _N] = {}
    means = {}
    for entry in entries:
        names = []
        for member in entry if isinstance(entry, Sequence) else [entry]:
            names.append(free_name(member.name, named))
            named[names[-1]] = member
        if len(names) > 1:
            means[f"{names[0]}, mean of {len(names)} runs"] = names
    return named, means


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name, or ``name (2)`` and so on if it is taken."""
    numbered = (f"{name} ({count})" for count in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


def score_lesions(
    methods: Mapping[str, Method],
    samples: Sequence[Sample],
    prompts: Mapping[str, Prompt],
    progress: ImageProgress,
    traced: dict[tuple[str, str], Mapping[str, str]] | None = None,
) -> list[Case]:
    """Return the rows of ``cases.csv``: every method on every image with a lesion.

    Only prompted methods see the boxes, because the target gives them. Distances are in mm if every sample
    has a spacing. The outlines of all masks are put into ``traced``, if it is given.

    Raises:
        UserError: If a method refuses an image.
    """
    has_spacing = all(sample.spacing_mm is not None for sample in samples)
    cases = []
    for name, method in methods.items():
        progress.start(name)
        for sample in samples:
            prompt = prompts[sample.name] if method.track == "prompted" else None
            labels, answer, seconds = _ask(name, method, sample, prompt)
            row: Case = labels | {"track": method.track, "missed": int(not answer.mask.any())}
            row |= score_sample(answer.mask, sample, in_mm=has_spacing)
            if traced is not None:
                traced[name, sample.name] = trace_answer(answer)
            if answer.uncertainty is not None:
                row["uncertainty"] = answer.uncertainty
            if answer.proposal is not None:
                row["initial_dice"] = dice(answer.proposal, sample.target)
                if isinstance(method, Ceiling):
                    best = method.reach(sample.image, prompt, sample.target, answer)
                    row["oracle_dice"] = dice(best, sample.target)
                row["worsened"] = float(row["dice"] < row["initial_dice"])
            cases.append(row | {"seconds": seconds})
            progress.advance()
    return cases


def _score_external(
    methods: Mapping[str, Method],
    runs: Mapping[str, Sequence[str]],
    more: Additions,
    seed: int,
    jitter: float,
    progress: ImageProgress,
) -> list[Case]:
    """Return the cases of the methods, and of the means of runs, on the images of another data set."""
    asked = {name: method for name, method in methods.items() if not isinstance(method, CaseSegmenter)}
    prompts = {sample.name: jittered_boxes(sample, jitter, seed) for sample in more.external}
    cases = score_lesions(asked, more.external, prompts, progress) if more.external else []
    means = [case for name, members in runs.items() for case in average_runs(cases, name, members)]
    return cases + means


def _name_foreign(tables: Sequence[Sequence[Case]], taken: Sequence[str]) -> list[Case]:
    """Return the cases of several tables, in which each method has a name of its own."""
    found: list[Case] = []
    for table in tables:
        known = {*taken, *(case["method"] for case in found)}
        names = {case["method"]: free_name(case["method"], known) for case in table}
        found += [case | {"method": names[case["method"]]} for case in table]
    return found


def _summarise_more(
    rows: Sequence[dict[str, Any]],
    cases: Sequence[Case],
    elsewhere: Sequence[Case],
    more: Additions,
    seed: int,
) -> dict[str, Any]:
    """Return what the additions put into ``results.json``; the drop goes into the rows."""
    found: dict[str, Any] = {}
    if elsewhere:
        drops = measure_drops(cases, elsewhere, seed)
        groups = len({case["group"] for case in elsewhere})
        found["external"] = {"dataset": more.external_name, "images": len(more.external), "groups": groups}
        for row in rows:
            row |= drops.get(row["method"], {})
    if more.folds:
        by_method = group_cases(cases, "method")
        found["folds"] = {name: summarise_folds(own) for name, own in by_method.items()}
    return found


def score_case(pred: BoolMask, target: BoolMask, spacing_mm: Spacing | None = None) -> dict[str, float]:
    """Return every metric of one prediction at native resolution, by column name.

    With a spacing, (row, column) in mm, distances are in mm, else in px; their columns name the unit.
    """
    unit = "px" if spacing_mm is None else "mm"
    surface = measure_surface(pred, target, NSD_TOLERANCE[unit], spacing_mm)
    scores = measure_overlap(pred, target)
    scores |= {f"{name}_{unit}": getattr(surface, name) for name in ("hd", "hd95", "asd", "assd")}
    scores |= {"nsd": surface.nsd, "boundary_iou": boundary_iou(pred, target)}
    return scores | {
        "area_error": relative_area_error(pred, target),
        "detected": detection_rate(pred, target),
    }


def score_sample(pred: BoolMask, sample: Sample, *, in_mm: bool) -> dict[str, float]:
    """Return every metric of a prediction of a sample by column name: those of `score_case`, and sizes.

    Sizes are the areas of both masks in px2 or mm2, and in mm their perimeters. Where the data set says how
    long the circumference of the target is, they are the prediction's, the target's and their absolute
    difference in mm.
    """
    spacing = sample.spacing_mm if in_mm else None
    unit = "px2" if spacing is None else "mm2"
    areas = [measure_area(mask, spacing) for mask in (pred, sample.target)]
    sizes = {f"area_{unit}": areas[0], f"target_area_{unit}": areas[1]}
    if spacing is not None:
        sizes["perimeter_mm"] = measure_perimeter(pred, spacing)
        sizes["target_perimeter_mm"] = measure_perimeter(sample.target, spacing)
    own = sample.measured.get("circumference_mm")
    if own is not None and sample.spacing_mm is not None:
        found = measure_circumference(pred, sample.spacing_mm[0])
        sizes |= {"circumference_mm": found, "target_circumference_mm": own}
        sizes["circumference_error_mm"] = abs(found - own)
    return score_case(pred, sample.target, spacing) | sizes


def _score_negatives(
    methods: Mapping[str, Method], samples: Sequence[Sample], progress: ImageProgress
) -> list[Case]:
    cases = []
    for name, method in methods.items():
        progress.start(f"{name}, no lesion")
        for sample in samples:
            labels, answer, seconds = _ask(name, method, sample, None)
            found = {"false_detection": int(answer.mask.any()), "area_px": int(answer.mask.sum())}
            cases.append(labels | found | {"seconds": seconds})
            progress.advance()
    return cases


def _ask(name: str, method: Method, sample: Sample, prompt: Prompt | None) -> tuple[Case, Answer, float]:
    """Return the labels of a case, a method's answer and its seconds."""
    start = time.perf_counter()
    answer = answer_sample(method, sample, prompt)
    seconds = time.perf_counter() - start
    pred = answer.mask
    if pred.shape != sample.image.shape or pred.dtype != bool:
        raise UserError(
            f"{name} gave a mask of {pred.dtype} {pred.shape} for {sample.name}; "
            f"a segmenter returns bool of the image's shape {sample.image.shape}"
        )
    labels = {"case": sample.name, "group": sample.group, "source": sample.source, "method": name}
    return labels, answer, seconds


def _summarise(
    cases: Sequence[Case], seed: int, methods: Mapping[str, Method], runs: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return a row per method, and statistics of all but the runs of a mean and the ceilings.

    These are ``tests`` of pairs; ``ranks`` of each track with three methods or more; and the ``profiles`` of
    each track. A ceiling has seen the target. A test against it says nothing and costs the other tests power.
    """
    ceilings = {name for name, method in methods.items() if not isinstance(method, Segmenter)}
    untested = ceilings.union(*runs.values())
    rows = [
        summarise_method(own, seed) | ({"ceiling": True} if name in ceilings else {})
        for name, own in group_cases(cases, "method").items()
    ]
    blocks = group_cases([case for case in cases if case["method"] not in untested], "track")
    groups = [case["group"] for case in next(iter(group_cases(cases, "method").values()))]
    scores = stack_runs([case for case in cases if case["method"] not in ceilings], runs)
    means = summarise_iqm(scores, groups, seed)
    rows = [row | means.get(row["method"], {}) for row in rows]
    found: dict[str, Any] = {"rows": rows, "tests": [], "ranks": [], "profiles": []}
    for track in (track for track in TRACKS if track in blocks):
        own = {case["method"]: scores[case["method"]] for case in blocks[track]}
        tests = add_improvements(compare_pairs(blocks[track]), own, groups, seed)
        found["tests"] += [{"track": track} | test for test in tests]
        if ranks := rank_cases(blocks[track]):
            found["ranks"].append({"track": track} | ranks)
        found["profiles"].append({"track": track} | trace_profiles(own, groups, seed))
    return found
