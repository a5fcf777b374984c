"""Whether a folder could be used, without a change to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.model.policies import Spool
from producer_pool.storage.database import FORMAT, Database
from producer_pool.storage.dead_letters import FILE, LetterFile
from producer_pool.storage.folder import Folder
from producer_pool.storage.looking import look_at_letters, look_at_spool
from producer_pool.storage.spool import SpoolStore
from support.rights import without_rights
from support.waiting import BOUND


def seen(folder: Path) -> dict[str, bytes]:
    """Return all that lies in *folder*."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def newer(folder: Path) -> None:
    """Make a spool of a version that is to come."""
    folder.mkdir()
    database = Database(folder / "spool.db")
    database.set_meta("format", FORMAT + 1)
    database._connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.close()


def blocked(folder: Path, name: str) -> None:
    """Put a link where a file of ours belongs."""
    folder.mkdir()
    (folder / name).symlink_to("elsewhere")


def test_what_is_not_there_yet(tmp_path: Path) -> None:
    """It can be made, and is not."""
    assert look_at_spool(tmp_path / "a" / "b") is None
    look_at_letters(tmp_path / "a" / "b")

    assert list(tmp_path.iterdir()) == []


def test_what_is_there(tmp_path: Path) -> None:
    """It stays as it is, byte by byte."""
    newest = Database(tmp_path / "spool.db")
    newest.close()
    LetterFile(tmp_path).make()
    before = seen(tmp_path)

    assert look_at_spool(tmp_path) is None
    look_at_letters(tmp_path)
    assert seen(tmp_path) == before


def test_in_use(tmp_path: Path) -> None:
    """The process is named, and keeps what it has."""
    folder = Folder(tmp_path)
    folder.lock()
    try:
        assert look_at_spool(tmp_path) == os.getpid()
        assert folder.in_use
    finally:
        folder.unlock()


@pytest.mark.parametrize("kind", ["file", "below a file", "spool.db is a link", "newer"])
def test_refused_as_by_who_starts_with_it(kind: str, tmp_path: Path) -> None:
    """Whatever looking refuses, so does opening, and nothing else."""
    folder = tmp_path / "folder"
    if kind == "newer":
        newer(folder)
    elif kind == "spool.db is a link":
        blocked(folder, "spool.db")
    else:
        folder.touch()
    path = folder / "below" if kind == "below a file" else folder
    before = seen(tmp_path)

    with pytest.raises(StorageError):
        look_at_spool(path)
    assert seen(tmp_path) == before
    with pytest.raises(StorageError) as raised:
        SpoolStore(Spool(path)).open()
    assert not raised.value.passing


@pytest.mark.parametrize("kind", ["file", "below a file", "its file is a link"])
def test_letters_are_refused_alike(kind: str, tmp_path: Path) -> None:
    """So it is with dead letters."""
    folder = tmp_path / "folder"
    if kind == "its file is a link":
        blocked(folder, FILE)
    else:
        folder.touch()
    path = folder / "below" if kind == "below a file" else folder

    with pytest.raises(StorageError):
        look_at_letters(path)
    with pytest.raises(StorageError):
        LetterFile(path).make()


LOOK = """
import sys
from pathlib import Path
from producer_pool.model.errors import StorageError
from producer_pool.storage.looking import look_at_spool

for path in sys.argv[1:]:
    try:
        print("usable:", look_at_spool(Path(path)))
    except StorageError as error:
        print(error)
"""


def test_no_right(tmp_path: Path) -> None:
    """A folder in which nothing can be written is none for messages."""
    paths = [str(tmp_path), str(tmp_path / "below")]
    tmp_path.chmod(0o500)
    try:
        call = without_rights([sys.executable, "-c", LOOK, *paths])
        said = subprocess.run(call, capture_output=True, check=True, text=True, timeout=BOUND).stdout
    finally:
        tmp_path.chmod(0o700)

    assert [
        (path in line, "cannot be written" in line)
        for path, line in zip(paths, said.splitlines(), strict=True)
    ] == [
        (True, True),
        (True, True),
    ]
