"""From cases to statements about methods: means with intervals, tests, false detections."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from statistics import mean
from typing import Any

import numpy as np

from usrl.data.sample import Prompt, Sample, Track
from usrl.evaluation.statistics.effects import (
    bootstrap_difference,
    performance_profile,
    probability_of_improvement,
    rank_biserial,
    rank_methods,
)
from usrl.evaluation.statistics.intervals import (
    Floats,
    Interval,
    RiskCoverage,
    adjust_holm,
    bootstrap_iqm,
    bootstrap_mean,
    mean_by_group,
    paired_wilcoxon,
    perfect_order,
    risk_coverage,
)
from usrl.segmenter import Answer, Method, answer_sample

Case = dict[str, Any]
"""One method on one image: the row of ``cases.csv``."""
TRACKS: tuple[Track, ...] = ("prompted", "automatic")
LABELS = frozenset({"case", "group", "source", "method", "track", "fold"})
NOT_AVERAGED = LABELS | {"missed", "seconds", "uncertainty"}
_THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(50))
"""Of the performance profiles; no Dice is above 1."""


@dataclass(frozen=True)
class Comparison:
    """All that a comparison knows and its report shows; methods, samples and boxes are by name."""

    results: Mapping[str, Any]  # what ``results.json`` holds
    cases: Sequence[Case]  # a row per method and image with a lesion
    methods: Mapping[str, Method]  # the report asks them again about the few images that it shows
    samples: Mapping[str, Sample]
    prompts: Mapping[str, Prompt]
    curves: Mapping[str, Sequence[Mapping[str, float]]]  # log rows with ``seconds`` and ``val_score``
    traced: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)  # `outlines.Traced`
    _answers: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def prompt(self, method: str, name: str) -> Prompt | None:
        """Return the boxes that a method sees of a sample; None if it is automatic."""
        return self.prompts[name] if self.methods[method].track == "prompted" else None

    def answer(self, method: str, name: str) -> Answer:
        """Return a method's answer for a sample by name; a method is asked once about each image."""
        if (method, name) not in self._answers:
            prompt = self.prompt(method, name)
            self._answers[method, name] = answer_sample(self.methods[method], self.samples[name], prompt)
        return self._answers[method, name]

    def row(self, method: str, name: str) -> Case:
        """Return the row of ``cases.csv`` of a method and a sample."""
        return self._rows[method, name]

    @cached_property
    def _rows(self) -> dict[tuple[str, str], Case]:
        return {(case["method"], case["case"]): case for case in self.cases}

    def scores(self, method: str) -> dict[str, float]:
        """Return the Dice of a method by case."""
        return {case["case"]: case["dice"] for case in self.cases if case["method"] == method}

    def risks(self) -> dict[str, tuple[RiskCoverage, RiskCoverage]]:
        """Return the risk over coverage of each method that gives uncertainties, and of the perfect order."""
        by_method = group_cases(self.cases, "method")  # a mean of runs has no uncertainty
        return {name: trace_risk(own) for name, own in by_method.items() if has_uncertainty(own)}


def group_cases(cases: Iterable[Case], label: str) -> dict[str, list[Case]]:
    """Return cases by one of their `LABELS`, in order of appearance."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case[label], []).append(case)
    return groups


def has_uncertainty(cases: Sequence[Case]) -> bool:
    """Return whether a method gave an uncertainty for each of its cases."""
    return all("uncertainty" in case for case in cases)


def trace_risk(cases: Sequence[Case]) -> tuple[RiskCoverage, RiskCoverage]:
    """Return risk over coverage in the order of a method's uncertainties, and in the perfect order."""
    dice = [case["dice"] for case in cases]
    return risk_coverage([case["uncertainty"] for case in cases], dice), perfect_order(dice)


def average_runs(cases: Sequence[Case], name: str, members: Sequence[str]) -> list[Case]:
    """Return the mean of several runs of one method, a row per image, from the cases of all methods."""
    averages = []
    for runs in group_cases((case for case in cases if case["method"] in members), "case").values():
        shared = set.intersection(*map(set, runs)) - LABELS - {"uncertainty"}  # which belongs to a run
        # The mean of equal runs must be each of them, which NumPy's sum misses by its rounding.
        means = {key: float(mean(run[key] for run in runs)) for key in runs[0] if key in shared}
        labels = {key: runs[0][key] for key in runs[0] if key in LABELS}
        averages.append(labels | means | {"method": name})
    return averages


def summarise_method(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """Return the row of one method from all its cases.

    It has the number of cases, misses (empty predictions), mean Dice with the ends of its 95% interval, the
    mean of every other metric and median seconds per image. An agent adds the mean Dice of proposals and
    ceilings and the share of cases whose Dice fell below the proposal's. A method with uncertainties adds
    ``aurc`` and ``aurc_best``, the areas under risk over coverage in its own order and in the perfect one; a
    random order has 1 - Dice.
    """
    dice = bootstrap_mean([case["dice"] for case in cases], [case["group"] for case in cases], seed=seed)
    averaged = [key for key in cases[0] if key not in NOT_AVERAGED and key != "dice"]
    row = {"method": cases[0]["method"], "track": cases[0]["track"], "n": len(cases)}
    if "missed" in cases[0]:
        row["missed"] = sum(case["missed"] for case in cases)
    row |= {"dice": dice.mean, "dice_low": dice.low, "dice_high": dice.high}
    row |= {key: float(np.mean([case[key] for case in cases])) for key in averaged}
    if "seconds" in cases[0]:
        row["seconds_per_image"] = float(np.median([case["seconds"] for case in cases]))
    if has_uncertainty(cases):
        own, perfect = trace_risk(cases)
        row |= {"aurc": own.area, "aurc_best": perfect.area}
    return row


def summarise_folds(cases: Sequence[Case]) -> dict[str, Any]:
    """Return the row of each fold of one method, and mean and standard deviation of the folds' mean Dice.

    The deviation (with one degree of freedom less) is of trainings and of their images. It says less of how
    sure the mean over all images is than the interval over groups does: trainings share their images.

    Source:
        Bengio and Grandvalet (2004), No unbiased estimator of the variance of k-fold cross-validation, J Mach
        Learn Res 5:1089-1105.
    """
    by_fold = dict(sorted(group_cases(cases, "fold").items()))
    means = [float(np.mean([case["dice"] for case in own])) for own in by_fold.values()]
    rows = [
        {"fold": fold, "n": len(own), "dice": dice}
        for (fold, own), dice in zip(by_fold.items(), means, strict=True)
    ]
    return {"rows": rows, "mean": float(np.mean(means)), "sd": float(np.std(means, ddof=1))}


def measure_drops(cases: Sequence[Case], external: Sequence[Case], seed: int) -> dict[str, dict[str, float]]:
    """Return the external Dice of each method, and its drop from its own cases with the interval, by name."""
    own, found = group_cases(cases, "method"), {}
    for method, others in group_cases(external, "method").items():
        here, there = ([case["dice"] for case in cases] for cases in (own[method], others))
        groups, their_groups = ([case["group"] for case in cases] for cases in (own[method], others))
        mean = bootstrap_mean(there, their_groups, seed=seed)
        drop = bootstrap_difference(here, groups, there, their_groups, seed=seed)
        found[method] = _spread("external_dice", mean) | _spread("drop", drop)
    return found


def compare_pairs(cases: Sequence[Case], key: str = "dice") -> list[dict[str, Any]]:
    """Return a paired test of a score for each pair of methods, which share their cases.

    It is a Wilcoxon signed-rank test on the means of groups, because cases of one patient depend on each
    other. Holm's method adjusts the p-values. The difference is the mean over groups, with the ends of its
    95% bootstrap interval over groups. ``rank_biserial`` is the effect size of the test
    (`usrl.evaluation.statistics.effects.rank_biserial`).
    """
    means = {
        method: mean_by_group([case[key] for case in own], [case["group"] for case in own])
        for method, own in group_cases(cases, "method").items()
    }
    pairs = list(combinations(means, 2))
    p_values = [paired_wilcoxon(means[first], means[second]) for first, second in pairs]
    rows = []
    for (first, second), p, p_holm in zip(pairs, p_values, adjust_holm(p_values), strict=True):
        gains = means[first] - means[second]
        mean = bootstrap_mean(gains, [str(place) for place in range(len(gains))])
        row = {"first": first, "second": second, "difference": mean.mean}
        row |= {"difference_low": mean.low, "difference_high": mean.high}
        row["rank_biserial"] = rank_biserial(means[first], means[second])
        rows.append(row | {"groups": len(gains), "p": p, "p_holm": p_holm})
    return rows


def stack_runs(cases: Sequence[Case], runs: Mapping[str, Sequence[str]]) -> dict[str, Floats]:
    """Return the Dice of each method of some cases by run and case, (R, N), by name.

    A method that is a mean of runs has those of its runs, whose names are given; others have one run. The
    cases of all methods are in the same order.
    """
    dice = {name: [case["dice"] for case in own] for name, own in group_cases(cases, "method").items()}
    members = {run for names in runs.values() for run in names}
    return {
        name: np.array([dice[run] for run in runs.get(name, [name])]) for name in dice if name not in members
    }


def add_improvements(
    tests: Sequence[dict[str, Any]], scores: Mapping[str, Floats], groups: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Return tests with the probability that the first method improves on the second, and its interval."""
    rows = []
    for test in tests:
        found = probability_of_improvement(scores[test["first"]], scores[test["second"]], groups, seed=seed)
        rows.append(test | _spread("improvement", found))
    return rows


def summarise_iqm(scores: Mapping[str, Floats], groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the interquartile mean of each method of several runs, and the ends of its interval, by name."""
    return {
        name: _spread("dice_iqm", bootstrap_iqm(own, groups, seed=seed))
        for name, own in scores.items()
        if len(own) > 1
    }


def trace_profiles(scores: Mapping[str, Floats], groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the performance profile of each method: the share of runs and cases above each Dice.

    ``methods`` holds ``share``, ``low`` and ``high`` by name, a value for each of ``thresholds``.
    """
    curves = {name: performance_profile(own, groups, _THRESHOLDS, seed=seed) for name, own in scores.items()}
    methods = {
        name: {part: getattr(curve, part).round(4).tolist() for part in ("share", "low", "high")}
        for name, curve in curves.items()
    }
    return {"thresholds": list(_THRESHOLDS), "methods": methods}


def rank_cases(cases: Sequence[Case]) -> dict[str, Any] | None:
    """Return the ranks of methods by their mean Dice of groups; None for two methods or for one group."""
    means = {
        method: mean_by_group([case["dice"] for case in own], [case["group"] for case in own])
        for method, own in group_cases(cases, "method").items()
    }
    if len(means) < 3 or any(len(own) < 2 for own in means.values()):
        return None
    return asdict(rank_methods(means))


def _spread(key: str, interval: Interval) -> dict[str, float]:
    return {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}


def summarise_figures(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """Return the row of one method: the mean of each figure, and the ends of its interval over groups."""
    groups = [case["group"] for case in cases]
    row: dict[str, Any] = {"method": cases[0]["method"], "n": len(cases)}
    for name in (name for name in cases[0] if name not in LABELS):
        found = bootstrap_mean([case[name] for case in cases], groups, seed=seed)
        row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def compare_figures(
    cases: Sequence[Case], left_out: Container[str], figures: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the tests of `compare_pairs` for the figures that cases have, without some methods."""
    fair = [case for case in cases if case["method"] not in left_out]
    known = [name for name in figures if name in cases[0]]
    return [test | {"figure": name} for name in known for test in compare_pairs(fair, name)]


def summarise_negatives(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return the share of lesion-free images with a false detection, by automatic method."""
    rows = []
    for method, own in group_cases(cases, "method").items():
        found = [case["false_detection"] for case in own]
        counts = {"method": method, "n": len(own), "false_detections": sum(found)}
        rows.append(counts | {"false_detection_share": float(np.mean(found))})
    return rows
