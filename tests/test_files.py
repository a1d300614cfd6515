import errno
import fcntl
import os
from pathlib import Path

import pytest

from usrl.errors import UserError
from usrl.files import locked, make_empty_folder, write_atomically


def test_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_a_new_folder_is_made_and_an_empty_one_taken(tmp_path: Path) -> None:
    assert make_empty_folder(tmp_path / "a" / "b") == make_empty_folder(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()


def test_what_holds_something_or_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=r"already holds something; choose another --out"):
            make_empty_folder(path)
    with pytest.raises(UserError, match=r"under: cannot write here \(Not a directory\)"):
        make_empty_folder(tmp_path / "notes.txt" / "under")


def test_a_folder_that_cannot_be_locked_is_written_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\)"),
        locked(tmp_path / "out"),
    ):
        assert (tmp_path / "out").is_dir()
