"""The report: one HTML file that needs no network, no script and no other file. It escapes every name."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from usrl.evaluation.figures import plot_curves, plot_dice, plot_risk
from usrl.evaluation.gallery import show_films, show_own_cases, show_shared_cases
from usrl.evaluation.summary import TRACKS, Comparison
from usrl.evaluation.tables import Column, Row, find_best, format_cell, list_columns


def format_report(comparison: Comparison) -> str:
    """Return the HTML page of a comparison."""
    title = f"Segmentation of {comparison.results['dataset']}, {comparison.results['split']}"
    sections = (
        _head, _tables, _tests, _distribution, _risk, show_shared_cases,
        show_own_cases, _curves, show_films, _negatives, _notes,
    )  # fmt: skip
    body = "".join(section(comparison) for section in sections)
    style = files("usrl.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _head(comparison: Comparison) -> str:
    results = comparison.results
    facts = {
        "data set": results["dataset"],
        "split": results["split"],
        "images with lesion": results["images"],
        "groups": results["groups"],
        "methods": len(comparison.methods),
        "date": results["date"].replace("T", " ").replace("+00:00", " UTC"),
        "seed": results["seed"],
        "box jitter": f"{results['jitter']:.0%}",
    }
    items = "".join(f"<div><dt>{key}</dt><dd>{escape(str(value))}</dd></div>" for key, value in facts.items())
    return (
        "<p class=soft>Every method is scored on the same images, at native resolution, by the same function."
        f"</p><dl class=facts>{items}</dl>"
    )


def _tables(comparison: Comparison) -> str:
    blurbs = {
        "prompted": "Given a jittered bounding box of each lesion. All methods get the same boxes.",
        "automatic": "Given the image alone. Not comparable with the prompted block.",
    }
    parts = ["<h2>Results</h2><p>Means over images; Dice with its 95% bootstrap interval over groups.</p>"]
    for track in TRACKS:
        rows = [row for row in comparison.results["rows"] if row["track"] == track]
        if rows:
            parts.append(f"<h3>{track.capitalize()}</h3><p class=soft>{blurbs[track]}</p>{_table(rows)}")
    return "".join(parts)


def _table(rows: list[Row]) -> str:
    columns = list_columns(rows)
    best = {column.key: find_best(rows, column) for column in columns}
    body = (
        [escape(row["method"]), *(_cell(row, column, best[column.key]) for column in columns)] for row in rows
    )
    head = (f'<span title="{escape(column.explain())}">{escape(column.title)}</span>' for column in columns)
    return _format_table(["method", *head], body)


def _format_table(head: Sequence[str], body: Iterable[Sequence[str]], names: int = 1) -> str:
    """Return a table of HTML cells; the first ``names`` columns are text, the others numbers."""

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = ["text" if index < names else "number" for index in range(len(cells))]
        return "".join(f"<{tag} class={kind}>{cell}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))

    rows = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in body)
    return (
        f"<div class=wide><table><thead><tr>{row(head, 'th')}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(row: Row, column: Column, best: set[str]) -> str:
    value, *interval = format_cell(row, column).split(" ", 1)
    text = f"<b>{escape(value)}</b>" if row["method"] in best else escape(value)
    return text + "".join(f" <span class=interval>{escape(part)}</span>" for part in interval)


def _tests(comparison: Comparison) -> str:
    tests = comparison.results["tests"]
    if not tests:
        return ""
    head = ("block", "first", "second", "first &minus; second", "p", "p (Holm)")
    body = (
        (
            test["track"],
            escape(test["first"]),
            escape(test["second"]),
            f"{test['difference']:+.3f}",
            *(
                ("—", "—")  # one difference has no distribution
                if test["groups"] == 1
                else (_p_value(test["p"]), _p_value(test["p_holm"], is_final=True))
            ),
        )
        for test in tests
    )
    return (
        "<h2>Paired tests</h2><p>Wilcoxon signed-rank tests of Dice on the means of groups, adjusted by "
        f"Holm's method within the block; bold below 0.05.{_warn_of_few(comparison.results['groups'])}</p>"
        f"{_format_table(head, body, names=3)}"
    )


def _warn_of_few(groups: int) -> str:
    """Return a warning if there are too few groups: their p-values cannot be below 2 / 2^groups."""
    least = 2.0 ** (1 - groups)
    if least < 0.05:
        return ""
    count = "one group" if groups == 1 else f"{groups} groups"
    return f" With {count} no p-value can be below {least:g}: use more images."


def _p_value(p: float, is_final: bool = False) -> str:
    text = "&lt; 0.001" if p < 0.001 else f"{p:.3f}"
    return f"<b>{text}</b>" if is_final and p < 0.05 else text


def _distribution(comparison: Comparison) -> str:
    parts = [
        "<h2>Dice of every image</h2><p>A point is an image; boxes span the quartiles, the bar is the "
        "median, the diamond the mean.</p>"
    ]
    for track in TRACKS:
        methods = (name for name, method in comparison.methods.items() if method.track == track)
        if scores := {name: list(comparison.scores(name).values()) for name in methods}:
            image = f'<img class=plot alt="Dice of {track} methods" src="{plot_dice(scores)}">'
            parts.append(f"<h3>{track.capitalize()}</h3>{image}")
    return "".join(parts)


def _risk(comparison: Comparison) -> str:
    risks = comparison.risks()
    if not risks:
        return ""
    body = (
        [escape(name), *(f"{area:.4f}" for area in (own.area, perfect.area, float(own.risk[-1])))]
        for name, (own, perfect) in risks.items()
    )
    table = _format_table(("method", "AURC", "perfect order", "random order"), body)
    return (
        "<h2>Risk over coverage</h2><p>The mean 1 &minus; Dice of the images that a method is surest of, "
        "from one image to all. The solid line follows its uncertainties, the dashed line the perfect order "
        "and the dotted line a random order. AURC is the area under the curve; lower is better. An "
        "uncertainty is worth what it takes off the area of the random order.</p>"
        f'<img class=plot alt="Risk over coverage" src="{plot_risk(risks)}">{table}'
    )


def _curves(comparison: Comparison) -> str:
    curves = {
        name: [row for row in rows if "seconds" in row and "val_score" in row]
        for name, rows in comparison.curves.items()
    }
    curves = {name: rows for name, rows in curves.items() if rows}
    if not curves:
        return ""
    uri = plot_curves(curves)
    return f'<h2>Learning curves</h2><img class=plot alt="Validation Dice over time" src="{uri}">'


def _negatives(comparison: Comparison) -> str:
    rows = comparison.results["negatives"]
    if not rows:
        return ""
    head = ("method", "n", "false detections", "share")
    body = (
        (
            escape(row["method"]),
            str(row["n"]),
            str(row["false_detections"]),
            f"{row['false_detection_share']:.0%}",
        )
        for row in rows
    )
    return (
        "<h2>Images without lesion</h2><p>Kept apart from the scores above: any mask here is a false "
        "detection. Prompted methods are left out, because there is nothing to draw a box around."
        f"</p>{_format_table(head, body)}"
    )


def _notes(comparison: Comparison) -> str:
    results = comparison.results
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    terms = {column.title: f"{column.explain()}." for column in list_columns(results["rows"])}
    terms["uncertainty"] = (
        "in cases.csv: for an agent 1 minus the mean Dice of the masks of its starts with their vote; for a "
        "network 1 minus the soft Dice of its probability with its mask."
    )
    items = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in terms.items())
    return f"<h2>Terms</h2><dl class=terms>{items}</dl><footer>{escape(versions)}</footer>"
