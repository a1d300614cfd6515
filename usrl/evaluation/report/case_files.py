"""Scores of single images for others to compare with: a small CSV that can lie next to weights."""

import csv
from pathlib import Path

from usrl.errors import UserError
from usrl.evaluation.report.sheets import format_csv
from usrl.files import check_path, make_folder, write_atomically, writing_to

_DIGITS = 4
_LEFT_OUT = ("seconds",)
"""What another machine, or another day, would give otherwise."""


def check_free(path: Path) -> Path:
    """Return the path of a CSV that is not there yet.

    Raises:
        UserError: If the path is no ``.csv``, or something is there.
    """
    if path.suffix != ".csv":
        raise UserError(f"--cases wants a file that ends in .csv, got {path}")
    if check_path(path).exists():
        raise UserError(f"{path} is there already; choose another --cases, or move it away")
    return path


def publish_cases(report: Path, path: Path) -> None:
    """Write the ``cases.csv`` of a report's folder to a new file, without times and with four digits.

    Raises:
        UserError: As `check_free`, or if the file cannot be written.
    """
    with (report / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = [
            {key: _shorten(text) for key, text in row.items() if key not in _LEFT_OUT}
            for row in csv.DictReader(file)
        ]
    make_folder(check_free(path).parent)
    with writing_to(path.parent):
        write_atomically(path, format_csv(rows))


def _shorten(text: str) -> str:
    """Return a number with a point with fewer digits, and every other text as it is."""
    whole, point, _ = text.partition(".")
    try:
        return (
            repr(round(float(text), _DIGITS)).removesuffix(".0")
            if point and whole.lstrip("-").isdigit()
            else text
        )
    except ValueError:  # a name such as 3.a
        return text
