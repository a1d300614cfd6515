"""The table of an ablation: what is said about each variant, and how it is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.ablation.plan import BASE, Plan, Variant
from usrl.ablation.running import training_seconds
from usrl.data.recipe import DataRecipe
from usrl.evaluation.compare import format_csv
from usrl.evaluation.statistics import Interval, bootstrap_iqm
from usrl.evaluation.summary import Case
from usrl.files import write_atomically
from usrl.runs.run import Run

Cases = Mapping[tuple[Path, int], Sequence[Case]]
"""The scored cases of each run, by its folder and number of starts."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a table is of.

    Attributes:
        command: The command line.
        plan: The plan.
        data: The images, by the base's recipe.
        jitter: Of the boxes.
        seed: Of boxes and bootstrap.
    """

    command: str
    plan: Plan
    data: DataRecipe
    jitter: float
    seed: int


def summarise(variants: Sequence[Variant], cases: Cases, seed: int) -> list[Row]:
    """Return a row per variant.

    Args:
        variants: In the order of the table; the first is the base.
        cases: Of every training, in the same order of images.
        seed: Seed of the bootstrap.

    Returns:
        Name, changes, the variant of which it is a copy, number of seeds and cases; over seeds and cases
        the interquartile mean of Dice and its difference from the base, each with its interval (see
        `usrl.evaluation.statistics.bootstrap_iqm`), the means of Dice, HD95 and, for agents, the Dice of
        starts, and the share of cases made worse; mean seconds of a training and of what it started from.
    """
    base = _dice(variants[0], cases)
    return [_summarise(variant, cases, base, seed) for variant in variants]


def _summarise(variant: Variant, cases: Cases, base: NDArray[np.float64], seed: int) -> Row:
    runs = [cases[key] for key in variant.scored]
    own = [case for run in runs for case in run]
    dice, groups = _dice(variant, cases), [case["group"] for case in runs[0]]
    owner = variant.trainings[0].variant
    row: Row = {"variant": variant.name, "changes": _describe(variant.changes)}
    is_own = owner == variant.name or variant.starts > 1
    row |= {"same_as": "" if is_own else owner, "seeds": len(runs), "cases": len(runs[0])}
    row |= _spread("dice_iqm", bootstrap_iqm(dice, groups, seed=seed))
    if variant.name != BASE:
        row |= _spread("difference", bootstrap_iqm(dice, groups, minus=base, seed=seed))
    averaged = [key for key in ("dice", "hd95_px", "hd95_mm", "initial_dice") if key in own[0]]
    row |= {key: float(np.mean([case[key] for case in own])) for key in averaged}
    if "initial_dice" in own[0]:
        row["worsened"] = float(np.mean([case["dice"] < case["initial_dice"] for case in own]))
    return row | {"seconds": float(np.mean([training_seconds(training) for training in variant.trainings]))}


def write_table(
    folder: Path, facts: Facts, rows: Sequence[Row], variants: Sequence[Variant], cases: Cases
) -> None:
    """Write ``ablation.md``, ``ablation.csv``, ``cases.csv`` and ``ablation.json``.

    Args:
        folder: Where to write.
        facts: What the table is of.
        rows: What `summarise` returned.
        variants: Of the rows.
        cases: Of every training.
    """
    versions = _read_versions(variants)
    results: dict[str, Any] = {
        "command": facts.command,
        "plan": facts.plan.model_dump(),
        "dataset": facts.data.name,
    }
    results |= {"jitter": facts.jitter, "seed": facts.seed, "versions": versions, "rows": list(rows)}
    write_atomically(folder / "ablation.json", json.dumps(results, indent=2, allow_nan=False).encode())
    write_atomically(folder / "ablation.csv", format_csv(rows))
    write_atomically(folder / "cases.csv", format_csv(_label_cases(variants, cases)))
    write_atomically(folder / "ablation.md", format_markdown(facts, rows, versions).encode())


def format_markdown(facts: Facts, rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """Return the table with how it was made, as Markdown."""
    unit = "mm" if "hd95_mm" in rows[0] else "px"
    heads = ["variant", "changes", "Dice (IQM)", "difference from base", "mean Dice", f"HD95 ({unit})"]
    heads += ["start Dice", "made worse", "training (s)"]
    lines = [heads, ["---"] * len(heads), *(_cells(row, unit) for row in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"```sh\n{facts.command}\n```\n\n{table}\n\n{_explain(facts, rows)}\n\n{made}.\n"


def _cells(row: Row, unit: str) -> list[str]:
    name = f"{row['variant']} (= {row['same_as']})" if row["same_as"] else row["variant"]
    changes = row["changes"].replace("|", "\\|")
    cells = [
        name,
        changes and f"`{changes}`",
        _interval(row, "dice_iqm", ""),
        _interval(row, "difference", "+"),
    ]
    cells += [f"{row['dice']:.3f}", f"{row[f'hd95_{unit}']:.{2 if unit == 'mm' else 1}f}"]
    cells += [f"{row['initial_dice']:.3f}" if "initial_dice" in row else ""]
    return [*cells, f"{row['worsened']:.0%}" if "worsened" in row else "", f"{row['seconds']:.0f}"]


def _interval(row: Row, key: str, sign: str) -> str:
    if key not in row:
        return ""
    mean, low, high = (format(row[name], f"{sign}.3f") for name in (key, f"{key}_low", f"{key}_high"))
    return f"{mean} [{low}, {high}]"


def _explain(facts: Facts, rows: Sequence[Row]) -> str:
    data, seeds = facts.data, facts.plan.seeds
    count = f" ({data.count} images)" if data.name == "phantom" else ""
    text = (
        f"{rows[0]['cases']} cases of {data.name}{count}, split `{facts.plan.split}` of `split_seed` "
        f"{data.split_seed}, seeds {', '.join(map(str, seeds))}; boxes jittered by {facts.jitter:.0%}, masks "
        "at native resolution. IQM: interquartile mean over seeds and cases, with 95% intervals from a "
        "bootstrap that draws runs and groups of cases; differences are paired over both. Seconds include "
        "those of the run that a variant starts from."
    )
    chosen = "Each run's weights are its best on this very split." if facts.plan.split == "val" else ""
    return f"{text} {chosen}".rstrip()


def _dice(variant: Variant, cases: Cases) -> NDArray[np.float64]:
    """Return Dice by run and case, (R, N)."""
    return np.array([[case["dice"] for case in cases[key]] for key in variant.scored])


def _spread(key: str, interval: Interval) -> dict[str, float]:
    return {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}


def _describe(changes: Mapping[str, Any]) -> str:
    """Return overrides on one line, as YAML's flow style has them."""
    return ", ".join(
        f"{key}: {json.dumps(value) if isinstance(value, dict) else value}" for key, value in changes.items()
    )


def _label_cases(variants: Sequence[Variant], cases: Cases) -> list[Case]:
    return [
        {"variant": variant.name, "seed": training.seed}
        | {key: value for key, value in case.items() if key != "method"}
        for variant in variants
        for training, key in zip(variant.trainings, variant.scored, strict=True)
        for case in cases[key]
    ]


def _read_versions(variants: Sequence[Variant]) -> dict[str, str]:
    """Return the versions that the runs were trained with, all of them if they differ."""
    found: dict[str, dict[str, None]] = {}
    for training in (training for variant in variants for training in variant.trainings):
        for link in training.chain():
            for name, version in Run(link.path, link.recipe).read_versions().items():
                found.setdefault(name, {})[version] = None
    return {name: " and ".join(each) for name, each in found.items()}
