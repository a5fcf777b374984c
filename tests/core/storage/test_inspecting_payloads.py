"""Looking into a spool that has payloads in files of their own: all of it is seen, and nothing is changed."""

import shutil
from pathlib import Path

import pytest

from producer_pool.storage.inspecting import forget, salvage, status, verify
from support.apart import put_apart, sizes, within
from support.spools import Desk, digest, flip, messages_in, scribble

MESSAGES = [b"%04d|" % number * 4000 for number in range(20)]


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a closed spool with 20 rows in several files: "a" waits for 15 of them, "b" for all."""
    put_apart(monkeypatch)
    folder = tmp_path / "spool"
    async with Desk(folder) as desk:
        desk.join("a", "b")
        for message in MESSAGES:
            assert await desk.stored(message)
        desk.store.move("a", 5)
    assert len(sizes(folder)) >= 5
    return folder


def test_nothing_is_changed(folder: Path) -> None:
    """What is told is what is there."""
    before = digest(folder)

    found = status(folder)
    assert (found["messages"], found["damaged"]) == (20, None)
    assert found["bytes"] > sum(sizes(folder).values())
    assert verify(folder).whole
    assert messages_in(folder) == MESSAGES
    assert messages_in(folder, "a") == MESSAGES[5:]
    assert digest(folder) == before


def test_damaged_payload(folder: Path) -> None:
    """It is named, and left out."""
    number = within(folder, 2)[0]
    flip(folder / "payload-2", 5000)

    found = verify(folder)

    assert (found.damaged, found.damaged_rows, found.messages) == ([number], 1, 19)
    assert messages_in(folder) == MESSAGES[: number - 1] + MESSAGES[number:]


def test_missing_file(folder: Path) -> None:
    """What was in it is told to be damaged, and all else is there."""
    gone = within(folder, 1)
    (folder / "payload-1").unlink()

    assert verify(folder).damaged == gone
    assert len(messages_in(folder)) == 20 - len(gone)


@pytest.mark.parametrize("damage", ["none", "head", "all"])
def test_salvage(folder: Path, tmp_path: Path, damage: str) -> None:
    """Whatever became of the database, what is in files of payloads is taken along into the new one."""
    if damage != "none":
        scribble(folder / "spool.db", 100 if damage == "head" else 1_000_000)
    before = digest(folder)

    found = salvage(folder, tmp_path / "rescued")

    assert (found.rows, found.messages) == (20, 20)
    assert digest(folder) == before
    shutil.rmtree(folder)
    assert messages_in(tmp_path / "rescued") == MESSAGES
    assert sizes(tmp_path / "rescued") == {}


def test_export_of_a_damaged_one(folder: Path) -> None:
    """It is read out of pages and of files of payloads."""
    scribble(folder / "spool.db")

    assert messages_in(folder) == MESSAGES
    assert verify(folder).rows == 20


async def test_database_that_was_set_aside(folder: Path) -> None:
    """Another one goes on with its payloads; as long as they are there, it can be read."""
    scribble(folder / "spool.db")
    async with Desk(folder) as desk:
        desk.join("a", "b")
        assert await desk.messages("b") == MESSAGES

    assert messages_in(folder / "spool.db.damaged-1") == MESSAGES


def test_forgetting(folder: Path) -> None:
    """When nobody waits for them any more, the files are gone."""
    assert forget(folder, "b") == 20
    assert messages_in(folder) == MESSAGES[5:]
    forget(folder, "a")

    assert sizes(folder) == {}
