"""Checks the small values of a database, and that none of them is believed that was not written so."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.storage.database import Database
from producer_pool.storage.meta import Meta
from producer_pool.storage.positions import Position
from producer_pool.storage.schema import SCHEMA


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    found = sqlite3.connect(":memory:", isolation_level=None)
    found.executescript(SCHEMA)
    yield found
    found.close()


@pytest.fixture
def meta(connection: sqlite3.Connection) -> Meta:
    return Meta(connection)


def test_values(meta: Meta) -> None:
    """They are kept, of each kind, replaced and removed."""
    meta.set("total", 5)
    meta.set("identity", b"\xff")
    meta.set("at:a", "[1]")
    meta.set("at:a", "[2]")
    meta.set("at:payloads:0", "[3]")
    meta.set("payloads:0", "1 2 3")
    meta.check()
    meta.remove("payloads:0")

    assert (meta.get("total"), meta.get("identity"), meta.get("payloads:0")) == (5, b"\xff", None)
    assert meta.behind("at:") == {"a": "[2]", "payloads:0": "[3]"}


@pytest.mark.parametrize(
    "change",
    [
        "name = 'at:c' WHERE name = 'at:b'",
        "name = 'it:b' WHERE name = 'at:b'",
        "name = x'00' WHERE name = 'at:b'",
        "name = 'total', checksum = 0 WHERE name = 'at:b'",
        "value = '[8, null, []]' WHERE name = 'at:b'",
        "value = 5 WHERE name = 'resend'",
        "value = '1' WHERE name = 'resend'",
        "checksum = NULL WHERE name = 'resend'",
        "checksum = checksum + 1 WHERE name = 'at:b'",
    ],
)
def test_what_was_not_written_so(meta: Meta, connection: sqlite3.Connection, change: str) -> None:
    """A name, a value or a checksum that is another one is damage."""
    meta.set("at:b", "[0, null, []]")
    meta.set("resend", 1)
    meta.check()
    connection.execute(f"UPDATE meta SET {change}")

    with pytest.raises(sqlite3.DatabaseError, match="not what was written"):
        meta.check()


def test_trial(meta: Meta) -> None:
    """What a kill left of a trial is no damage, and is not read."""
    meta.try_to_write(100_000)
    meta.check()
    meta.end_trial()

    assert meta.get("trial") is None


def test_damage_is_found_before_it_is_used(tmp_path: Path) -> None:
    """A database does not open whose producers may be others."""
    path = tmp_path / "spool.db"
    database = Database(path)
    database.set_positions({"a": Position(7)})
    database._connection.execute("UPDATE meta SET name = 'at:b' WHERE name = 'at:a'")
    database.close()

    with pytest.raises(sqlite3.DatabaseError, match="not what was written"):
        Database(path)


def test_name_that_is_none(tmp_path: Path) -> None:
    """Where the kind of a name is another one, it is damage as well; SQLite would not write that."""
    path = tmp_path / "spool.db"
    database = Database(path)
    database.set_positions({"a": Position(7)})
    database.close()
    data = path.read_bytes()
    # The kinds of the columns are in front of the first of them: 0 is NULL, which takes no bytes.
    where = data.index(b"at:a[") - 3
    assert data[where] == 13 + 2 * len("at:a")
    with path.open("r+b") as file:
        file.seek(where)
        file.write(b"\0")

    with pytest.raises(sqlite3.DatabaseError):
        Database(path)
