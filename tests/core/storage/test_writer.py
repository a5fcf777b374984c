"""The thread of a spool: it writes together what has gathered, and no error ends it."""

import asyncio
import threading
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.storage.database import Database
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from support.spools import Desk
from support.waiting import BOUND


async def test_what_has_gathered_is_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is written, others come: they are the next."""
    commits = 0
    commit = Database.commit
    go_on = threading.Event()
    go_on.set()

    def counted(database: Database) -> None:
        nonlocal commits
        commits += 1
        assert go_on.wait(BOUND)
        commit(database)

    monkeypatch.setattr(Database, "commit", counted)
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await desk.stored(b"first")
        before = commits
        go_on.clear()
        answers = [desk.append(Batch.of([b"%d" % number])) for number in range(1000)]
        go_on.set()
        await asyncio.gather(*answers)

        assert commits - before <= 4


async def test_one_transaction_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much has gathered, it is written in parts."""
    sizes = []
    store = Keeper.store

    def measured(keeper: Keeper, batches: list[object]) -> bool:
        sizes.append(len(batches))
        return store(keeper, batches)  # type: ignore[arg-type]

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


def broken_one(*arguments: object) -> bool:
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
