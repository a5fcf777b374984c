"""Payloads in files of their own: written one behind the other, read back, and begun anew."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_pool.storage import payloads as module
from producer_pool.storage.database import Database
from producer_pool.storage.faults import SyncFailed
from producer_pool.storage.record import Row, checked
from support.apart import FILE, put_apart, row, sizes, within


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    put_apart(monkeypatch)
    database = Database(tmp_path / "spool.db")
    database.payloads.keep(FILE)
    yield database
    database.abandon()


def store(database: Database, *rows: Row) -> list[Row]:
    """Store *rows*, and return them as they are in the database."""
    placed = database.put_payloads(rows)
    database.begin()
    database.insert(placed)
    database.commit()
    return placed


def remove(database: Database, upto: int) -> None:
    database.begin()
    database.delete([(-1, upto)])
    database.commit()


def read(database: Database) -> list[Row | None]:
    return [checked(columns) for columns in database.rows(0)]


def test_rows_come_back(database: Database, tmp_path: Path) -> None:
    """Large ones out of files, others out of the database; opened again, too."""
    rows = [row(1), row(2, 10), row(3, 30_000), row(4, 30_000), row(5, FILE)]
    placed = store(database, *rows)

    assert [one.place is not None for one in placed] == [True, False, True, True, False]
    assert [one and one._replace(place=None) for one in read(database)] == rows
    assert [columns[-2] for columns in database.heads(0, "a")] == [None] * 5
    assert sizes(tmp_path) == {0: FILE, 1: FILE}
    database.close()
    again = Database(tmp_path / "spool.db", new=False)
    again.payloads.keep(FILE)
    assert [one and one._replace(place=None) for one in read(again)] == rows
    remove(again, 5)
    again.close()
    assert sizes(tmp_path) == {}


def test_few_bytes_stay_in_the_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync of their own is not worth it for them."""
    monkeypatch.setattr(module, "WORTH_IT", 30_000)

    assert [one.place for one in store(database, row(1), row(2))] == [None, None]
    assert all(one.place for one in store(database, row(3), row(4), row(5)))


def test_begun_anew(database: Database, tmp_path: Path) -> None:
    """A stream that is read at once uses a few files in turn."""
    for number in range(1, 101):
        store(database, row(number, 20_000))
        remove(database, number - 2)
    assert len(sizes(tmp_path)) <= 4

    assert [one and one.number for one in read(database)] == [99, 100]


def test_not_before_it_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log is not synced each time, none is written over whose rows a power cut could bring back."""
    put_apart(monkeypatch)
    database = Database(tmp_path / "spool.db", 0.05)
    database.payloads.keep(FILE)
    for number in range(1, 10):
        store(database, row(number, 20_000))
        remove(database, number)
    written = {segment: within(tmp_path, segment) for segment in sizes(tmp_path)}
    assert sorted(number for numbers in written.values() for number in numbers) == list(range(1, 10))

    database.sync_log()
    store(database, row(10, 30_000))
    store(database, row(11, 30_000))

    assert len(sizes(tmp_path)) <= 5
    database.abandon()


def test_that_many_wait_is_reason_to_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is left to the system, files do not pile up either."""
    put_apart(monkeypatch)
    database = Database(tmp_path / "spool.db", 1000.0)
    database.payloads.keep(FILE)
    for number in range(1, 200):
        store(database, row(number, 30_000))
        remove(database, number)

    assert len(sizes(tmp_path)) <= 12
    database.abandon()


def test_rolled_back(database: Database, tmp_path: Path) -> None:
    """What was written for a transaction that failed is nobody's, and its file is used on."""
    placed = database.put_payloads([row(1)])
    database.begin()
    database.insert(placed)
    database.rollback()
    store(database, row(1))
    remove(database, 1)
    database.give_back()

    assert sizes(tmp_path) == {}


def test_the_same_again(database: Database, tmp_path: Path) -> None:
    """A number that is there stays what it is, and the other one's payload keeps no file."""
    store(database, row(1))
    store(database, row(1))
    remove(database, 1)
    database.give_back()

    assert sizes(tmp_path) == {}


def test_short_writes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes less than it was asked to is asked again."""
    whole = os.pwritev
    monkeypatch.setattr(
        os, "pwritev", lambda fd, pieces, offset: whole(fd, [b"".join(pieces)[:5000]], offset)
    )
    store(database, row(1, 20_000), row(2, 20_000))

    assert [one and one.number for one in read(database)] == [1, 2]


def test_no_room_for_a_file(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may have some; and nothing is left of the attempt."""

    def full(fd: int, nbytes: int) -> None:
        os.pwrite(fd, b"x", 0)
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(module, "allocate", full)
        patch.setattr(module, "_PATIENCE", 1e9)
        assert store(database, row(1))[0].place is None
    assert sizes(tmp_path) == {}
    assert store(database, row(2))[0].place is None  # It is not asked for one again at once.
    monkeypatch.setattr(module, "_PATIENCE", 0)
    database.payloads._not_before = 0
    assert store(database, row(3))[0].place is not None


def test_sync_fails(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said which files are not to be trusted, and none is said to be synced after that."""
    store(database, row(1))

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "it failed")

    with monkeypatch.context() as patch:
        patch.setattr(module, "sync_data", fail)
        with pytest.raises(SyncFailed):
            database.put_payloads([row(2)])
    assert database.payloads.distrusted == {0}
    with pytest.raises(SyncFailed):
        database.put_payloads([row(2)])


@pytest.mark.parametrize("how", ["removed", "replaced", "moved"])
def test_place(database: Database, tmp_path: Path, how: str) -> None:
    """Nothing is stored in a file that cannot be found again."""
    store(database, row(1))
    path = tmp_path / "payload-0"
    if how == "moved":
        path.rename(tmp_path / "elsewhere")
    else:
        path.unlink()
    if how == "replaced":
        path.write_bytes(bytes(FILE))

    with pytest.raises(FileNotFoundError):
        database.put_payloads([row(2)])


def test_gone(database: Database, tmp_path: Path) -> None:
    """What is in a file that is not there is lost; with the database gone, too, it may come back."""
    store(database, row(1, 30_000))
    store(database, row(2, 30_000))
    database.payloads.seal()
    (tmp_path / "payload-0").unlink()
    assert [one and one.number for one in read(database)] == [None, None]

    (tmp_path / "spool.db").rename(tmp_path / "elsewhere")

    with pytest.raises(FileNotFoundError):
        read(database)


def test_error_of_reading(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read for good is lost; what cannot be read now is not."""
    store(database, row(1))
    number = [errno.EIO]

    def failing(*arguments: Any) -> bytes:
        raise OSError(number[0], "it failed")

    monkeypatch.setattr(os, "pread", failing)
    assert read(database) == [None]
    number[0] = errno.ENOMEM
    with pytest.raises(OSError, match="it failed"):
        read(database)


def test_descriptors(database: Database, tmp_path: Path) -> None:
    """However many files there are, few of them are open, and none is when it is closed."""
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    for number in range(1, 31):
        store(database, row(number, 30_000))
        database.payloads.seal()
    assert len(read(database)) == len(sizes(tmp_path)) == 30
    now = set(os.listdir("/proc/self/fd")) if before else before
    assert len(now - before) <= 8
