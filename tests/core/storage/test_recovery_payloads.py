"""Opening a spool that has payloads in files of their own, whatever happened to it."""

import errno
import os
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.storage import payloads as module
from producer_pool.storage import recovery
from producer_pool.storage.database import Database
from producer_pool.storage.inspecting import stored_in
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.portable import sync_data
from support.apart import put_apart, sizes
from support.keeping import Clock, failure, numbers, put
from support.spools import Desk, scribble

MESSAGES = [b"%04d|" % number * 4000 for number in range(12)]


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    put_apart(monkeypatch)


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Return a closed spool with 12 rows, for "a"."""
    async with Desk(tmp_path / "spool") as desk:
        desk.join("a")
        for message in MESSAGES:
            await desk.stored(message)
    return tmp_path / "spool"


async def test_no_room_to_read_a_damaged_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its payloads are set aside with it, and can be had from there; those of the new one are others."""
    scribble(folder / "spool.db")
    before = sizes(folder)

    def full(*arguments: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "fill", full)
        async with Desk(folder) as desk:
            desk.join("a")
            assert await desk.messages("a") == []
            assert await desk.stored(bytes(20_000))

    assert len(sizes(folder)) == 1
    assert len(list(folder.glob("spool.db.damaged-1.payload-*"))) == len(before)
    found = [message for _, stored in stored_in(folder / "spool.db.damaged-1") for message in stored.batch]
    assert found == MESSAGES


def test_file_that_could_not_be_synced(keeper: Keeper, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it moves to where it is safe, and it is not written to again."""
    for number in range(1, 6):
        assert put(keeper, number, 20_000)
    whole, fails = sync_data, [True]

    def failing(fd: int) -> None:
        if fails:
            fails.clear()
            raise OSError(errno.EIO, "it failed")
        whole(fd)

    monkeypatch.setattr(module, "sync_data", failing)
    clock.now += 0.5
    keeper.tick(clock.now)

    assert keeper.trouble is None
    assert not fails
    assert [one.name for one in keeper.folder.set_aside_before()] == ["spool.db.damaged-1"]
    assert numbers(keeper) == [1, 2, 3, 4, 5]
    assert put(keeper, 6, 20_000)
    assert numbers(keeper) == [1, 2, 3, 4, 5, 6]


def test_transaction_that_fails(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written for it is nobody's: it comes neither back nor twice."""
    assert put(keeper, 1, 20_000)
    whole, fails = Database.insert, [True, True]

    def failing(database: Database, rows: object) -> None:
        if fails:
            fails.pop()
            raise failure(13)
        whole(database, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "insert", failing)
    assert not put(keeper, 2, 20_000)
    fails.clear()
    keeper._upkeep.recover()

    assert put(keeper, 3, 20_000)
    assert numbers(keeper) == [1, 3]


def test_current_file_removed(keeper: Keeper, clock: Clock) -> None:
    """Nothing is said to be stored in it; what was in it is told to be lost; it goes on within seconds."""
    assert put(keeper, 1, 20_000)
    (keeper.folder.path / "payload-0").unlink()
    assert not put(keeper, 2, 20_000)
    clock.now += 2
    keeper.tick(clock.now)

    assert put(keeper, 3, 20_000)
    found = keeper.read("a", 0, 1 << 30)
    assert found is not None
    assert [one.number for one in found[0]] == [3]


async def test_of_a_development_version(folder: Path) -> None:
    """It is refused, and stays as it is."""
    database = Database(folder / "spool.db", new=False)
    database.set_meta("format", 1)
    database._connection.execute("PRAGMA user_version = 1")
    database.close()
    before = (folder / "spool.db").read_bytes()

    with pytest.raises(StorageError, match="has format version 1, of a development version, and this"):
        Desk(folder).store.open()

    assert (folder / "spool.db").read_bytes() == before


@pytest.mark.parametrize("what", ["link", "folder"])
async def test_what_is_no_file(folder: Path, what: str) -> None:
    """To write to whatever a link leads to is nothing that anybody has asked for."""
    path = folder / "payload-0"
    path.rename(folder / "elsewhere")
    if what == "link":
        path.symlink_to("elsewhere")
    else:
        path.mkdir()

    with pytest.raises(StorageError, match="payload-0"):
        Desk(folder).store.open()


async def test_modes(tmp_path: Path) -> None:
    """Nobody but their owner may read them."""
    async with Desk(tmp_path / "spool") as desk:
        desk.join("a")
        await desk.stored(bytes(20_000))
        assert os.stat(tmp_path / "spool" / "payload-0").st_mode & 0o777 == 0o600
