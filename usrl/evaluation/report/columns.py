"""The table of results: its columns, and how they look in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from usrl.evaluation.statistics.summary import TRACKS
from usrl.metrics.detection import FOUND_IOU
from usrl.metrics.surface import BAND, HD95_DEFINITION, NSD_TOLERANCE

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of the table."""

    key: str  # of the row in ``results.json``
    title: str  # with the unit
    meaning: str
    digits: int = 3  # after the point
    best: int = 1  # +1 if higher is better, -1 if lower is better, 0 if neither
    brief: str = ""  # heading in a terminal, which has no room for the columns without one

    def explain(self) -> str:
        """Return the meaning, and which direction is better, if any."""
        return self.meaning + {1: "; higher is better", 0: "", -1: "; lower is better"}[self.best]


_FILE_WIDTH = 120
_MISSED = "images without a prediction: their Dice is 0, their distances the diagonal of the image"
_DICE = (
    "overlap of pixels, also known as F1; in brackets the 95% interval over groups, or a dash if there is "
    "only one group"
)
_NSD = (
    f"normalised surface Dice: share of both boundaries within {NSD_TOLERANCE['px']:g} px of each other, "
    f"{NSD_TOLERANCE['mm']:g} mm if distances are in mm"
)
_BAND = (
    "intersection over union of the bands inside both boundaries, whose width is "
    f"{BAND:.0%} of the diagonal of the image"
)
_DETECTED = (
    f"detection rate: share of the lesions for which one region has an IoU above {FOUND_IOU:g}; per image, "
    "then averaged"
)
_HC = "difference of the circumferences of the ellipse that fits the mask and of the data set's table"
_IQM = "interquartile mean of Dice over several runs and all images; its interval is in results.json"
_EXTERNAL = "mean Dice on the images of another data set"
_DROP = (
    "Dice here less Dice on the images of another data set; in brackets the 95% interval, over groups of both"
)
_INITIAL = "Dice of the proposal that an agent starts from"
_WORSENED = "share of images where an agent ends below its proposal"
_CEILING = "ceiling: Dice that a teacher, who sees the target, reaches from the same proposal"
_COLUMNS = (
    Column("n", "n", "images with a lesion", 0, 0, "n"),
    Column("missed", "missed", _MISSED, 0, -1, "missed"),
    Column("dice", "Dice", _DICE, 3, 1, "Dice [95%]"),
    Column("dice_iqm", "Dice IQM", _IQM),
    Column("external_dice", "external Dice", _EXTERNAL),
    Column("drop", "drop", _DROP, 3, -1, "drop [95%]"),
    Column("initial_dice", "initial Dice", _INITIAL, 3, 0, "initial\nDice"),
    Column("oracle_dice", "oracle Dice", _CEILING, 3, 0, "oracle\nDice"),
    Column("worsened", "worsened", _WORSENED, 3, -1, "worse"),
    Column("iou", "IoU", "intersection over union of pixels (Jaccard)"),
    Column("sensitivity", "sens.", "sensitivity, or recall: share of the target that is found"),
    Column("precision", "prec.", "precision: share of the prediction that is right"),
    Column("specificity", "spec.", "specificity: share of the background that is left alone"),
    Column("accuracy", "acc.", "accuracy: share of all pixels that are right, most of them background"),
    Column("mae", "MAE", "mean absolute error of the pixels, 1 - accuracy", 3, -1),
    *(
        Column(f"{key}_{unit}", f"{title} [{unit}]", f"{meaning} between the boundaries", digits, -1, brief)
        for unit in ("px", "mm")
        for key, title, meaning, digits, brief in (
            ("hd", "HD", "Hausdorff: largest distance", 1, ""),
            ("hd95", "HD95", f"95th percentile of the distances ({HD95_DEFINITION})", 1, f"HD95\n[{unit}]"),
            ("asd", "ASD", "average surface distance, from the prediction to the target", 2, ""),
            ("assd", "ASSD", "average symmetric surface distance", 2, ""),
        )
    ),
    Column("nsd", "NSD", _NSD),
    Column("boundary_iou", "boundary IoU", _BAND),
    Column("area_error", "area error", "difference of the areas as a share of the target's", 3, -1),
    Column("detected", "detected", _DETECTED),
    Column("circumference_error_mm", "HC error [mm]", _HC, 2, -1, "HC err.\n[mm]"),
    Column("seconds_per_image", "s/image", "median seconds per image", 3, 0),
)


def list_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that any of the rows fills, in order."""
    return [column for column in _COLUMNS if any(column.key in row for row in rows)]


def format_cell(row: Row, column: Column) -> str:
    """Return the text of a cell: empty if it does not apply, and Dice and drop with their 95% intervals.

    A dash replaces an interval without width, which images of a single group give.
    """
    if column.key not in row:
        return ""
    text = f"{row[column.key]:.{column.digits}f}"
    if column.key in ("dice", "drop"):
        low, high = row[f"{column.key}_low"], row[f"{column.key}_high"]
        return f"{text} [—]" if low == high else f"{text} [{low:.3f}, {high:.3f}]"
    return f"{100 * row[column.key]:.0f}%" if column.key == "worsened" else text


def find_best(rows: list[Row], column: Column) -> set[str]:
    """Return the methods of a block with the best value of a column, rounded as in the table.

    The set is empty if all tie, or no direction is better. Ceilings see the target and do not compete.
    """
    own = [row for row in rows if column.key in row and not row.get("ceiling")]
    values = {row["method"]: column.best * round(row[column.key], column.digits) for row in own}
    if not column.best or len(set(values.values())) < 2:
        return set()
    return {method for method, value in values.items() if value == max(values.values())}


def print_results(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the rows of ``results.json`` as two blocks, prompted and automatic, with the best in bold.

    The columns are those that fit a terminal. ``results.json`` and the report have the others.
    """
    console = console or _open_console()
    for track in TRACKS:
        rows = [row for row in results["rows"] if row["track"] == track]
        if not rows:
            continue
        title = f"{track}: {results['dataset']}, {results['split']}"
        table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("method", overflow="fold")
        columns = [column for column in list_columns(rows) if column.brief]
        for column in columns:
            table.add_column(escape(column.brief), justify="right", no_wrap=True)
        best = {column.key: find_best(rows, column) for column in columns}
        for row in rows:
            texts = {column.key: escape(format_cell(row, column)) for column in columns}
            marked = (f"[bold]{t}[/bold]" if row["method"] in best[key] else t for key, t in texts.items())
            table.add_row(escape(row["method"]), *marked)
        console.print(table)
    for row in results["negatives"]:
        found = f"{row['false_detections']} of {row['n']}"
        console.print(f"{row['method']}: false detections in {found} images without lesion", markup=False)


def tabulate_figures(
    rows: Sequence[Mapping[str, Any]], what: str, tested: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of a table of methods, which the head calls ``what``, from their figures' rows.

    The rows are those of `usrl.evaluation.statistics.summary.summarise_figures`. What tests compare comes
    first and has its interval.
    """
    known = list(dict.fromkeys(key for row in rows for key in row if f"{key}_low" in row))
    names = [name for name in tested if name in known] + [name for name in known if name not in tested]

    def show(row: Mapping[str, Any], name: str) -> str:
        if name not in row:
            return ""
        ends = f" [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]" if name in tested else ""
        return f"{row[name]:.3f}{ends}"

    body = [[row["method"], *(show(row, name) for name in names)] for row in rows]
    return [what, *(f"{name} [95%]" if name in tested else name for name in names)], body


def print_figures(
    results: Mapping[str, Any], what: str, tested: Sequence[str], console: Console | None = None
) -> None:
    """Print the rows of `tabulate_figures`. What there is more of, figures or methods, goes down the page."""
    title = f"{results['dataset']}, {results['split']}"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    head, body = tabulate_figures(results["rows"], what, tested)
    lines = [head, *body]
    if len(body) < len(head):
        lines = [list(line) for line in zip(["figure", *head[1:]], *body, strict=True)]
    first, *others = lines[0]
    table.add_column(escape(first), overflow="fold")
    for name in others:
        table.add_column(escape(name), justify="right", overflow="fold")
    for cells in lines[1:]:
        table.add_row(*map(escape, cells))
    (console or _open_console()).print(table)


def _open_console() -> Console:
    """Return the console of standard output. A file is as wide as its lines."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    return console
