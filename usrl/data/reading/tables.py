"""Small tables that come with images, as CSV."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from usrl.errors import UserError
from usrl.files import check_path

_LONGEST = 255  # letters of a cell: no name of a file is longer
_INVISIBLE = "\ufeff\u200b\u2060"


def clean(text: str) -> str:
    """Return a name ready to compare: in Unicode's composed form (NFC), without spaces around it."""
    return unicodedata.normalize("NFC", text).strip().strip(_INVISIBLE).strip()


def read_rows(path: Path, header: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return line number and cleaned cells of every row of a CSV file; missing cells are empty.

    The file is UTF-8 text, and line 1 must be the header. Commas, semicolons or tabs separate cells. Cells
    may be quoted and have spaces around them. Empty lines are left out.
    """
    tables = _read_tables(path)
    fitting = [table for table in tables if table and table[0][1] == list(header)]
    if not fitting:
        found = ",".join(tables[0][0][1]) if tables[0] else ""
        raise UserError(f"{path}: the header must be {','.join(header)}, got {found[:200]!r}; fix line 1")
    for line, cells in fitting[0]:
        if max(map(len, cells)) > _LONGEST:
            raise UserError(f"{path}: line {line}: a cell has more than {_LONGEST} letters; shorten it")
        if any(cells[len(header) :]):
            raise UserError(
                f"{path}, line {line}: {len(header)} cells are wanted, got {len(cells)}; write decimal "
                "points, not commas, and quote texts with commas"
            )
    missing = [""] * len(header)
    return [(line, (cells + missing)[: len(header)]) for line, cells in fitting[0][1:]]


def read_header(path: Path) -> list[str]:
    """Return the cleaned cells of line 1 of a CSV file, whose separator is the one that it has most of."""
    try:
        with check_path(path).open("rb") as file:
            line = file.readline(1 << 16).decode("utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: line 1 cannot be read ({error}); save it as UTF-8 text") from None
    try:
        rows = _split(line, max(",;\t", key=line.count))
    except csv.Error as error:
        raise UserError(f"{path}: line 1 cannot be read as CSV ({error}); fix it") from None
    return rows[0][1] if rows else []


def format_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a CSV file that `read_rows` reads."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def read_columns(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return line number and cleaned cells of some columns of a CSV file with any others; see `read_rows`.

    Line 1 names the columns, in any order. Letters' case does not count.
    """
    tables = _read_tables(path)
    wanted = [column.lower() for column in columns]
    for table in tables:
        found = [cell.lower() for cell in table[0][1]] if table else []
        if all(found.count(column) == 1 for column in wanted):
            places = [found.index(column) for column in wanted]
            return [
                (line, [cells[place] if place < len(cells) else "" for place in places])
                for line, cells in table[1:]
            ]
    raise UserError(f"{path}: line 1 must name the columns {', '.join(columns)}, each once; restore the file")


def _read_tables(path: Path) -> list[list[tuple[int, list[str]]]]:
    """Return the rows of a CSV file by each delimiter that it may have."""
    try:
        text = check_path(path).read_bytes().decode("utf-8-sig")
        return [_split(text, delimiter) for delimiter in ",;\t"]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8 text") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a CSV file that is there, or restore it"
        ) from error


def _split(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty, with their numbers."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows = ((reader.line_num, [clean(cell) for cell in row]) for row in reader)
    return [(line, cells) for line, cells in rows if any(cells)]
