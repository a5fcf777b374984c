"""A spool in whose place another one lies, or has to be put: what was stored is not lost, and is said."""

import errno
import shutil
import sqlite3
from pathlib import Path

import pytest

from producer_pool.model.policies import Spool
from producer_pool.storage import folder as folders
from producer_pool.storage import upkeep as module
from producer_pool.storage.folder import Folder
from producer_pool.storage.inspecting import stored_in
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.state import read_state
from support.keeping import Clock, Disk, aside, failure, numbers, put, raiser


@pytest.mark.parametrize("how", ["removed", "moved", "its log is removed"])
def test_what_nobody_would_find_again(tmp_path: Path, clock: Clock, how: str) -> None:
    """Whoever has files open can write to them, wherever they are: that does not count as stored."""
    folder = Folder(tmp_path / "spool")
    folder.make()
    folder.lock()
    keeper = Keeper(folder, Spool(folder.path))
    keeper.join("a", 0)
    assert put(keeper, 1)
    if how == "removed":
        shutil.rmtree(folder.path)
    elif how == "moved":
        folder.path.rename(tmp_path / "elsewhere")
    else:
        folder.wal.unlink()

    assert not put(keeper, 2)
    assert "cannot be written" in (keeper.trouble or "")
    clock.now += module.RETRY
    keeper.tick(clock.now)

    assert keeper.trouble is None
    assert folder.in_use
    assert put(keeper, 3)
    keeper.close()
    folder.unlock()
    again = Keeper(folder, Spool(folder.path))
    again.join("a", 9)
    assert 3 in [one.number for one in (again.read("a", 2, 1 << 30) or ([],))[0]]
    assert read_state(folder.state).ceiling == 3
    again.close()


@pytest.mark.parametrize("what", ["the database", "its log", "both", "the folder"])
def test_another_spool_in_its_place(
    tmp_path: Path, clock: Clock, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """None of the one comes into the other: that is set aside, and this one goes on with what it knows."""
    folder, other = Folder(tmp_path / "spool"), Folder(tmp_path / "other")
    for one in (folder, other):
        one.make()
        one.lock()
    theirs = Keeper(other, Spool(other.path))
    theirs.join("theirs", 0)
    for number in range(1, 9):
        assert put(theirs, number, 600)
    theirs._upkeep._database.abandon()  # type: ignore[union-attr]  # as if killed: its log is there
    keeper = Keeper(folder, Spool(folder.path))
    keeper.join("a", 0)
    assert put(keeper, 1)
    if what == "the folder":
        folder.path.rename(tmp_path / "elsewhere")
        other.unlock()
        other.path.rename(folder.path)
    if what in ("the database", "both"):
        other.database.rename(folder.database)
    if what in ("its log", "both"):
        other.wal.rename(folder.wal)

    assert not put(keeper, 2)
    clock.now += module.RETRY
    keeper.tick(clock.now)

    assert keeper.trouble is None
    assert "files of another one were put into the place of its own" in caplog.text
    assert put(keeper, 3)
    found = (keeper.read("a", 0, 1 << 30) or ([],))[0]
    assert 3 in [one.number for one in found]
    assert max(one.batch.nbytes for one in found) < 100, "none of theirs"
    assert list(keeper.positions) == ["a"]
    keeper.close()
    if what in ("both", "the folder"):
        assert len(list(stored_in(folder.path / "spool.db.damaged-1"))) == 8, "theirs is as it was"


def test_another_spool_in_its_place_at_the_end(keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
    """To close this one does not remove the log of that one."""
    assert put(keeper, 1)
    keeper.folder.wal.unlink()
    keeper.folder.wal.write_bytes(b"theirs")

    keeper.close()

    assert (keeper.folder.path / "spool.db.damaged-1-wal").read_bytes() == b"theirs"
    assert "files of another one were put into the place of its own" in caplog.text


def test_no_new_one_can_be_made(
    keeper: Keeper, disk: Disk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one stays where it is, and the attempt is repeated."""
    put(keeper, 1)
    disk.fails("commit", failure(sqlite3.SQLITE_IOERR_FSYNC))
    with monkeypatch.context() as broken:
        broken.setattr(module, "replace_database", raiser(OSError(errno.EROFS, "Read-only file system")))

        assert not put(keeper, 2)
        assert "could not be replaced (Read-only file system)" in (keeper.trouble or "")
    clock.now += module.RETRY
    keeper.tick(clock.now)
    assert keeper.trouble is None
    assert numbers(keeper) == [1]
    assert aside(keeper) == ["spool.db.damaged-1"]


@pytest.mark.parametrize("fails", [1, 2, 3], ids=["ready", "set aside", "in its place"])
def test_new_one_cannot_be_put_into_its_place(
    keeper: Keeper, disk: Disk, clock: Clock, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """It is what the next attempt goes on with: where the old one was, there may be nothing any more."""
    for number in (1, 2):
        put(keeper, number)
    disk.fails("commit", failure(sqlite3.SQLITE_IOERR_FSYNC))
    whole = folders.sync_folder
    calls: list[Path] = []

    def failing(path: Path) -> None:
        calls.append(path)
        if len(calls) == fails:
            raise OSError(errno.EMFILE, "Too many open files")
        whole(path)

    monkeypatch.setattr(folders, "sync_folder", failing)
    assert not put(keeper, 3)
    for _ in range(4):
        clock.now += module.RETRY
        keeper.tick(clock.now)

    assert keeper.trouble is None
    assert put(keeper, 4)
    assert numbers(keeper) == [1, 2, 4]
