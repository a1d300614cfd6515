"""Folders to write into, and files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usrl.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by new content in one step: a reader or a kill sees the old or the new, whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise a `UserError` that names a folder where it cannot be written while the context lasts."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot write here ({error.strerror}); choose another --out") from None


def make_folder(path: Path) -> None:
    """Make a folder where there is none.

    Raises:
        UserError: If it cannot be made.
    """
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)


def make_empty_folder(path: Path | str) -> Path:
    """Return a new or empty folder.

    Raises:
        UserError: If there is something at the path, or it cannot be made.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} already holds something; choose another --out")
    make_folder(path)
    return path
