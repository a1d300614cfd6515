"""Agreement of measurements with the target (Bland and Altman), and Dice by kinds of images."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from usrl.evaluation.statistics.intervals import bootstrap_mean
from usrl.evaluation.statistics.summary import Case, group_cases

MEASURES = {"area_mm2": "mm²", "perimeter_mm": "mm", "circumference_mm": "mm", "area_px2": "px"}
"""Columns of ``cases.csv`` that have a column of the target next to them, and their units."""


class Agreement(NamedTuple):
    """How two measurements of the same cases differ: mean and limits of the differences, in their unit."""

    n: int
    bias: float
    low: float  # lower limit of agreement
    high: float  # upper limit of agreement


def measure_agreement(measured: ArrayLike, target: ArrayLike) -> Agreement:
    """Return mean difference, measured less target, and the limits that hold 95% of normal differences.

    The limits are 1.96 standard deviations around the mean. One case has no deviation: its limits are its
    difference.

    Source:
        Bland and Altman (1986), Statistical methods for assessing agreement between two methods of clinical
        measurement, The Lancet 327(8476):307-310, doi:10.1016/S0140-6736(86)90837-8.
    """
    differences = np.asarray(measured, np.float64) - np.asarray(target, np.float64)  # (N,)
    bias = float(differences.mean())
    reach = 1.96 * float(differences.std(ddof=1)) if differences.size > 1 else 0.0
    return Agreement(differences.size, bias, bias - reach, bias + reach)


def list_agreements(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return the agreement of every method with the target, by measure: the rows of ``results.json``.

    An image where a method finds nothing counts with a size of 0.
    """
    rows = []
    for measure, unit in MEASURES.items():
        for method, own in group_cases(cases, "method").items():
            if all(measure in case for case in own):
                found = measure_agreement(
                    *([case[key] for case in own] for key in (measure, f"target_{measure}"))
                )
                labels = {"method": method, "track": own[0]["track"], "measure": measure, "unit": unit}
                rows.append(labels | found._asdict())
    return rows


def split_source(source: str) -> tuple[str, str]:
    """Return data set and class of a source such as ``"busi/benign"``; the class may be ``""``."""
    name, _, kind = source.partition("/")
    return name, kind


def list_strata(cases: Sequence[Case], seed: int) -> list[dict[str, Any]]:
    """Return the Dice of every method by third of the target's area, class and source.

    Sorts with one kind are left out. A row has the ends of its 95% bootstrap interval over groups.
    """
    sorts: dict[str, Callable[[Case], str]] = {
        "class": lambda case: split_source(case["source"])[1],
        "source": lambda case: split_source(case["source"])[0],
    }
    if (third := _name_thirds(cases)) is not None:
        sorts = {"size": third} | sorts
    rows = []
    for sort, name in sorts.items():
        kinds = dict.fromkeys(sorted({name(case) for case in cases}))
        if len(kinds) < 2:
            continue
        for method, own in group_cases(cases, "method").items():
            for kind in kinds:
                part = [case for case in own if name(case) == kind]
                if part:
                    labels = {
                        "method": method,
                        "track": own[0]["track"],
                        "sort": sort,
                        "kind": kind or "none",
                    }
                    rows.append(labels | {"n": len(part)} | _average(part, seed))
    return rows


def _average(cases: Sequence[Case], seed: int) -> dict[str, float]:
    found = bootstrap_mean([case["dice"] for case in cases], [case["group"] for case in cases], seed=seed)
    return {"dice": found.mean, "dice_low": found.low, "dice_high": found.high}


def _name_thirds(cases: Sequence[Case]) -> Callable[[Case], str] | None:
    """Return what names the third of a case by the area of its target; None if areas do not have thirds."""
    measure = "area_mm2" if any("target_area_mm2" in case for case in cases) else "area_px2"
    areas = {case["case"]: case[key] for case in cases if (key := f"target_{measure}") in case}
    if set(areas) != {case["case"] for case in cases}:  # none of the methods was measured here
        return None
    low, high = np.quantile(list(areas.values()), (1 / 3, 2 / 3)).tolist()
    if not min(areas.values()) <= low < high < max(areas.values()):
        return None
    unit = MEASURES[measure]
    names = (f"1: up to {low:.0f} {unit}", f"2: up to {high:.0f} {unit}", f"3: over {high:.0f} {unit}")
    return lambda case: names[(areas[case["case"]] > low) + (areas[case["case"]] > high)]
