"""Writes files whole or not at all, makes folders for them, and locks these folders."""

import errno
import os
import re
import secrets
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from usrl.errors import UserError, brief

_LEFTOVER = re.compile(
    r"\.[^.].*\.((csv|html|json|jsonl|md|png|safetensors|svg|tsv|yaml)\.[a-z0-9_]{4,8}|[0-9a-f]{8}\.mp4)"
)
"""Names of the temporary files of `write_atomically` and of clips, which a killed process leaves behind."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new. An `OSError` names the file."""
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


def check_path(path: Path) -> Path:
    """Return a path; refuse one that cannot be looked for: with a NUL, or a name of too many letters."""
    try:
        path.stat()
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{brief(str(path))} cannot be a path ({error.args[-1]}); correct it") from None
    return path


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a failure to write into a folder into a `UserError` that names the folder or its file."""
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
    """Make a folder if it is absent, and keep other processes from writing into it during this context.

    The lock ends with the process, however that ends. Temporary files of killed processes are removed.
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
            warnings.warn(f"{folder}: cannot be locked ({error.strerror}); write one at a time", stacklevel=3)
        for path in list(folder.iterdir()):
            if _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def list_names(folder: Path) -> set[str]:
    """Return the names in a folder, without those of temporary files."""
    return {path.name for path in folder.iterdir() if not _LEFTOVER.fullmatch(path.name)}


def make_folder(path: Path) -> None:
    """Make a folder if it is absent."""
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)


def make_empty_folder(path: Path | str) -> Path:
    """Return a new or empty folder; refuse a path that already holds something."""
    path = Path(path)
    check_empty(path)
    make_folder(path)
    return path


def check_empty(path: Path) -> None:
    """Raise if a path already holds something."""
    if path.exists() and (not path.is_dir() or list_names(path)):
        raise UserError(f"{path} already holds something; choose another --out")


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write new files, all or none: after a failure, such as a full disk, those written are removed."""
    written: list[Path] = []
    try:
        for path, content in contents.items():
            write_atomically(path, content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
