"""Opening a spool that has payloads in files of their own, whatever happened to it."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.model.policies import Spool
from producer_pool.storage import database as databases
from producer_pool.storage import payload_files as files
from producer_pool.storage import payloads as module
from producer_pool.storage import recovery
from producer_pool.storage.database import Database
from producer_pool.storage.folder import Folder
from producer_pool.storage.inspecting import stored_in
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.portable import sync_data
from producer_pool.storage.positions import Position
from producer_pool.storage.state import read_state
from producer_pool.storage.writer import Moves
from support.apart import put_apart, sizes
from support.keeping import Clock, Disk, failure, numbers, put
from support.spools import Desk, scribble
from support.streams import until

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


@pytest.mark.parametrize("most", [0, 2, 7])
async def test_files_cannot_be_opened_now(folder: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """For want of descriptors nothing is lost: the damaged database stays as it is, until there are some."""
    scribble(folder / "spool.db")
    whole = os.open
    opened: list[object] = []

    def scarce(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if "payload-" in str(path) and not flags & os.O_RDWR:
            opened.append(path)
            if len(opened) > most:
                raise OSError(errno.EMFILE, "Too many open files")
        return whole(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", scarce)
        with pytest.raises(StorageError, match="Too many open files"):
            Desk(folder).store.open()
    assert not list(folder.glob("*.damaged-*"))

    async with Desk(folder) as desk:
        (backlog,) = desk.join("a")
        assert await desk.messages("a", backlog.after) == MESSAGES


def test_payloads_of_one_that_was_killed(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are safe from a power cut before their rows are, which move into the database at the start."""
    for number in (1, 2):
        assert put(keeper, number, 20_000)
    copy = killed(keeper.folder.path, tmp_path / "killed", without_log=False)
    order: list[str] = []
    sync, empty_log = sync_data, Database.empty_log

    def noted(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), os.stat(copy / "payload-0")):
            order.append("payloads")
        sync(fd)

    def emptied(database: Database) -> None:
        order.append("rows")
        empty_log(database)

    monkeypatch.setattr(files, "sync_data", noted)
    monkeypatch.setattr(Database, "empty_log", emptied)
    Keeper(Folder(copy), Spool(copy, sync=0.5)).close()

    assert order[:2] == ["payloads", "rows"]


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


@pytest.mark.parametrize("version", [1, 2])
async def test_of_a_development_version(folder: Path, version: int) -> None:
    """It is refused, and stays as it is."""
    database = Database(folder / "spool.db", new=False)
    database.set_meta("format", version)
    database._connection.execute(f"PRAGMA user_version = {version}")
    database.close()
    before = (folder / "spool.db").read_bytes()

    with pytest.raises(
        StorageError, match=f"has format version {version}, of a development version, and this"
    ):
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


def killed(folder: Path, target: Path, *, without_log: bool) -> Path:
    """Copy a spool that is in use, as a kill leaves it."""
    paths = list(folder.iterdir())
    target.mkdir()
    for path in paths:
        if path.name not in ("reserve", "lock") and not (without_log and path.name.endswith("-wal")):
            shutil.copy(path, target)
    return target


async def test_what_only_payloads_know_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log that is gone, and nothing tells: what is settled stays so, the rest is there, in its order."""
    async with Desk(tmp_path / "spool") as desk:
        desk.join("a", "b")
        for message in MESSAGES[:6]:
            await desk.stored(message)
        desk.store._writer.put(Moves({"a": 6, "b": 3}))
        await desk.read("a", 6)
    async with Desk(tmp_path / "spool") as desk:
        desk.join("a", "b")
        for message in MESSAGES[6:]:
            await desk.stored(message, targets=["b"] if message == MESSAGES[8] else None)
        copy = killed(tmp_path / "spool", tmp_path / "killed", without_log=True)
    caplog.clear()
    async with Desk(copy) as desk:
        for_a, for_b = desk.join("a", "b")

        assert await desk.messages("a", for_a.after) == MESSAGES[6:8] + MESSAGES[9:]
        assert await desk.messages("b", for_b.after) == MESSAGES[3:]
        assert for_b.messages == 9
        assert desk.lost == []
        number = await desk.stored(b"more")
        assert number is not None
        assert number > 12
    assert "6 messages are taken back that only files of payloads know of" in caplog.text
    caplog.clear()
    async with Desk(copy) as desk:
        assert await desk.messages("b", desk.join("b")[0].after) == [*MESSAGES[3:], b"more"]
    assert "taken back" not in caplog.text


def test_settled_by_one_that_was_killed(
    keeper: Keeper, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file goes when it is safe that all are done with it, on a full disk, too: else rows come back."""
    for number in range(1, 7):
        assert put(keeper, number, 20_000)
    keeper.move("a", 6)
    keeper.move_on()
    copy = killed(keeper.folder.path, tmp_path / "killed", without_log=False)
    there = sizes(copy)
    assert there
    whole, synced = sync_data, list[dict[int, int]]()

    def sync(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), os.stat(copy / "spool.db-wal")):
            synced.append(sizes(copy))
        whole(fd)

    disk.fails("empty_log", failure(sqlite3.SQLITE_FULL), times=1)
    monkeypatch.setattr(databases, "sync_data", sync)
    again = Keeper(Folder(copy), Spool(copy, sync=0.5))

    assert synced == [there]
    assert sizes(copy) == {}
    again.close()


def test_log_cannot_be_synced_when_it_opens(keeper: Keeper, tmp_path: Path, disk: Disk) -> None:
    """What the system has of it is moved to where it is safe."""
    assert put(keeper, 1, 20_000)
    copy = killed(keeper.folder.path, tmp_path / "killed", without_log=False)
    disk.fails("empty_log", failure(sqlite3.SQLITE_IOERR_FSYNC), times=1)
    again = Keeper(Folder(copy), Spool(copy, sync=0.5))
    again.join("a", 1)

    assert [one.name for one in again.folder.set_aside_before()] == ["spool.db.damaged-1"]
    assert numbers(again) == [1]
    again.close()


async def test_settled_since_its_database_was_written(tmp_path: Path) -> None:
    """What is known of producers beside the database counts, too: what they were done with comes no more."""
    async with Desk(tmp_path / "spool") as desk:
        desk.join("a")
        for message in MESSAGES:
            await desk.stored(message)
        desk.store._writer.put(Moves({"a": 5}))
        await desk.read("a", 5)
        told = tmp_path / "spool" / "state"
        await until(lambda: read_state(told).positions.get("a") == Position(5))
        copy = killed(tmp_path / "spool", tmp_path / "killed", without_log=True)
    async with Desk(copy) as desk:
        (backlog,) = desk.join("a")

        assert backlog.after == 5
        assert await desk.messages("a", 5) == MESSAGES[5:]


def refused(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have a batch refused whose payload was written."""
    with monkeypatch.context() as patch:
        Disk(patch).fails("insert", failure(sqlite3.SQLITE_FULL), times=4)
        assert not put(keeper, number, 20_000)


def test_refused_one_does_not_come_back(
    keeper: Keeper, clock: Clock, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went out from memory goes out once, whether the database is opened again, or the spool is."""
    assert put(keeper, 1, 20_000)
    refused(keeper, monkeypatch, 2)
    disk.fails("begin", failure(sqlite3.SQLITE_READONLY))
    clock.now += 2
    keeper.tick(clock.now)
    assert "cannot be written" in (keeper.trouble or "")
    clock.now += 2
    keeper.tick(clock.now)
    assert keeper.trouble is None
    assert numbers(keeper) == [1]

    keeper.close()
    again = Keeper(keeper.folder, Spool(keeper.folder.path))
    again.join("a", 2)
    assert numbers(again) == [1]
    again.close()
