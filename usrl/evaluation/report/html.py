"""The report: one HTML file that needs no network and no other file.

`report.html` is its template, over `base.html`; `report.js` sorts, filters and opens its table of cases. They
escape every name. Each table is written as CSV and LaTeX too.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from usrl.evaluation.report.columns import find_best, format_cell, list_columns
from usrl.evaluation.report.figures import (
    COLORS,
    as_svg_uri,
    plot_curves,
    plot_panels,
    plot_risk,
    plot_scores,
    shorten,
)
from usrl.evaluation.report.gallery import LEGEND, Plates, describe_row, show_films
from usrl.evaluation.report.overlay import STYLES
from usrl.evaluation.report.papers import REVIEWED
from usrl.evaluation.report.sheets import Cell, Figure, Sheet
from usrl.evaluation.statistics.agreement import MEASURES, split_source
from usrl.evaluation.statistics.summary import TRACKS, Comparison, group_cases


def format_report(comparison: Comparison, sheets: Sequence[Sheet], figures: Mapping[str, bytes]) -> str:
    """Return the HTML page of a comparison, with its tables (see `list_sheets`) and figures, SVG by name."""
    results, risks, curves = comparison.results, comparison.risks(), list_curves(comparison.curves)
    plates = Plates(comparison)
    return render(
        "report.html",
        title=f"Segmentation of {results['dataset']}, {results['split']}",
        results=results,
        facts={
            "data set": results["dataset"],
            "split": results["split"],
            "images with lesion": results["images"],
            "groups": results["groups"],
            "methods": len(comparison.methods),
            "date": results["date"].replace("T", " ").replace("+00:00", " UTC"),
            "seed": results["seed"],
            "box jitter": f"{results['jitter']:.0%}",
        },
        blocks=_list_blocks(comparison),
        sheets={sheet.name: sheet for sheet in sheets},
        least_p=2.0 ** (1 - results["groups"]),  # of a test with so few groups
        figures={name: as_svg_uri(content) for name, content in figures.items()},
        risk_plot=plot_risk(risks) if risks else "",
        agreement_plots=_plot_agreements(comparison),
        plates=plates,
        galleries={
            "The same images for every method": (
                "Chosen by the mean Dice over methods, and of the others where the methods differ most; cut "
                "to what any method outlines.",
                plates.show_shared(),
            ),
            "Best, median and worst of each method": ("", plates.show_own()),
            "Failures": (
                "The images with the lowest Dice of each method, the worst first.",
                plates.show_failures(),
            ),
        },
        cases=_list_cases(comparison),
        told=_tell_cases(comparison, plates),
        films=show_films(comparison),
        curves_plot=plot_curves(curves, "Dice") if curves else "",
        terms={column.title: f"{column.explain()}." for column in list_columns(results["rows"])},
        format_cell=format_cell,
        legend=LEGEND,
        styles=STYLES,
        script=files("usrl.evaluation.report").joinpath("templates", "report.js").read_text(encoding="utf-8"),
    )


def list_sheets(comparison: Comparison) -> list[Sheet]:
    """Return every table of the report that has rows, for the page and as files."""
    results = comparison.results
    told = f"{results['dataset']}, {results['split']}"
    sheets = [_list_results(results, track, told) for track in TRACKS]
    sheets.append(
        Sheet(
            "tests",
            f"Paired tests of Dice, {told}",
            [
                *("block", "first", "second", "first - second", "p", "p (Holm)"),
                *("rank-biserial", "probability of improvement"),
            ],
            [
                [
                    *(test["track"], test["first"], test["second"]),
                    Figure(test["difference"], 3, (test["difference_low"], test["difference_high"])),
                    *(None if test["groups"] == 1 else Figure(test[key], 4) for key in ("p", "p_holm")),
                    Figure(test["rank_biserial"], 2),
                    Figure(test["improvement"], 2, (test["improvement_low"], test["improvement_high"])),
                ]
                for test in results["tests"]
            ],
        )
    )
    sheets += [_list_strata(results, sort, told) for sort in ("size", "class", "source")]
    sheets += [_list_agreement(results, measure, told) for measure in MEASURES]
    risks = comparison.risks().items()
    sheets.append(
        Sheet(
            "risk",
            f"Area under risk over coverage, {told}",
            ["method", "AURC", "perfect order", "random order"],
            [
                [name, *(Figure(v, 4) for v in (own.area, best.area, own.risk[-1]))]
                for name, (own, best) in risks
            ],
        )
    )
    sheets += [_list_costs(results, told), _list_reviewed(results, told)]
    sheets.append(
        Sheet(
            "negatives",
            f"Images without lesion, {told}",
            ["method", "n", "false detections", "share"],
            [
                [
                    *(row["method"], Figure(row["n"], 0), Figure(row["false_detections"], 0)),
                    Figure(row["false_detection_share"], 2),
                ]
                for row in results["negatives"]
            ],
        )
    )
    return [sheet for sheet in sheets if sheet.rows]


@cache
def _templates() -> Environment:
    loader = PackageLoader("usrl.evaluation.report")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def render(template: str, **values: Any) -> str:
    """Return a page from a template of `templates/`."""
    return _templates().get_template(template).render(values)


def _list_results(results: Mapping[str, Any], track: str, told: str) -> Sheet:
    rows = [row for row in results["rows"] if row["track"] == track]
    columns = list_columns(rows)
    best = {column.key: find_best(rows, column) for column in columns}

    def show(row: Mapping[str, Any], key: str, digits: int) -> Cell:
        if key not in row:
            return None
        ends = (row[f"{key}_low"], row[f"{key}_high"]) if f"{key}_low" in row else None
        return Figure(row[key], digits, ends, row["method"] in best[key])

    body = [[row["method"], *(show(row, column.key, column.digits) for column in columns)] for row in rows]
    head = ["method", *(column.title for column in columns)]
    return Sheet(f"results-{track}", f"Means over images, {track} methods, {told}", head, body)


def _list_strata(results: Mapping[str, Any], sort: str, told: str) -> Sheet:
    own = [row for row in results["strata"] if row["sort"] == sort]
    kinds = {row["kind"]: row["n"] for row in own}
    found = {
        (row["method"], row["kind"]): Figure(row["dice"], 3, (row["dice_low"], row["dice_high"]))
        for row in own
    }
    names = dict.fromkeys(row["method"] for row in own)
    body: list[list[Cell]] = [[name, *(found.get((name, kind)) for kind in kinds)] for name in names]
    head = ["method", *(f"{kind.partition(': ')[2] or kind} (n = {count})" for kind, count in kinds.items())]
    by = {"size": "by third of the target's area"}.get(sort, f"by {sort}")
    return Sheet(f"dice-by-{sort}", f"Dice {by}, {told}", head, body)


def _list_agreement(results: Mapping[str, Any], measure: str, told: str) -> Sheet:
    own = [row for row in results["agreement"] if row["measure"] == measure]
    digits = 0 if measure == "area_px2" else 1
    body: list[list[Cell]] = [
        [row["method"], Figure(row["n"], 0), *(Figure(row[key], digits) for key in ("bias", "low", "high"))]
        for row in own
    ]
    what = measure.partition("_")[0]
    head = ["method", "n", f"bias [{MEASURES[measure]}]", "lower limit", "upper limit"]
    return Sheet(f"agreement-{what}", f"Agreement of the {what} with the target's, {told}", head, body)


def _list_costs(results: Mapping[str, Any], told: str) -> Sheet:
    seconds = {
        row["method"]: row["seconds_per_image"] for row in results["rows"] if "seconds_per_image" in row
    }
    units = {"parameters": (1e6, 3), "flops": (1e9, 3), "peak_bytes": (2**20, 1)}
    body: list[list[Cell]] = [
        [
            row["method"],
            *(
                None if row[key] is None else Figure(row[key] / unit, digits)
                for key, (unit, digits) in units.items()
            ),
            Figure(seconds[row["method"]]),
            row["without"] or "",
        ]
        for row in results["costs"]
    ]
    head = ["method", "parameters [million]", "GFLOPs an image", "peak memory [MiB]", "s/image", "note"]
    return Sheet("costs", f"Costs of networks, {told}", head, body)


def _list_reviewed(results: Mapping[str, Any], told: str) -> Sheet:
    rows = {row["method"]: row for row in results["rows"]}
    networks = group_cases(results["costs"], "network")
    body: list[list[Cell]] = []
    for key, (name, paper) in REVIEWED.items():
        for method in (row["method"] for row in networks.get(key, ())):
            row = rows[method]
            dice = Figure(row["dice"], 3, (row["dice_low"], row["dice_high"]))
            body.append([name, paper, method, row["track"], dice])
    head = ["network", "paper", "method here", "block", "Dice, measured here"]
    return Sheet("networks", f"Networks of the review, {told}", head, body)


def _list_cases(comparison: Comparison) -> dict[str, Any]:
    """Return head, filters and rows of the table of cases."""
    unit = comparison.results["unit"]
    area = f"target_area_{unit}2"
    sizes = {
        f"HD95 [{unit}]": (f"hd95_{unit}", 1),
        "NSD": ("nsd", 3),
        f"area [{MEASURES[area[7:]]}]": (area, 0),
    }
    numbers = {"Dice": ("dice", 3)} | sizes
    places = {name: place for place, name in enumerate(comparison.samples)}
    labels = {
        "method": [case["method"] for case in comparison.cases],
        "class": [split_source(case["source"])[1] for case in comparison.cases],
        "source": [split_source(case["source"])[0] for case in comparison.cases],
        "group": [case["group"] for case in comparison.cases],
    }
    labels = {kind: values for kind, values in labels.items() if any(values)}
    rows = [
        {
            "place": places[case["case"]],
            "name": case["case"],
            "labels": own,
            "numbers": [f"{case[key]:.{digits}f}" if key in case else "" for key, digits in numbers.values()],
        }
        for case, own in zip(comparison.cases, zip(*labels.values(), strict=True), strict=True)
    ]
    choices = {
        kind: list(dict.fromkeys(labels[kind])) for kind in ("method", "class", "source") if kind in labels
    }
    return {
        "head": ["case", *labels, *numbers],
        "words": 1 + len(labels),
        "filters": {kind: values for kind, values in choices.items() if len(values) > 1},
        "rows": rows,
    }


def _tell_cases(comparison: Comparison, plates: Plates) -> dict[str, Any]:
    """Return what the page's script knows of cases and methods."""
    cases = []
    for image in plates.images:
        sample = comparison.samples[image["name"]]
        texts = [describe_row(comparison.row(method, sample.name)) for method in comparison.methods]
        about = f"{sample.source}, group {sample.group}"
        cases.append({"name": sample.name, "about": about, "frame": image["frame"], "texts": texts})
    methods = [{"name": name, "track": method.track} for name, method in comparison.methods.items()]
    return {"cases": cases, "methods": methods}


def _plot_agreements(comparison: Comparison) -> dict[str, str]:
    """Return a plot of Bland and Altman for each size, with a panel for each method."""
    plots = {}
    by_method = group_cases(comparison.cases, "method")
    for measure in MEASURES:
        rows = [row for row in comparison.results["agreement"] if row["measure"] == measure]
        if rows:
            draws = [partial(_draw_agreement, row, by_method[row["method"]]) for row in rows]
            what = measure.partition("_")[0]
            plots[what] = plot_panels(draws, legend=False)
    return plots


def _draw_agreement(row: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], axes: Axes) -> None:
    measure, unit = row["measure"], row["unit"]
    target = [case[f"target_{measure}"] for case in cases]
    found = [case[measure] for case in cases]
    means = [(a + b) / 2 for a, b in zip(found, target, strict=True)]
    axes.scatter(means, [a - b for a, b in zip(found, target, strict=True)], s=10, alpha=0.5, color=COLORS[0])
    axes.axhline(row["bias"], color=COLORS[1], linewidth=1.6)
    for limit in (row["low"], row["high"]):
        axes.axhline(limit, color=COLORS[1], linewidth=1.0, linestyle="dashed")
    axes.set_title(shorten(row["method"]), fontsize=10)
    axes.set(xlabel=f"mean of both [{unit}]", ylabel=f"method - target [{unit}]")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(EngFormatter(sep=""))  # 20k for 20,000


def _list_blocks(comparison: Comparison) -> list[dict[str, Any]]:
    """Return table and plot of the prompted and of the automatic methods, if there are any."""
    blocks = []
    for track in TRACKS:
        rows = [row for row in comparison.results["rows"] if row["track"] == track]
        names = [row["method"] for row in rows if row["method"] in comparison.methods or row.get("foreign")]
        if rows:
            columns = list_columns(rows)
            best = {column.key: find_best(rows, column) for column in columns}
            plot = plot_scores({name: list(comparison.scores(name).values()) for name in names}, "Dice")
            blocks.append({"track": track, "rows": rows, "columns": columns, "best": best, "plot": plot})
    return blocks


def list_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, list[Mapping[str, float]]]:
    """Return the rows of each log that have a point of a curve, without logs that have no such rows."""
    curves = {
        name: [row for row in rows if "seconds" in row and "val_score" in row] for name, rows in logs.items()
    }
    return {name: rows for name, rows in curves.items() if rows}
