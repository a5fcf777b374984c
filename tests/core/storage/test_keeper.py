"""What is done when the disk fails: nothing raises, what is wrong is said, and it goes on by itself."""

import errno
import math
import os
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from producer_pool.model.policies import Spool
from producer_pool.storage import backlogs, faults
from producer_pool.storage import keeper as keeping
from producer_pool.storage import upkeep as module
from producer_pool.storage.database import Database
from producer_pool.storage.faults import SyncFailed
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.positions import Position
from producer_pool.storage.state import read_state
from support.keeping import Clock, Disk, aside, failure, numbers, put, raiser

MiB = 1024 * 1024


def test_full_disk(keeper: Keeper, disk: Disk, clock: Clock) -> None:
    """What does not fit is refused at once, where producers are is still written, and room is noticed."""
    put(keeper, 1)
    keeper.move("a", 1)
    disk.fails("insert", failure(sqlite3.SQLITE_FULL))

    assert not put(keeper, 2)
    assert "is full" in (keeper.trouble or "")
    assert "make room, it goes on by itself" in (keeper.trouble or "")
    assert not keeper.folder.reserve.exists()
    assert keeper._upkeep.attempt(Database.positions) == {"a": Position(1)}
    assert not put(keeper, 3)  # without asking the disk
    clock.now += module.RETRY
    keeper.tick(clock.now)
    assert keeper.trouble is None
    assert keeper.folder.reserve.exists()
    assert put(keeper, 4)
    assert aside(keeper) == []
    assert numbers(keeper) == [4]


def test_full_for_longer(keeper: Keeper, disk: Disk, clock: Clock) -> None:
    """It is tried again every second, and no more often."""
    disk.fails("commit", failure(sqlite3.SQLITE_FULL), times=4)
    attempts = 0
    assert not put(keeper, 1)
    while keeper.trouble is not None:
        due = keeper.due()
        assert due is not None
        assert due - clock.now == pytest.approx(module.RETRY)
        clock.now = due
        keeper.tick(due)
        attempts += 1

    assert 2 <= attempts <= 4
    assert put(keeper, 2)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB])
def test_not_to_be_trusted(keeper: Keeper, disk: Disk, code: int) -> None:
    """A failed fsync is not tried again on that file: what is in it goes into a new one, the batch too."""
    for number in (1, 2):
        put(keeper, number, 100_000)
    disk.fails("commit", failure(code))

    assert put(keeper, 3)
    assert keeper.trouble is None
    assert numbers(keeper) == [1, 2, 3]
    assert aside(keeper) == ["spool.db.damaged-1"]


def test_commit_that_failed_and_is_there(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """What was written when fsync failed is found in the old log: it is there once, and nothing is gone."""
    put(keeper, 1)
    commit = Database.commit

    def failing(database: Database) -> None:
        monkeypatch.setattr(Database, "commit", commit)
        commit(database)
        raise failure(sqlite3.SQLITE_IOERR_FSYNC)

    monkeypatch.setattr(Database, "commit", failing)
    assert put(keeper, 2)
    assert put(keeper, 3)

    assert numbers(keeper) == [1, 2, 3]


def test_own_sync_fails(keeper: Keeper, disk: Disk, clock: Clock) -> None:
    """What was told to be stored is written once more, elsewhere."""
    put(keeper, 1)
    disk.fails("sync_log", SyncFailed(errno.EIO, "Input/output error"))
    clock.now += 0.5
    keeper.tick(clock.now)

    assert aside(keeper) == ["spool.db.damaged-1"]
    assert numbers(keeper) == [1]
    assert put(keeper, 2)


def test_log_cannot_be_opened_to_sync_it(
    keeper: Keeper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor, nothing is wrong with the database: it is opened again when there are some."""
    put(keeper, 1)
    with monkeypatch.context() as scarce:
        scarce.setattr(os, "open", raiser(OSError(errno.EMFILE, "Too many open files")))
        clock.now += 0.5
        keeper.tick(clock.now)
        assert "cannot be written (Too many open files)" in (keeper.trouble or "")
    clock.now += module.RETRY
    keeper.tick(clock.now)

    assert keeper.trouble is None
    assert aside(keeper) == []
    assert numbers(keeper) == [1]


def test_sync_fails_while_room_is_made(keeper: Keeper, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no less a failure for the disk being full: what was stored is written once more, elsewhere."""
    put(keeper, 1)
    monkeypatch.setattr(module, "_LOG_BYTES", 1)
    disk.fails("checkpoint", SyncFailed(errno.EIO, "Input/output error"))
    disk.fails("insert", failure(sqlite3.SQLITE_FULL))

    assert put(keeper, 2)
    assert aside(keeper) == ["spool.db.damaged-1"]
    assert numbers(keeper) == [1, 2]


def test_synced_in_time(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """With an interval, what was committed is synced when it is over, and nothing is synced in vain."""
    synced = []
    monkeypatch.setattr(Database, "sync_log", lambda database: synced.append(clock.now))
    began = clock.now
    put(keeper, 1)
    clock.now += 0.2
    put(keeper, 2)
    while (due := keeper.due()) is not None:
        clock.now = due
        keeper.tick(due)

    assert synced == [began + 0.5]


def test_telling_takes_long(keeper: Keeper, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large backlog needs to be counted, the thread has twenty times for what is asked of it."""
    whole = backlogs.shown_of

    def slow(*arguments: Any) -> dict[str, Any]:
        clock.now += 0.5
        return whole(*arguments)

    monkeypatch.setattr(keeping, "shown_of", slow)
    told = []
    for number in range(1, 4):
        put(keeper, number)
        due = keeper.due()
        while (shown := read_state(keeper.folder.state).shown["messages"]) != number:
            assert due is not None
            clock.now = max(clock.now, due)
            keeper.tick(clock.now)
            due = keeper.due()
        told.append((shown, clock.now))

    pauses = [later[1] - earlier[1] for earlier, later in pairwise(told)]
    assert pauses == pytest.approx([10.5, 10.5])


def test_lists_of_targets_are_known(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is for some only goes when they are done, and to find it nobody looks at all that is there."""
    asked = []
    whole = Database.target_lists

    def counted(database: Database) -> list[str]:
        asked.append(database)
        return whole(database)

    monkeypatch.setattr(Database, "target_lists", counted)
    keeper.join("b", 0)
    for number in range(1, 9):
        put(keeper, number, targets=("a",) if number % 2 else ("a", "b"))
        keeper.move("a", number)
    keeper.move_on()

    database = keeper._upkeep._database
    assert database is not None
    assert [columns[0] for columns in database.rows(0)] == [2, 4, 6, 8]
    keeper.move("b", 7)
    keeper.move_on()
    assert [columns[0] for columns in database.rows(0)] == [8]
    assert len(asked) == 1


def test_lists_of_targets_without_end(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of which nothing is left are forgotten."""
    monkeypatch.setattr(keeping, "_LISTS", 5)
    for number in range(1, 41):
        put(keeper, number, targets=("a", f"x{number}"))
        keeper.move("a", number)
        keeper.move_on()

        assert len(keeper._lists or ()) <= 8


def test_nothing_is_ever_too_old(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an age, the database is not asked what has it."""
    put(keeper, 1)
    with monkeypatch.context() as broken:
        broken.setattr(Database, "heads", raiser(AssertionError("it was asked")))

        assert keeper.skip("a", 0, None) == (0, 0, 0)


def test_disk_stays_full(keeper: Keeper, disk: Disk, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and not again for each KiB that others take or give back; then what else is wrong."""
    told = set()
    room = iter(range(100))
    monkeypatch.setattr(faults, "_room", lambda folder: f" ({next(room)} KiB free)")
    disk.fails("commit", failure(sqlite3.SQLITE_FULL), times=10)
    disk.fails("try_to_grow", failure(sqlite3.SQLITE_FULL), times=3)
    for number in range(1, 4):
        assert not put(keeper, number)
        clock.now += module.RETRY
        keeper.tick(clock.now)
        told.add(keeper.trouble)

    assert told == {f"the disk of {keeper.folder} is full (0 KiB free); make room, it goes on by itself"}
    disk.fails("try_to_grow", failure(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error"))
    clock.now += module.RETRY
    keeper.tick(clock.now)
    assert "cannot be written (disk I/O error)" in (keeper.trouble or "")


def test_cannot_be_written(keeper: Keeper, disk: Disk, clock: Clock) -> None:
    """The file is closed, and opened again until that works; nothing is set aside."""
    put(keeper, 1)
    disk.fails("commit", failure(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error"))

    assert not put(keeper, 2)
    assert keeper.read("a", 0, 100) is None
    assert "cannot be written (disk I/O error)" in (keeper.trouble or "")
    clock.now += module.RETRY
    keeper.tick(clock.now)
    assert keeper.trouble is None
    assert numbers(keeper) == [1]
    assert put(keeper, 3)
    assert aside(keeper) == []


def test_damage_is_found_when_reading(keeper: Keeper, disk: Disk) -> None:
    """The database is replaced, and the reading goes on in the new one."""
    for number in (1, 2):
        put(keeper, number)
    disk.fails("rows", failure(sqlite3.SQLITE_CORRUPT))

    assert numbers(keeper) == [1, 2]
    assert aside(keeper) == ["spool.db.damaged-1"]


def test_damage_without_end(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A disk that damages everything is given time between two databases, and not filled with them."""
    put(keeper, 1)
    commit = Database.commit

    def failing(database: Database) -> None:
        if database.path == keeper.folder.database:
            raise failure(sqlite3.SQLITE_CORRUPT)
        commit(database)

    with monkeypatch.context() as broken:
        broken.setattr(Database, "commit", failing)
        assert not put(keeper, 2)
        assert aside(keeper) == ["spool.db.damaged-1"]
        for _ in range(60):
            clock.now += 1
            keeper.tick(clock.now)
        assert keeper.trouble is not None
        assert len(aside(keeper)) == 8

    clock.now += module.AGAIN
    keeper.tick(clock.now)
    assert numbers(keeper)[0] == 1
    assert put(keeper, 3)


@pytest.mark.parametrize("rows, left", [(2, [1, 2, 5, 6]), (4, [1, 2])], ids=["in between", "to the end"])
def test_what_was_skipped_is_not_lost(tmp_path: Path, rows: int, left: list[int]) -> None:
    """After a restart, neither what lies there nor what was read counts it once more."""
    folder = Folder(tmp_path)
    keeper = Keeper(folder, Spool(tmp_path))
    keeper.join("a", 0)
    for number in range(1, 7):
        put(keeper, number)
    assert keeper.skip("a", 2, rows * 76) == (2 + rows, rows, rows * 76)
    keeper.close()

    keeper = Keeper(folder, Spool(tmp_path))
    assert keeper.backlog("a").messages == len(left)
    keeper.join("a", 6)
    assert numbers(keeper) == left
    # All in front of it is settled before what is behind is read.
    assert [one.number for one in (keeper.read("a", 0, 2 * 76) or ([],))[0]] == [1, 2]
    keeper.move("a", 2)
    assert numbers(keeper, after=2) == left[2:]
    keeper.close()


def test_what_all_are_done_with_is_not_lost(tmp_path: Path) -> None:
    """One producer goes on behind what another one, which still waits for what is older, has skipped."""
    keeper = Keeper(Folder(tmp_path), Spool(tmp_path))
    keeper.join("a", 0)
    keeper.join("b", 0)
    for number in range(1, 7):
        put(keeper, number)
    assert keeper.skip("b", 1, 2 * 76) == (3, 2, 2 * 76)
    assert keeper.skip("a", 0, 3 * 76) == (3, 3, 3 * 76)
    keeper.move_on()

    assert numbers(keeper, after=3) == [4, 5, 6]
    keeper.close()


def test_log_does_not_grow(keeper: Keeper, clock: Clock) -> None:
    """It is moved into the database from time to time, and begins anew."""
    for number in range(1, 60):
        put(keeper, number, MiB)
        keeper.tick(clock.now)

    assert keeper.folder.wal.stat().st_size < 14 * MiB


def test_state_is_told(keeper: Keeper, clock: Clock) -> None:
    """A second after something changed, those who look from outside can see it."""
    put(keeper, 1)
    put(keeper, 2)
    keeper.move("a", 1)
    keeper.move_on()
    clock.now += 1
    keeper.tick(clock.now)

    state = read_state(keeper.folder.state)
    shown = state.shown
    assert (shown["pid"], shown["messages"], shown["sync"], shown["trouble"]) == (os.getpid(), 1, 0.5, None)
    assert shown["producers"]["a"]["messages"] == 1
    assert shown["producers"]["a"]["joined"]
    assert state.positions["a"].number == 1
    assert state.ceiling > 2


def test_numbers_are_reserved_before_they_are_given(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """If that cannot be written down, nothing is stored: a number must not come again."""
    put(keeper, 1)
    monkeypatch.setattr(keeper._state_file, "write", raiser(OSError(errno.EIO, "Input/output error")))
    far = read_state(keeper.folder.state).ceiling + 1

    assert put(keeper, 2)
    assert not put(keeper, far)


def test_full_when_it_begins(tmp_path: Path, disk: Disk, clock: Clock) -> None:
    """A daemon begins on a full disk, too: it stores when there is room."""
    disk.fails("close", failure(sqlite3.SQLITE_FULL), times=2)
    keeper = Keeper(Folder(tmp_path), Spool(tmp_path, sync=math.inf))
    assert "is full" in (keeper.trouble or "")
    keeper.join("a", 0)
    assert not put(keeper, 1)
    for _ in range(3):
        clock.now += module.RETRY
        keeper.tick(clock.now)

    assert keeper.trouble is None
    assert put(keeper, 2)
    assert numbers(keeper) == [2]
    keeper.close()
