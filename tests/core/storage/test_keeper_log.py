"""How large the log of a spool may get, and when it is moved into the database."""

import sqlite3

import pytest

from producer_pool.storage import payloads
from producer_pool.storage import upkeep as module
from producer_pool.storage.database import Database
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from support.keeping import Clock, Disk, failure, numbers, put

MiB = 1024 * 1024


class Checkpoints:
    """Counts how often the log is moved into the database."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        whole = Database.checkpoint

        def counting(database: Database) -> int:
            self.count += 1
            return whole(database)

        patch.setattr(Database, "checkpoint", counting)


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    """Count them, with bounds for the log that are soon reached, and all payloads in it."""
    monkeypatch.setattr(payloads, "LARGE", 1 << 30)
    monkeypatch.setattr(module, "_LOG_BYTES", MiB)
    monkeypatch.setattr(module, "_LOG_MOST", 8 * MiB)
    return Checkpoints(monkeypatch)


def stream(keeper: Keeper, clock: Clock, first: int, count: int, *, behind: int) -> None:
    """Store messages of 100 kB, with a producer that is so many behind."""
    for number in range(first, first + count):
        assert put(keeper, number, 100_000)
        keeper.move("a", number - behind)
        keeper.tick(clock.now)


def test_what_is_soon_removed_stays_in_the_log(
    checkpoints: Checkpoints, keeper: Keeper, clock: Clock
) -> None:
    """Its pages are written again there: nothing of it is moved until the log is as large as it may be."""
    stream(keeper, clock, 1, 25, behind=2)
    assert checkpoints.count == 0

    stream(keeper, clock, 26, 60, behind=2)

    assert 1 <= checkpoints.count <= 3
    assert keeper.folder.wal.stat().st_size < 12 * MiB


def test_backlog_is_moved_bit_by_bit(checkpoints: Checkpoints, keeper: Keeper, clock: Clock) -> None:
    """The database never has to grow by more at once than is kept in reserve."""
    stream(keeper, clock, 1, 60, behind=60)

    assert checkpoints.count >= 4
    assert keeper.folder.wal.stat().st_size < 3 * MiB
    assert keeper.folder.database.stat().st_size > 4 * MiB


def test_log_stays_small_on_a_disk_that_has_little_room(
    checkpoints: Checkpoints, keeper: Keeper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others need is not taken by a log that could do with less."""
    monkeypatch.setattr(Folder, "room", lambda folder: module._ROOM - 1)

    stream(keeper, clock, 1, 60, behind=2)

    assert checkpoints.count >= 4
    assert keeper.folder.wal.stat().st_size < 3 * MiB


def test_full_disk_with_a_large_log(
    checkpoints: Checkpoints, keeper: Keeper, disk: Disk, clock: Clock
) -> None:
    """The log begins anew, so there is room in it: nothing is refused, and nothing is said."""
    stream(keeper, clock, 1, 25, behind=2)
    disk.fails("insert", failure(sqlite3.SQLITE_FULL))

    assert put(keeper, 26)
    assert keeper.trouble is None
    assert checkpoints.count == 1
    assert numbers(keeper)[-3:] == [24, 25, 26]


def test_full_disk_with_a_large_log_that_cannot_begin_anew(
    checkpoints: Checkpoints, keeper: Keeper, disk: Disk, clock: Clock
) -> None:
    """Then it is a full disk."""
    stream(keeper, clock, 1, 25, behind=2)
    disk.fails("insert", failure(sqlite3.SQLITE_FULL))
    disk.fails("checkpoint", failure(sqlite3.SQLITE_FULL))

    assert not put(keeper, 26)
    assert "is full" in (keeper.trouble or "")


def test_large_log_is_given_back(checkpoints: Checkpoints, keeper: Keeper, clock: Clock) -> None:
    """While nobody wants anything, it takes no more room than it needs."""
    stream(keeper, clock, 1, 25, behind=2)
    assert keeper.folder.wal.stat().st_size > MiB

    clock.now += module._IDLE
    keeper.tick(clock.now)

    assert keeper.folder.wal.stat().st_size == 0
    assert numbers(keeper)[-2:] == [24, 25]
