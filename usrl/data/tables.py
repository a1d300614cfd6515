"""Small tables that come with images, as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from usrl.errors import UserError

_BEYOND = "beyond the header"


def read_rows(path: Path, header: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Read a CSV file of a known header.

    Args:
        path: UTF-8 text, with or without a byte order mark.
        header: The columns that line 1 must name, in order.

    Returns:
        Line number and cells of every row; cells that a line leaves out are empty.

    Raises:
        UserError: If the file is absent, is no UTF-8 text or no CSV, or has another header, or a row holds
            something beyond it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey=_BEYOND, restval="")
            found = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8 text") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a CSV file that is there, or restore it"
        ) from error
    if found != list(header):
        raise UserError(f"{path}: the header must be {','.join(header)}, got {','.join(found)!r}; fix line 1")
    for line, row in rows:
        beyond = row.get(_BEYOND, ())
        if any(beyond):
            raise UserError(
                f"{path}, line {line}: {len(header)} cells are wanted, got {len(header) + len(beyond)}; "
                "write decimal points, not commas, and quote texts with commas"
            )
    return [(line, [row[column] for column in header]) for line, row in rows]
