"""The report: one HTML file that needs no network, no script and no other file.

`report.html` is its template, over `base.html`. They escape every name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader

from usrl.evaluation.figures import plot_curves, plot_risk, plot_scores
from usrl.evaluation.gallery import LEGEND, show_films, show_own_cases, show_shared_cases
from usrl.evaluation.overlay import STYLES
from usrl.evaluation.summary import TRACKS, Comparison
from usrl.evaluation.tables import find_best, format_cell, list_columns


def format_report(comparison: Comparison) -> str:
    """Return the HTML page of a comparison."""
    results, risks, curves = comparison.results, comparison.risks(), list_curves(comparison.curves)
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
        least_p=2.0 ** (1 - results["groups"]),  # of a test with so few groups
        risks=risks,
        risk_plot=plot_risk(risks) if risks else "",
        shared=show_shared_cases(comparison),
        own=show_own_cases(comparison),
        films=show_films(comparison),
        curves_plot=plot_curves(curves, "Dice") if curves else "",
        terms={column.title: f"{column.explain()}." for column in list_columns(results["rows"])},
        format_cell=format_cell,
        legend=LEGEND,
        styles=STYLES,
    )


def render(template: str, **values: Any) -> str:
    """Return a page from a template in this folder."""
    loader = PackageLoader("usrl.evaluation", "")
    templates = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return templates.get_template(template).render(values)


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
