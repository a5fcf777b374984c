"""Opening a spool whatever its files look like: it always begins, and nothing that is whole is lost."""

import errno
import logging
import math
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.model.policies import Spool
from producer_pool.storage import recovery
from producer_pool.storage.database import PAGE, Database
from producer_pool.storage.folder import Folder
from producer_pool.storage.spool import SpoolStore
from support.spools import Desk, flip, scribble

MESSAGES = [b"%04d|" % number * 1600 for number in range(50)]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Return a spool of fifty rows: "a" is done with ten of them, and "b" with none. It was closed."""
    folder = tmp_path / "spool"
    async with Desk(folder) as desk:
        desk.join("a", "b")
        for message in MESSAGES:
            await desk.stored(message)
        desk.store.move("a", 10)
    return folder


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """Return the same as it is after a kill: most of it in the log."""
    folder, copy = tmp_path / "open", tmp_path / "killed"
    async with Desk(folder) as desk:
        desk.join("a", "b")
        for message in MESSAGES:
            await desk.stored(message)
        copy.mkdir()
        for path in folder.iterdir():
            if path.name != "reserve":
                (copy / path.name).write_bytes(path.read_bytes())
    return copy


async def left(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Open it, and return what lies there for both."""
    async with Desk(folder) as desk:
        backlogs = desk.join("a", "b")
        found = [
            await desk.messages(name, backlog.after) for name, backlog in zip("ab", backlogs, strict=True)
        ]
        # Numbers go on behind all that were ever given.
        assert (await desk.stored(b"new") or 0) > 50
    return found[0], found[1]


def aside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("spool.db.damaged-*"))


async def test_damaged_header(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All is read out of the file, positions come from beside it, and the log says where it is now."""
    scribble(folder / "spool.db")

    assert await left(folder) == (MESSAGES[10:], MESSAGES)
    assert aside(folder) == ["spool.db.damaged-1"]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "file is not a database" in said[0]
    assert "50 messages were read out of the damaged database, which is kept as" in said[1]


async def test_damaged_header_beside_its_log(killed: Path) -> None:
    """What is in the log is kept, too."""
    scribble(killed / "spool.db")

    assert await left(killed) == (MESSAGES, MESSAGES)


async def test_damaged_page(folder: Path) -> None:
    """What is on the others is kept."""
    path = folder / "spool.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // PAGE * PAGE)
        file.write(os.urandom(PAGE))

    for_a, for_b = await left(folder)
    assert set(for_b) < set(MESSAGES)
    assert len(for_b) >= 40
    assert for_b == sorted(for_b)
    assert for_a == [message for message in for_b if message >= MESSAGES[10]]


async def test_damaged_while_nobody_looked(folder: Path) -> None:
    """A byte of a payload is found when it is read: that batch is left out, told, and nothing else is."""
    data = (folder / "spool.db").read_bytes()
    flip(folder / "spool.db", data.index(b"0030|" * 500))

    async with Desk(folder) as desk:
        desk.join("a", "b")
        found = await desk.messages("b")
        assert found == [message for message in MESSAGES if message != MESSAGES[30]]
        assert desk.lost == [("b", 1, 8000 + 64)]
    assert aside(folder) == []


async def test_damaged_names(folder: Path) -> None:
    """Where SQLite's own words have damaged bytes in them, that is damage as well."""
    data = (folder / "spool.db").read_bytes()
    flip(folder / "spool.db", data.index(b"batch_targets") + 9, 128)

    assert await left(folder) == (MESSAGES[10:], MESSAGES)
    assert aside(folder) == ["spool.db.damaged-1"]


async def test_damaged_at_its_end(folder: Path) -> None:
    """The last batch is told, too, when reading comes to the end."""
    data = (folder / "spool.db").read_bytes()
    flip(folder / "spool.db", data.index(b"0049|" * 500))

    async with Desk(folder) as desk:
        desk.join("a", "b")
        assert await desk.messages("b") == MESSAGES[:-1]
        assert desk.lost == [("b", 1, 8000 + 64)]


async def test_zeroed(folder: Path) -> None:
    """It begins with nothing, and remembers who was where."""
    path = folder / "spool.db"
    path.write_bytes(bytes(path.stat().st_size))

    assert await left(folder) == ([], [])
    assert aside(folder) == ["spool.db.damaged-1"]


async def test_missing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It begins with nothing, and says how much is gone."""
    (folder / "spool.db").unlink()

    assert await left(folder) == ([], [])
    assert "the database is gone, and with it 50 messages" in caplog.text
    assert "too short" not in caplog.text


async def test_another_programs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that is shorter than any of ours is kept for whose it is, and that is said."""
    (folder / "spool.db").unlink()
    with closing(sqlite3.connect(folder / "spool.db")) as others:
        others.executescript("CREATE TABLE customer (name); INSERT INTO customer VALUES ('x')")
    before = (folder / "spool.db").read_bytes()

    assert await left(folder) == ([], [])
    assert (folder / "spool.db.damaged-1").read_bytes() == before
    assert f"too short to be of a spool; it is kept as {folder}/spool.db.damaged-1" in caplog.text


async def test_missing_beside_its_log(killed: Path) -> None:
    """What is in the log is kept."""
    (killed / "spool.db").unlink()

    for_a, for_b = await left(killed)
    assert for_b == for_a == MESSAGES


@pytest.mark.parametrize("at", [0, 20, 40 * PAGE])
async def test_damaged_log(killed: Path, at: int) -> None:
    """What follows the damage is read out of it, too. SQLite would leave that out without a word."""
    flip(killed / "spool.db-wal", at)

    _, for_b = await left(killed)
    assert len(for_b) >= len(MESSAGES) - 1
    assert aside(killed) == ["spool.db.damaged-1", "spool.db.damaged-1-wal"]


async def test_swapped(folder: Path, killed: Path) -> None:
    """The log of another database, or a file with the name of another: nothing that is wrong is read."""
    (folder / "spool.db-wal").write_bytes((killed / "spool.db-wal").read_bytes())
    _, for_b = await left(folder)
    assert set(for_b) <= set(MESSAGES)

    os.rename(killed / "spool.db", killed / "x")
    os.rename(killed / "spool.db-wal", killed / "spool.db")
    os.rename(killed / "x", killed / "spool.db-wal")
    _, for_b = await left(killed)
    assert set(for_b) <= set(MESSAGES)


async def test_who_was_where_is_lost(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Then all is sent again: twice is better than never; nothing goes before all have joined."""
    scribble(folder / "spool.db")
    (folder / "state").unlink()

    async with Desk(folder) as desk:
        (backlog,) = desk.join("a")
        assert (backlog.after, backlog.messages) == (0, 50)
        desk.store.move("a", 50)
        desk.store._hand_over_moves()
        assert await desk.messages("a", 50) == []
        assert desk.join("b")[0].messages == 50
        assert await desk.messages("b") == MESSAGES
    assert "all that is left is sent again" in caplog.text


async def test_newer_version(folder: Path) -> None:
    """It is refused, and stays as it is."""
    database = Database(folder / "spool.db")
    database.set_meta("format", 9)
    database._connection.execute("PRAGMA user_version = 9")
    database.close()
    before = (folder / "spool.db").read_bytes()

    with pytest.raises(StorageError, match="has format version 9, and this Producer Pool knows 3; use the"):
        SpoolStore(Spool(folder)).open()
    assert (folder / "spool.db").read_bytes() == before
    assert aside(folder) == []


async def test_no_room_for_a_second_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where both do not fit on the disk, it begins empty; what was there lies aside until there is room."""
    scribble(folder / "spool.db")
    before = (folder / "spool.db").read_bytes()

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recovery, "_salvaged", full)
    assert await left(folder) == ([], [])
    assert (folder / "spool.db.damaged-1").read_bytes() == before
    assert "producer-pool spool salvage" in caplog.text


async def test_no_room_for_an_empty_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what is there stays in its place, and is read as soon as there is room."""
    scribble(folder / "spool.db")

    def full(*arguments: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "_salvaged", full)
        patch.setattr(Folder, "clear_new", full)
        async with Desk(folder) as desk:
            assert "is full" in (desk.store.trouble or "")
    assert aside(folder) == []

    assert await left(folder) == (MESSAGES[10:], MESSAGES)


async def test_reserve_is_room_for_a_second_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, what is kept in reserve is used before the old one is given up. It is had again."""
    scribble(folder / "spool.db")
    whole = recovery._salvaged

    def full(folder: Folder, *arguments: Any) -> int:
        if folder.reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(folder, *arguments)

    monkeypatch.setattr(recovery, "_salvaged", full)
    async with Desk(folder) as desk:
        (backlog,) = desk.join("b")
        assert await desk.messages("b", backlog.after) == MESSAGES
        assert (folder / "reserve").exists()


async def test_what_an_attempt_left_behind(folder: Path) -> None:
    """One that was killed while it made a new database has left what is as large, and nobody needs."""
    for suffix in ("", "-wal"):
        (folder / f"spool.new{suffix}").write_bytes(bytes(1000))

    assert (await left(folder))[1] == MESSAGES
    assert list(folder.glob("spool.new*")) == []


async def test_locked_by_another_program(folder: Path) -> None:
    """Somebody looks into it with sqlite3: that is no damage."""
    connection = sqlite3.connect(folder / "spool.db")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(
            StorageError, match="cannot be opened: database is locked; see its rights, and who"
        ):
            SpoolStore(Spool(folder)).open()
    finally:
        connection.close()
    assert aside(folder) == []
    assert (await left(folder))[1] == MESSAGES


async def test_interrupted_installation(folder: Path) -> None:
    """A database that was ready to take the place of a damaged one takes it at the next start."""
    made = Database(folder / "made.db", math.inf)
    made.close()
    os.rename(folder / "made.db", folder / "spool.ready")

    assert await left(folder) == ([], [])
    assert aside(folder) == ["spool.db.damaged-1"]
