"""The table of an ablation: what it says about each variant, and its files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.ablation.plan import BASE, SEED, Plan, Variant
from usrl.data.sample import DEFAULT_JITTER
from usrl.evaluation.report.sheets import format_csv
from usrl.evaluation.statistics.intervals import Interval, bootstrap_iqm
from usrl.evaluation.statistics.summary import Case
from usrl.files import write_atomically

Cases = Mapping[tuple[Path, int], Sequence[Case]]
"""The scored cases of each run, in the same order of images, by its folder and number of starts."""
Row = dict[str, Any]


def write_table(folder: Path, command: str, plan: Plan, variants: Sequence[Variant], cases: Cases) -> Path:
    """Write ``ablation.md``, ``ablation.csv``, ``cases.csv`` and ``ablation.json``; return the first.

    A row is a variant, the base first.
    """
    base, versions = _dice(variants[0], cases), _read_versions(variants)
    rows = [_summarise(variant, cases, base) for variant in variants]
    data = variants[0].trainings[0].recipe.data
    results: Row = {"command": command, "plan": plan.model_dump(), "dataset": data.name}
    results |= {"jitter": DEFAULT_JITTER, "seed": SEED, "versions": versions, "rows": rows}
    write_atomically(folder / "ablation.json", json.dumps(results, indent=2, allow_nan=False).encode())
    write_atomically(folder / "ablation.csv", format_csv(rows))
    write_atomically(folder / "cases.csv", format_csv(_label_cases(variants, cases)))
    count = f" ({data.count} images)" if data.name == "phantom" else ""
    told = (
        f"{rows[0]['cases']} cases of {data.name}{count}, split `{plan.split}` of `split_seed` "
        f"{data.split_seed}, seeds {', '.join(map(str, plan.seeds))}; boxes jittered by {DEFAULT_JITTER:.0%}"
        ", masks at native resolution. IQM: interquartile mean over seeds and cases, with 95% intervals from "
        "a bootstrap that draws runs and groups of cases; differences are paired over both. Seconds include "
        "those of the run that a variant starts from."
    )
    if plan.split == "val":
        told += " Each run's weights are its best on this very split."
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    page = f"```sh\n{command}\n```\n\n{_format(rows)}\n\n{told}\n\n{made}.\n"
    write_atomically(folder / "ablation.md", page.encode())
    return folder / "ablation.md"


def _summarise(variant: Variant, cases: Cases, base: NDArray[np.float64]) -> Row:
    """Return the row of a variant; ``base`` is the Dice of the base by run and case, (R, N)."""
    runs = [cases[key] for key in variant.scored]
    own = [case for run in runs for case in run]
    dice, groups = _dice(variant, cases), [case["group"] for case in runs[0]]
    owner = variant.trainings[0].variant
    same_as = "" if owner == variant.name or variant.starts > 1 else owner
    row: Row = {"variant": variant.name, "changes": _describe(variant.changes), "same_as": same_as}
    row |= {"seeds": len(runs), "cases": len(runs[0])}
    row |= _spread("dice_iqm", bootstrap_iqm(dice, groups, seed=SEED))
    if variant.name != BASE:
        row |= _spread("difference", bootstrap_iqm(dice, groups, minus=base, seed=SEED))
    for key in ("dice", "hd95_px", "hd95_mm", "initial_dice"):
        if key in own[0]:
            row[key] = float(np.mean([case[key] for case in own]))
    if "initial_dice" in own[0]:
        row["worsened"] = float(np.mean([case["dice"] < case["initial_dice"] for case in own]))
    seconds = [sum(link.run.read_log()[-1]["seconds"] for link in own.chain()) for own in variant.trainings]
    return row | {"seconds": float(np.mean(seconds))}


def _format(rows: Sequence[Row]) -> str:
    unit = "mm" if "hd95_mm" in rows[0] else "px"
    heads = ["variant", "changes", "Dice (IQM)", "difference from base", "mean Dice", f"HD95 ({unit})"]
    heads += ["start Dice", "made worse", "training (s)"]
    lines = [heads, ["---"] * len(heads), *(_cells(row, unit) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Row, unit: str) -> list[str]:
    changes = row["changes"].replace("|", "\\|")
    return [
        f"{row['variant']} (= {row['same_as']})" if row["same_as"] else row["variant"],
        changes and f"`{changes}`",
        _interval(row, "dice_iqm", ""),
        _interval(row, "difference", "+"),
        f"{row['dice']:.3f}",
        f"{row[f'hd95_{unit}']:.{2 if unit == 'mm' else 1}f}",
        f"{row['initial_dice']:.3f}" if "initial_dice" in row else "",
        f"{row['worsened']:.0%}" if "worsened" in row else "",
        f"{row['seconds']:.0f}",
    ]


def _interval(row: Row, key: str, sign: str) -> str:
    if key not in row:
        return ""
    mean, low, high = (format(row[name], f"{sign}.3f") for name in (key, f"{key}_low", f"{key}_high"))
    return f"{mean} [{low}, {high}]"


def _dice(variant: Variant, cases: Cases) -> NDArray[np.float64]:
    """Return Dice by run and case, (R, N)."""
    return np.array([[case["dice"] for case in cases[key]] for key in variant.scored])


def _spread(key: str, interval: Interval) -> dict[str, float]:
    return {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}


def _describe(changes: Mapping[str, Any]) -> str:
    """Return overrides on one line, in YAML's flow style."""
    texts = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in changes.items()}
    return ", ".join(f"{key}: {text}" for key, text in texts.items())


def _label_cases(variants: Sequence[Variant], cases: Cases) -> list[Case]:
    return [
        {"variant": variant.name, "seed": training.seed} | {k: v for k, v in case.items() if k != "method"}
        for variant in variants
        for training, key in zip(variant.trainings, variant.scored, strict=True)
        for case in cases[key]
    ]


def _read_versions(variants: Sequence[Variant]) -> dict[str, str]:
    """Return the versions that the runs were trained with; if they differ, all of them."""
    found: dict[str, dict[str, None]] = {}
    for training in (training for variant in variants for training in variant.trainings):
        for link in training.chain():
            for name, version in link.run.read_versions().items():
                found.setdefault(name, {})[version] = None
    return {name: " and ".join(each) for name, each in found.items()}
