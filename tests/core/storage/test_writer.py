"""The thread of a spool: it writes together what has gathered, and no error ends it."""

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.storage.database import Database
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.syncing import LogFile
from producer_pool.storage.writer import LATER_BYTES
from support.spools import Desk, numbers_in
from support.waiting import BOUND


async def test_what_has_gathered_is_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is written, others come: they are the next."""
    commits = 0
    commit = Database.commit

    def counted(database: Database) -> None:
        nonlocal commits
        commits += 1
        commit(database)

    monkeypatch.setattr(Database, "commit", counted)
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await desk.stored(b"first")
        before = commits
        await asyncio.gather(*(desk.append(Batch.of([b"%d" % number])) for number in range(1000)))

        assert commits - before < 100


async def test_one_transaction_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much has gathered, it is written in parts."""
    sizes = []
    store = Keeper.store

    def measured(keeper: Keeper, batches: list[object], *, synced: bool) -> bool:
        sizes.append(len(batches))
        return store(keeper, batches, synced=synced)  # type: ignore[arg-type]

    monkeypatch.setattr(Keeper, "store", measured)
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await asyncio.gather(*(desk.append(Batch.of([bytes(1 << 20)])) for _ in range(12)))

    assert max(sizes) <= 5
    assert sum(sizes) == 12


async def test_unexpected_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the log, who waits is answered, and the next is stored."""
    async with Desk(tmp_path) as desk:
        desk.join("a")
        with monkeypatch.context() as broken:
            broken.setattr(Keeper, "store", broken_one)
            assert await desk.stored(b"one") is None
            assert "an unexpected error, see the log" in (desk.store.trouble or "")
        while await desk.stored(b"two") is None:
            await asyncio.sleep(0.01)

        assert await desk.messages("a") == [b"two"]
    assert "unexpected; what came with it is not stored" in caplog.text


def broken_one(*arguments: object, **more: object) -> bool:
    raise RuntimeError("a bug")


async def test_unexpected_error_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing ends all the same, and lets go of the folder."""
    async with Desk(tmp_path):
        monkeypatch.setattr(Keeper, "close", broken_one)

    assert "it is closed all the same" in caplog.text
    assert not Folder(tmp_path).in_use


async def test_answers_do_not_wait_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored is said to be so before the log is moved, which may take as long as the disk likes."""
    tick = Keeper.tick
    go_on = threading.Event()

    def slow(keeper: Keeper, now: float) -> None:
        assert go_on.wait(BOUND)
        tick(keeper, now)

    async with Desk(tmp_path) as desk:
        desk.join("a")
        monkeypatch.setattr(Keeper, "tick", slow)
        try:
            assert await desk.stored(b"one") == 1
        finally:
            go_on.set()


class Syncs:
    """Syncing of the log, which waits until it is told to go on, and fails the first times."""

    def __init__(self, patch: pytest.MonkeyPatch, *, failures: int = 0) -> None:
        self.go_on = threading.Event()
        self.begun = threading.Semaphore(0)
        self._failures = failures
        self._whole = LogFile.sync
        patch.setattr(LogFile, "sync", lambda log: self._sync(log))

    def _sync(self, log: LogFile) -> None:
        self.begun.release()
        assert self.go_on.wait(BOUND)
        if self._failures:
            self._failures -= 1
            raise OSError(errno.EIO, "Input/output error")
        self._whole(log)


class Commits:
    """Counts transactions that are in the log."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done = threading.Semaphore(0)
        commit = Database.commit

        def counted(database: Database) -> None:
            commit(database)
            self.done.release()

        patch.setattr(Database, "commit", counted)


LARGE = 2 * LATER_BYTES


def large(text: bytes) -> Batch:
    return Batch.of([text * (LARGE // len(text))])


async def committed(commits: Commits) -> None:
    """Wait until one transaction more is in the log."""
    assert await asyncio.to_thread(commits.done.acquire, timeout=BOUND)


async def test_stored_is_what_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is synced, the next is written, and neither is said to be stored; no third is written."""
    async with Desk(tmp_path) as desk:
        desk.join("a")
        syncs, commits = Syncs(monkeypatch), Commits(monkeypatch)
        try:
            answers = [desk.append(large(b"one"))]
            await committed(commits)
            answers.append(desk.append(large(b"two")))
            await committed(commits)
            answers.append(desk.append(large(b"three")))
            assert not await asyncio.to_thread(commits.done.acquire, timeout=0.1)
            assert desk.numbers == []
        finally:
            syncs.go_on.set()
        async with asyncio.timeout(BOUND):
            assert await asyncio.gather(*answers) == [1, 2, 3]


async def test_small_behind_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored at once, and what needs no disk, do not overtake what is still synced."""
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await desk.stored(b"zero")
        syncs = Syncs(monkeypatch)
        first = desk.append(large(b"one"))
        assert await asyncio.to_thread(syncs.begun.acquire, timeout=BOUND)
        second = desk.append(Batch.of([b"two"]))
        reading = asyncio.create_task(desk.read("a"))
        await asyncio.sleep(0.05)
        assert (desk.numbers, reading.done()) == ([1], False)
        syncs.go_on.set()

        assert await first == 2
        assert await second == 3
        assert [one.number for one in (await reading)[0]] == [1, 2, 3]


async def test_failed_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be synced is stored once more, in another database, and then said to be: each once."""
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await desk.stored(b"zero")
        syncs, commits = Syncs(monkeypatch, failures=1), Commits(monkeypatch)
        first = desk.append(large(b"one"))
        await committed(commits)
        second = desk.append(large(b"two"))
        await committed(commits)
        syncs.go_on.set()

        async with asyncio.timeout(BOUND):
            assert [await first, await second] == [2, 3]
        assert await desk.stored(b"three") == 4
        found, _ = await desk.read("a")
        assert [one.number for one in found] == [1, 2, 3, 4]
        assert desk.lost == []
    assert list(tmp_path.glob("spool.db.damaged-*"))
    assert numbers_in(tmp_path) == [1, 2, 3, 4]


async def test_failed_sync_that_is_not_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be stored elsewhere either, that is the answer."""
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await desk.stored(b"zero")
        syncs = Syncs(monkeypatch, failures=1)
        syncs.go_on.set()
        with monkeypatch.context() as broken:
            broken.setattr(Keeper, "store_again", lambda *arguments: False)
            async with asyncio.timeout(BOUND):
                assert await desk.append(large(b"one")) is None

        assert await desk.stored(b"two") == 3


async def test_closing_waits_for_the_last_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails then is stored once more all the same."""
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await desk.stored(b"zero")
        syncs = Syncs(monkeypatch, failures=1)
        answer = desk.append(large(b"one"))
        assert await asyncio.to_thread(syncs.begun.acquire, timeout=BOUND)
        closing = asyncio.create_task(desk.store.aclose())
        await asyncio.sleep(0.05)
        assert not closing.done()
        syncs.go_on.set()
        async with asyncio.timeout(BOUND):
            await closing
            assert await answer == 2

    assert numbers_in(tmp_path) == [1, 2]
