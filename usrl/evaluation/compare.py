"""Scoring several methods on the same images, by one function and at native resolution.

Images without a lesion are kept apart: an automatic method has a share of false detections there and no
Dice; a prompted method has no box to start from and is left out by definition.
"""

import csv
import datetime
import io
import itertools
import json
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from usrl.data.prompts import jittered_boxes
from usrl.data.sample import DEFAULT_JITTER, BoolMask, GrayImage, Prompt, Sample
from usrl.errors import UserError
from usrl.evaluation.report import write_report
from usrl.evaluation.scoring import NSD_TOLERANCE, score_case
from usrl.evaluation.summary import (
    Case,
    Comparison,
    average_runs,
    compare_pairs,
    group_cases,
    summarise_method,
    summarise_negatives,
)
from usrl.files import make_empty_folder, write_atomically
from usrl.metrics.overlap import dice
from usrl.progress import ImageProgress, show_progress
from usrl.runs.run import find_versions
from usrl.segmenter import Ceiling, Refiner, Segmenter, predict_with_uncertainty


def compare(
    segmenters: Sequence[Segmenter | Sequence[Segmenter]],
    samples: Sequence[Sample],
    out: Path | str,
    *,
    dataset: str,
    split: str,
    seed: int = 0,
    jitter: float = DEFAULT_JITTER,
    curves: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """Score methods on samples and write the report.

    Writes ``cases.csv`` (a row per case and method, images with a lesion), ``negatives.csv`` (a row per
    lesion-free image and automatic method, if there are any), ``results.json`` and ``report.html``.

    Args:
        segmenters: Methods in the order of the tables; of equal names the later get a number. Several runs
            of one method, such as trainings of several seeds, come as a sequence of their own: below them
            stands their mean, image by image, which takes their place in the tests.
        samples: Images with their references; distances are in mm where every one has a spacing.
        out: Folder to write; must be empty or absent.
        dataset: Name of the data set, for the report.
        split: Name of the split, for the report.
        seed: Seed of boxes and bootstrap.
        jitter: Of the boxes; see `usrl.data.prompts.jittered_boxes`.
        curves: Log rows with ``seconds`` and ``val_dice`` by method, drawn as learning curves.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: If there is nothing to score, the folder holds files, or a method refuses an image.
    """
    lesions = [sample for sample in samples if sample.target.any()]
    if not segmenters or not lesions:
        raise UserError(
            f"a comparison needs a method and an image with a lesion, got {len(segmenters)} methods and "
            f"{len(lesions)} such images; choose another split"
        )
    methods, runs = name_methods(segmenters)
    out = make_empty_folder(out)
    prompts = {sample.name: jittered_boxes(sample, jitter, seed) for sample in lesions}
    negatives = [sample for sample in samples if not sample.target.any()]
    automatic = {name: method for name, method in methods.items() if method.track == "automatic"}
    with show_progress(len(methods) * len(lesions) + len(automatic) * len(negatives)) as progress:
        cases = score_lesions(methods, lesions, prompts, progress)
        cases += [mean for name, members in runs.items() for mean in average_runs(cases, name, members)]
        negative_cases = _score_negatives(automatic, negatives, progress)
        progress.start("scored")
    facts = {"dataset": dataset, "split": split, "seed": seed, "jitter": jitter}
    ceilings = {name for name, method in methods.items() if isinstance(method, Ceiling)}
    single = {member for members in runs.values() for member in members}
    rows = _summarise(cases, negative_cases, seed, ceilings=ceilings, untested=ceilings | single)
    results = facts | _describe(lesions) | rows
    write_atomically(out / "cases.csv", format_csv(cases))
    if negative_cases:
        write_atomically(out / "negatives.csv", format_csv(negative_cases))
    write_atomically(out / "results.json", json.dumps(results, indent=2, allow_nan=False).encode())
    named = {sample.name: sample for sample in lesions}
    write_report(out / "report.html", Comparison(results, cases, methods, named, prompts, curves or {}))
    return results


def name_methods(
    segmenters: Sequence[Segmenter | Sequence[Segmenter]],
) -> tuple[dict[str, Segmenter], dict[str, list[str]]]:
    """Return all methods by name, in order, and which of them are runs of one, by the name of their mean.

    The second method of a name is called ``name (2)`` and so on.

    Raises:
        UserError: If runs of one mean are prompted and automatic.
    """
    methods: dict[str, Segmenter] = {}
    runs = {}
    for entry in segmenters:
        members = entry if isinstance(entry, Sequence) else [entry]
        names = []
        for segmenter in members:
            names.append(free_name(segmenter.name, methods))
            methods[names[-1]] = segmenter
        if len({member.track for member in members}) > 1:
            tracks = ", ".join(f"{member.name} is {member.track}" for member in members)
            raise UserError(
                f"a mean is of runs that all take boxes or all take none: {tracks}; separate them"
            )
        if len(members) > 1:
            runs[f"{names[0]}, mean of {len(members)} runs"] = names
    return methods, runs


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name, or ``name (2)`` and so on where it is taken."""
    numbered = (f"{name} ({count})" for count in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


def score_lesions(
    methods: Mapping[str, Segmenter],
    samples: Sequence[Sample],
    prompts: Mapping[str, Prompt],
    progress: ImageProgress,
) -> list[Case]:
    """Return the rows of ``cases.csv``: every method on every sample.

    Args:
        methods: By the names that the rows bear.
        samples: Images with a lesion; distances are in mm where every one has a spacing.
        prompts: Boxes by name of the sample; only prompted methods see them.
        progress: Counts methods times samples.

    Raises:
        UserError: If a method refuses an image.
    """
    has_spacing = all(sample.spacing_mm is not None for sample in samples)
    cases = []
    for name, method in methods.items():
        progress.start(name)
        for sample in samples:
            # Only a prompted method sees the boxes: they are drawn from the reference.
            prompt = prompts[sample.name] if method.track == "prompted" else None
            pred, uncertainty, seconds = _segment(name, method, sample, prompt)
            scores = score_case(pred, sample.target, sample.spacing_mm if has_spacing else None)
            labels = {"case": sample.name, "group": sample.group, "source": sample.source}
            labels |= {"method": name, "track": method.track}
            row = labels | {"missed": int(not pred.any())} | scores
            if uncertainty is not None:
                row["uncertainty"] = uncertainty
            if isinstance(method, Refiner):
                row |= _score_refinement(method, sample.image, prompt, sample.target, scores["dice"])
            cases.append(row | {"seconds": seconds})
            progress.advance()
    return cases


def _score_refinement(
    agent: Refiner, image: GrayImage, prompt: Prompt | None, target: BoolMask, final_dice: float
) -> dict[str, float]:
    initial_dice = dice(agent.propose(image, prompt), target)
    return {
        "initial_dice": initial_dice,
        "oracle_dice": dice(agent.oracle(image, prompt, target), target),
        "worsened": float(final_dice < initial_dice),
    }


def _score_negatives(
    methods: Mapping[str, Segmenter], samples: Sequence[Sample], progress: ImageProgress
) -> list[Case]:
    cases = []
    for name, method in methods.items():
        progress.start(f"{name}, no lesion")
        for sample in samples:
            pred, _, seconds = _segment(name, method, sample, None)
            row: Case = {"case": sample.name, "group": sample.group, "source": sample.source, "method": name}
            row |= {"false_detection": int(pred.any()), "area_px": int(pred.sum()), "seconds": seconds}
            cases.append(row)
            progress.advance()
    return cases


def _segment(
    name: str, method: Segmenter, sample: Sample, prompt: Prompt | None
) -> tuple[BoolMask, float | None, float]:
    """Return mask, uncertainty and seconds of a method."""
    start = time.perf_counter()
    pred, uncertainty = predict_with_uncertainty(method, sample, prompt)
    seconds = time.perf_counter() - start
    if pred.shape != sample.image.shape or pred.dtype != bool:
        raise UserError(
            f"{name} gave a mask of {pred.dtype} {pred.shape} for {sample.name}; "
            f"a segmenter returns bool of the image's shape {sample.image.shape}"
        )
    return pred, uncertainty, seconds


def _describe(samples: Sequence[Sample]) -> dict[str, Any]:
    unit = "mm" if all(sample.spacing_mm is not None for sample in samples) else "px"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": find_versions(),
        "images": len(samples),
        "groups": len({sample.group for sample in samples}),
        "unit": unit,
        "nsd_tolerance": NSD_TOLERANCE[unit],
    }


def _summarise(
    cases: Sequence[Case],
    negatives: Sequence[Case],
    seed: int,
    *,
    ceilings: Container[str],
    untested: Container[str],
) -> dict[str, Any]:
    """Return what ``results.json`` says of methods; single runs and ceilings are left out of the tests.

    A ceiling has seen the reference: to test methods against it says nothing, and costs the others power.
    """
    rows = [
        summarise_method(own, seed) | ({"ceiling": True} if name in ceilings else {})
        for name, own in group_cases(cases, "method").items()
    ]
    tests = compare_pairs([case for case in cases if case["method"] not in untested])
    return {"rows": rows, "tests": tests, "negatives": summarise_negatives(negatives)}


def format_csv(rows: Sequence[Case]) -> bytes:
    """Return rows as CSV with every column that any row has, in order of appearance."""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
