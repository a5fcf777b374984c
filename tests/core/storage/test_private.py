"""Folders and files that only their owner may read."""

import os
import stat
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.storage.private import private_file, private_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_modes(tmp_path: Path) -> None:
    """Whatever the process gives other files, nobody else can read these."""
    before = os.umask(0)
    try:
        folder = private_folder(tmp_path / "of" / "letters")
        private_file(folder / "file")
    finally:
        os.umask(before)

    assert (mode(folder), mode(folder / "file")) == (0o700, 0o600)


def test_what_is_there_stays(tmp_path: Path) -> None:
    """Neither content nor mode of what somebody made is changed."""
    tmp_path.chmod(0o750)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "file").chmod(0o640)
    private_folder(tmp_path)
    private_file(tmp_path / "file")

    assert (mode(tmp_path), mode(tmp_path / "file")) == (0o750, 0o640)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_no_folder(tmp_path: Path) -> None:
    """The error names the path and what to do."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"file is no folder; name one that is"):
        private_folder(tmp_path / "file")
    with pytest.raises(StorageError, match=r"below cannot be made: Not a directory; name one that can$"):
        private_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_no_file(tmp_path: Path, kind: str) -> None:
    """A link is not followed, and nobody waits for a pipe."""
    path = tmp_path / "file"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()

    with pytest.raises(StorageError, match=rf"{path} (cannot be written|is no file).* name another folder"):
        private_file(path)
    assert not (tmp_path / "elsewhere").exists()
