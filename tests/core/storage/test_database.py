"""The database: its marks, its end without a trace, and what it says of itself."""

import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.errors import StorageError
from producer_pool.model.stored import stored_size
from producer_pool.storage.database import FORMAT, PAGE, Database
from producer_pool.storage.positions import Position
from producer_pool.storage.record import Pending, Row, checked, row_of, targets_text
from support.spools import flip


def rows(*numbers: int, targets: str | None = None, size: int = 10) -> list[Row]:
    made = []
    for total, number in enumerate(numbers):
        batch = Batch.of([bytes([number]) * size])
        pending = Pending(number, batch.form, 1, stored_size(batch), targets, "", 0.0)
        made.append(row_of([pending], total, 0, 1, 0.0))
    return made


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "spool.db")
    yield database
    database.abandon()


def put(database: Database, made: list[Row]) -> None:
    database.begin()
    database.insert(made)
    database.commit()


def test_rows_come_back(database: Database) -> None:
    """In the order of their numbers, as they were; a number that is there stays what it is."""
    made = rows(1, 2, 3, size=100_000)
    put(database, made)
    put(database, [made[1]._replace(payload=b"another")])

    assert [checked(columns) for columns in database.rows(1)] == made[1:]
    assert [columns[-1] for columns in database.heads(0, "a")] == [None] * 3
    assert (database.last(), database.count(), database.messages()) == (3, 3, 3)


def test_rows_for_one(database: Database) -> None:
    """A name that is part of another one, or of its quotes, is not taken for it."""
    put(database, rows(1))
    put(database, rows(2, targets=targets_text(("ab", 'x"a'))))
    put(database, rows(3, targets=targets_text(("a",))))

    assert [columns[0] for columns in database.rows(0, "a")] == [1, 3]
    assert [columns[0] for columns in database.heads(0, "a")] == [1, 3]
    assert database.targeted("a", (0, 99)) == (1, stored_size(Batch.of([b"x" * 10])), 3)


def test_abandoning_changes_nothing(database: Database) -> None:
    """Neither file is written when it is let go of: the log may be what is damaged."""
    put(database, rows(1, 2, size=50_000))
    files = [database.path, Path(f"{database.path}-wal")]
    before = [file.read_bytes() for file in files]
    database.abandon()

    assert [file.read_bytes() for file in files] == before
    assert len(before[1]) > 100_000


def test_closing_empties_the_log(database: Database) -> None:
    """All is in one file then."""
    put(database, rows(1, 2))
    database.close()

    assert not Path(f"{database.path}-wal").exists()
    again = Database(database.path)
    assert again.last() == 2
    again.close()


def test_positions(database: Database) -> None:
    """They are kept, changed and removed, whatever producers are called."""
    database.set_positions({"a": Position(5, [(7, 9)]), "at:b": Position(1, until=3), "'": Position(0)})
    database.set_positions({"a": Position(6), "'": None})

    assert database.positions() == {"a": Position(6), "at:b": Position(1, until=3)}


@pytest.mark.parametrize("version", [FORMAT + 1, 1000])
def test_newer_version(database: Database, version: int) -> None:
    """It is refused, with both versions and the next step, and not taken for damage."""
    database.set_meta("format", version)
    database._connection.execute(f"PRAGMA user_version = {version}")
    database.close()

    with pytest.raises(
        StorageError, match=f"format version {version}, and this .* knows {FORMAT}; use the ver"
    ):
        Database(database.path)


def test_damage_is_no_newer_version(database: Database) -> None:
    """One changed byte of the version in the header does not look like the future."""
    database.close()
    flip(database.path, 60)

    with pytest.raises(sqlite3.DatabaseError, match="it is no spool"):
        Database(database.path)


def test_database_of_somebody_else(tmp_path: Path) -> None:
    """It is not written to."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()

    with pytest.raises(sqlite3.DatabaseError, match="it is no spool"):
        Database(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_quick_check(database: Database) -> None:
    """Pages that do not fit together are seen; and it ends in time, however much there is."""
    put(database, rows(*range(1, 200), size=3000))
    assert database.quick_check(60)
    assert database.quick_check(0.0)
    database.close()
    with database.path.open("r+b") as file:
        file.seek(5 * PAGE)
        file.write(os.urandom(200))

    again = Database(database.path)
    assert not again.quick_check(60)
    again.abandon()


def test_page_size_is_what_raw_reading_takes_for_granted(database: Database) -> None:
    """The header says so."""
    database.close()

    assert struct.unpack_from(">H", database.path.read_bytes(), 16)[0] == PAGE


def test_shrinking(database: Database) -> None:
    """Room that is free goes back to the system."""
    put(database, rows(*range(1, 100), size=100_000))
    database.begin()
    database.delete([(0, 98)])
    database.commit()
    assert database.nbytes() < database.file_nbytes() // 20
    database.shrink()

    assert database.path.stat().st_size < 1_000_000
    assert [columns[0] for columns in database.rows(0)] == [99]


def test_log_is_synced(database: Database) -> None:
    """The file that is synced is the one that was written."""
    put(database, rows(1))
    database.sync_log()

    assert database._wal is not None
    assert os.readlink(f"/proc/self/fd/{database._wal}") == f"{database.path}-wal"


def test_statements_of_older_versions(database: Database) -> None:
    """RETURNING came with SQLite 3.35, and Python 3.11 may use one that is older."""
    statements: list[str] = []
    database._connection.set_trace_callback(statements.append)
    put(database, rows(1, 2, size=200_000))
    database.begin()
    database.delete([(0, 1)])
    database.commit()

    assert any(one.startswith("DELETE FROM batch") for one in statements)
    assert not any("RETURNING" in one for one in statements)
