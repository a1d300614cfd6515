"""Tables as files: what a report shows, as CSV for programs and as LaTeX for papers."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A number as a table shows it."""

    value: float
    digits: int = 3  # after the point
    ends: tuple[float, float] | None = None  # of its 95% interval
    is_best: bool = False  # of its column

    def __str__(self) -> str:
        """Return the number, and its interval, which is a dash if it has no width."""
        text = f"{self.value:.{self.digits}f}"
        if self.ends is None:
            return text
        low, high = self.ends
        return f"{text} [—]" if low == high else f"{text} [{low:.{self.digits}f}, {high:.{self.digits}f}]"


Cell = str | Figure | None


class Sheet(NamedTuple):
    """A table of a report, with the name of its files."""

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def is_text(self, column: int) -> bool:
        """Return whether a column holds words."""
        return any(isinstance(row[column], str) for row in self.rows)


_LONG = 50
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "—": "---",
        "²": r"$^2$",
    }
    | {letter: f"\\{letter}" for letter in "#$%&_{}"}
)


def format_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as CSV with every column that any row has, in order of appearance.

    A text that a spreadsheet would run as a formula gets an apostrophe before it.
    """

    def disarm(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value.startswith(tuple("=+-@\t\r")) else value

    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: disarm(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def write_csv(sheet: Sheet) -> bytes:
    """Return a sheet as CSV with all digits; the ends of intervals have columns of their own."""
    rows: list[dict[str, Any]] = []
    for cells in sheet.rows:
        row: dict[str, Any] = {}
        for title, cell in zip(sheet.head, cells, strict=True):
            row[title] = cell.value if isinstance(cell, Figure) else cell
            if isinstance(cell, Figure) and cell.ends is not None:
                row |= {f"{title} low": cell.ends[0], f"{title} high": cell.ends[1]}
        rows.append(row)
    return format_csv(rows)


def write_latex(sheet: Sheet) -> bytes:
    r"""Return a sheet as a ``tabular`` of booktabs, or as a ``longtable`` if it fills more than a page."""
    kind = "longtable" if len(sheet.rows) > _LONG else "tabular"
    columns = "".join("l" if sheet.is_text(place) else "r" for place in range(len(sheet.head)))
    lines = [
        f"% {_one_line(sheet.title)}",
        rf"% \usepackage{{booktabs{',longtable' if kind == 'longtable' else ''}}}",
        rf"\begin{{{kind}}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_escape, sheet.head)) + r" \\",
        r"\midrule",
        *([r"\endhead"] if kind == "longtable" else []),
        *(" & ".join(_show(cell) for cell in row) + r" \\" for row in sheet.rows),
        r"\bottomrule",
        rf"\end{{{kind}}}",
    ]
    return "\n".join([*lines, ""]).encode()


def write_sheets(sheets: Sequence[Sheet]) -> dict[str, bytes]:
    """Return the files of sheets by their path in the report's folder."""
    files = {}
    for sheet in sheets:
        files[f"tables/{sheet.name}.csv"] = write_csv(sheet)
        files[f"tables/{sheet.name}.tex"] = write_latex(sheet)
    return files


def _show(cell: Cell) -> str:
    if cell is None:
        return ""
    text = _escape(str(cell))
    if isinstance(cell, Figure) and cell.is_best:
        number, _, interval = text.partition(" ")
        return f"\\textbf{{{number}}} {interval}".strip()
    return text


def _escape(text: str) -> str:
    """Return a text that LaTeX prints as it is.

    A bracket or star at the beginning of a row would belong to the end of the row before it.
    """
    escaped = _one_line(text).translate(_LATEX)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def _one_line(text: str) -> str:
    return " ".join(text.split())
