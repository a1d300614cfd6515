"""Files that are written whole or not at all, folders to write into, and locks on them."""

import os
import re
import secrets
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from usrl.errors import UserError

_LEFTOVER = re.compile(r"\.[^.].*\.(csv|html|json|jsonl|md|png|safetensors|tsv|yaml)\.[a-z0-9_]{4,8}")
"""Names of the temporary files of `write_atomically`, which a kill leaves behind."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by new content in one step: a reader or a kill sees the old or the new, whole.

    Raises:
        OSError: If the file cannot be written, such as on a full disk; it names the file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise a `UserError` that names a folder, or a file in it, that cannot be written in this context."""
    try:
        yield
    except OSError as error:
        named, own = Path(str(error.filename or folder)).absolute(), folder.absolute()
        if not (named.is_relative_to(own) or own.is_relative_to(named)):
            raise  # of a file to read
        told = f"cannot write here ({error.strerror or error}); choose another --out"
        raise UserError(f"{error.filename or folder}: {told}") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder, which is made if absent, during this context.

    The lock ends with the process, however that ends. Temporary files of a killed process are removed.

    Raises:
        UserError: If another process holds the lock, or the folder cannot be made.
    """
    make_folder(folder)
    if sys.platform == "win32":  # which has no such locks
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process is writing here; wait until it ends, or choose another --out"
            ) from None
        except OSError as error:  # a file system without locks
            warnings.warn(
                f"{folder}: cannot be locked ({error.strerror}); write here once at a time", stacklevel=3
            )
        remove_leftovers(folder)
        yield
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes have left of files that they were writing."""
    for path in list(folder.iterdir()):
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def list_names(folder: Path) -> set[str]:
    """Return the names in a folder, without those of temporary files."""
    return {path.name for path in folder.iterdir() if not _LEFTOVER.fullmatch(path.name)}


def make_folder(path: Path) -> None:
    """Make a folder if there is none.

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
    if path.exists() and (not path.is_dir() or list_names(path)):
        raise UserError(f"{path} already holds something; choose another --out")
    make_folder(path)
    return path


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write new files, all or none: a failure, such as a full disk, removes those already written."""
    written: list[Path] = []
    try:
        for path, content in contents.items():
            write_atomically(path, content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
