"""Looking into a spool: it is not changed by that, and what is told is what is there."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.model.stored import ROW_OVERHEAD
from producer_pool.storage.inspecting import Found, forget, salvage, status, stored_in, verify
from support.spools import Desk, digest, flip, messages_in, scribble

MESSAGES = [b"%04d|" % number * 1000 for number in range(20)]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Return a closed spool with 20 rows: "a" waits for 15 of them, "b" for all and one more."""
    folder = tmp_path / "spool"
    async with Desk(folder, sync=0.01, size=1 << 26) as desk:
        desk.join("a", "b")
        for message in MESSAGES:
            await desk.stored(message)
        await desk.stored(b"for b", targets=["b"])
        desk.store.move("a", 5)
    return folder


def test_status(folder: Path) -> None:
    """What lies there, for whom, how old it is; nothing is changed."""
    before = digest(folder)
    found = status(folder)

    assert digest(folder) == before
    assert (found["messages"], found["sync"], found["size"]) == (20, 0.01, 1 << 26)
    assert found["pid"] is None
    assert found["damaged"] is None
    a, b = found["producers"]["a"], found["producers"]["b"]
    assert (a["messages"], a["bytes"]) == (15, 15 * (5000 + ROW_OVERHEAD))
    assert b["messages"] == 21
    assert 0 <= a["oldest"] < 1000


async def test_status_of_one_in_use(folder: Path) -> None:
    """It is told by who uses it, and its database is not touched."""
    async with Desk(folder, size=1 << 26) as desk:
        desk.join("b")
        found = status(folder)

        assert found["pid"] is not None
        assert found["producers"]["a"]["messages"] == 15
        for look in (lambda: verify(folder), lambda: messages_in(folder), lambda: forget(folder, "a")):
            with pytest.raises(StorageError, match=f"is in use by process {found['pid']}; stop that first"):
                look()


@pytest.mark.parametrize("look", [status, verify, messages_in])
def test_no_spool(tmp_path: Path, look: object) -> None:
    """Another folder is not made one, and the error says what to name."""
    with pytest.raises(StorageError, match="holds no spool; name the folder"):
        look(tmp_path)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_database_of_another_program(tmp_path: Path, journal: str) -> None:
    """It is refused in every way, also while it is in use, and not one byte of it is changed."""
    folder, target = tmp_path / "theirs", tmp_path / "rescued"
    folder.mkdir()
    path = folder / "spool.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE precious (x)")
        connection.executemany("INSERT INTO precious VALUES (?)", [("x" * 1000,)] * 100)
        connection.commit()
        for closed in (False, True):
            if closed:
                connection.close()
            before = digest(folder)
            for look in (
                lambda: status(folder),
                lambda: verify(folder),
                lambda: messages_in(folder),
                lambda: messages_in(path),
                lambda: salvage(folder, target),
                lambda: salvage(path, target),
            ):
                with pytest.raises(StorageError, match=r"spool.db is a database of another program"):
                    look()
            assert digest(folder) == before
            assert not target.exists()


def test_verify_with_another_mark(folder: Path) -> None:
    """A spool that does not begin as one is one for all that: its batches are recognised."""
    flip(folder / "spool.db", 68)
    before = digest(folder)
    found = verify(folder)

    assert (found.structure, found.messages) == ("it is no spool", 21)
    assert digest(folder) == before


def test_verify_whole(folder: Path) -> None:
    """What some are done with, and what is not for all, is nothing missing."""
    before = digest(folder)
    found = verify(folder)

    assert found.whole
    assert (found.rows, found.messages) == (21, 21)
    assert digest(folder) == before


async def test_verify_after_dropping(folder: Path) -> None:
    """What was dropped on purpose is not missing."""
    async with Desk(folder) as desk:
        desk.join("a", "b")
        for producer, after in (("a", 5), ("b", 0)):
            await desk.skip(producer, after + 3, 25_000)
            desk.store.move(producer, after + 1)

    assert verify(folder).whole


def test_verify_damaged(folder: Path) -> None:
    """Each batch that is damaged is named; nothing is changed."""
    path = folder / "spool.db"
    for message in (MESSAGES[7], MESSAGES[12]):
        flip(path, path.read_bytes().index(message[:4000]) + 200)
    before = digest(folder)
    found = verify(folder)

    assert not found.whole
    assert (found.damaged, found.damaged_rows, found.missing, found.structure) == ([8, 13], 2, 2, None)
    assert found.messages == 19
    assert digest(folder) == before


def test_verify_without_a_header(folder: Path) -> None:
    """What can be read out of it is counted."""
    scribble(folder / "spool.db")
    found = verify(folder)

    assert found.structure == "file is not a database"
    assert found.messages == 21


def test_what_cannot_be_opened(folder: Path) -> None:
    """It is not called damaged, for of that nothing is known; the error says what to look at."""
    connection = sqlite3.connect(folder / "spool.db")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StorageError, match="cannot be opened: database is locked; see its rights"):
            verify(folder)
        assert len(messages_in(folder)) == 21, "its pages can be read all the same"
    finally:
        connection.close()
    assert verify(folder).whole


def test_stored_in(folder: Path) -> None:
    """All, or what one waits for, in order."""
    before = digest(folder)

    assert messages_in(folder) == [*MESSAGES, b"for b"]
    assert messages_in(folder, "a") == MESSAGES[5:]
    with pytest.raises(StorageError, match="nothing is kept there for 'c'; known: a, b"):
        messages_in(folder, "c")
    assert digest(folder) == before


async def test_stored_in_a_damaged_one(folder: Path) -> None:
    """What is left comes in order, from the folder and from what was set aside."""
    scribble(folder / "spool.db")
    assert messages_in(folder) == [*MESSAGES, b"for b"]
    assert messages_in(folder, "a") == MESSAGES[5:]

    async with Desk(folder) as desk:
        desk.join("a")
    assert messages_in(folder / "spool.db.damaged-1") == [*MESSAGES, b"for b"]


async def test_salvage(folder: Path, tmp_path: Path) -> None:
    """A new spool has what can be read, and a pool goes on with it."""
    path = folder / "spool.db"
    flip(path, path.read_bytes().index(MESSAGES[7][:4000]) + 200)
    before = digest(folder)
    found = salvage(folder, tmp_path / "rescued")
    assert (found.rows, found.messages, found.damaged, found.missing) == (20, 20, [8], 1)

    assert digest(folder) == before
    async with Desk(tmp_path / "rescued") as desk:
        backlogs = desk.join("a", "b")
        assert backlogs[0].after == 5
        assert await desk.messages("b") == [*(one for one in MESSAGES if one != MESSAGES[7]), b"for b"]
        assert desk.lost == [("b", 1, 5000 + ROW_OVERHEAD)]
    with pytest.raises(StorageError, match="rescued is not empty; name a folder that can be made"):
        salvage(folder, tmp_path / "rescued")


async def test_forget(folder: Path) -> None:
    """What only that one waited for is gone, and it is not known any more."""
    assert forget(folder, "b") == 21
    with pytest.raises(StorageError, match=r"nothing is kept in .* for 'b'; known: a"):
        forget(folder, "b")

    assert status(folder)["producers"].keys() == {"a"}
    assert messages_in(folder) == MESSAGES[5:]
    assert forget(folder, "a") == 15
    assert messages_in(folder) == []


@pytest.mark.parametrize("way", ["export", "salvage"])
def test_lost_in_a_damaged_one(folder: Path, tmp_path: Path, way: str) -> None:
    """Where pages are gone, too, what somebody waits for is counted."""
    scribble(folder / "spool.db")
    path = folder / "spool.db"
    flip(path, path.read_bytes().index(MESSAGES[7][:4000]) + 200)
    found = Found()
    if way == "export":
        assert sum(1 for _ in stored_in(folder, found=found)) == 20
    else:
        found = salvage(folder, tmp_path / "rescued")

    assert (found.structure, found.messages, found.missing) == ("file is not a database", 20, 1)
    assert found.lost
