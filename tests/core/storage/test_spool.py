"""The spool as an engine uses it: nothing waits, everything comes back, answers come in order."""

import asyncio
import math
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from producer_pool.delivery.store import Store
from producer_pool.model.batch import Batch
from producer_pool.model.errors import StorageError
from producer_pool.model.framing import LINES
from producer_pool.model.policies import Spool
from producer_pool.model.stored import ROW_OVERHEAD, Backlog
from producer_pool.storage import spool as module
from producer_pool.storage import writer
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.spool import SpoolStore
from support.spools import Desk, messages_of, numbers_in
from support.streams import until
from support.waiting import BOUND


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_is_a_store(folder: Path) -> None:
    """It is what the engine asks for, without knowing the engine."""
    store: Store = SpoolStore(Spool(folder))

    assert store.place == str(folder)


@pytest.mark.parametrize("sync", [0.0, 0.02, math.inf])
async def test_all_comes_back_after_a_restart(folder: Path, sync: float) -> None:
    """For each producer, what it has not settled: in order, with its origin, from where it stopped."""
    async with Desk(folder, sync=sync) as desk:
        assert desk.join("a", "b") == [Backlog(0, 0, 0, 0)] * 2
        for number in range(1, 6):
            batch = Batch.of([b"%d" % number, b""], origin="tcp://127.0.0.1:7")
            assert await desk.append(batch) == number
        desk.store.move("a", 3)

    async with Desk(folder, sync=sync) as desk:
        size = 2 * (1 + ROW_OVERHEAD)
        assert desk.join("a", "b", "c") == [
            Backlog(3, 5, 4, size),
            Backlog(0, 5, 10, 5 * (1 + ROW_OVERHEAD)),
            Backlog(5, 5, 0, 0),
        ]
        batches, upto = await desk.read("a", 3)
        assert upto == 5
        assert [one.number for one in batches] == [4, 5]
        assert {one.batch.origin for one in batches} == {"tcp://127.0.0.1:7"}
        assert await desk.messages("a", 3) == [b"4", b"", b"5", b""]
        assert len(await desk.messages("b")) == 10
        assert await desk.messages("c", 5) == []
        assert desk.lost == []
        assert await desk.stored(b"6") == 6


async def test_answers_come_in_order(folder: Path) -> None:
    """Whatever is written together, each append() is answered once, in its turn, and not inside of a call."""
    async with Desk(folder) as desk:
        desk.join("a")
        answers = [desk.append(Batch.of([b"x" * (size % 50)])) for size in range(2000)]
        assert desk.numbers == []
        await asyncio.gather(*answers)

        assert desk.numbers == list(range(1, 2001))


async def test_reading_piece_by_piece(folder: Path) -> None:
    """About as much as was asked for comes at once, one batch at the least, and nothing twice."""
    async with Desk(folder) as desk:
        desk.join("a")
        for number in range(20):
            await desk.append(Batch.from_wire(b"%04d\n" % number * 1000, LINES))
        found = []
        after = 0
        while True:
            batches, upto = await desk.read("a", after, most=12_000)
            if not batches:
                break
            assert sum(one.batch.nbytes for one in batches) <= 16_000
            found += messages_of(batches)
            after = upto

        assert found == [b"%04d" % number for number in range(20) for _ in range(1000)]
        assert len((await desk.read("a", 0, most=1))[0]) == 1


async def test_for_some(folder: Path) -> None:
    """Who is not meant gets nothing of it, is not held up by it, and does not keep it there."""
    async with Desk(folder) as desk:
        desk.join("a", "b")
        await desk.stored(b"for all")
        await desk.stored(b"for a", targets=["a"])
        last = await desk.stored(b"for b", targets=["b"])
        assert last is not None

        assert await desk.messages("a") == [b"for all", b"for a"]
        assert await desk.read("b", 3) == ([], 3)
        desk.store.move("a", last)
    async with Desk(folder) as desk:
        assert desk.join("a", "b") == [Backlog(3, 3, 0, 0), Backlog(0, 3, 2, 12 + 2 * ROW_OVERHEAD)]
        assert await desk.messages("b") == [b"for all", b"for b"]
    assert numbers_in(folder) == [1, 3]


async def test_who_joins_later(folder: Path) -> None:
    """What was appended before is not for it, also if it was not yet written then."""
    async with Desk(folder) as desk:
        desk.join("a")
        before = desk.append(Batch.of([b"before"]))
        (backlog,) = desk.join("b")
        assert backlog == Backlog(1, 1, 0, 0)
        await before
        await desk.stored(b"behind")

        assert await desk.messages("b", backlog.after) == [b"behind"]


async def test_who_is_away_for_a_while(folder: Path) -> None:
    """What lay there for it waits for it; what is stored meanwhile is not for it."""
    async with Desk(folder) as desk:
        desk.join("a", "b")
        await desk.stored(b"one")
    async with Desk(folder) as desk:
        desk.join("a")
        assert desk.store.strangers() == {"b": Backlog(0, 1, 1, 3 + ROW_OVERHEAD)}
        await desk.stored(b"two")
    async with Desk(folder) as desk:
        desk.join("a", "b")
        assert desk.store.strangers() == {}
        await desk.stored(b"three")

        assert await desk.messages("b") == [b"one", b"three"]


async def test_who_is_away_and_got_all(folder: Path) -> None:
    """Nothing lies there for it, and so it is no stranger: there is nothing that could be dropped."""
    async with Desk(folder) as desk:
        desk.join("a", "b")
        await desk.stored(b"one")
        desk.store.move("b", 1)
    async with Desk(folder) as desk:
        desk.join("a")
        assert desk.store.strangers() == {}
        assert desk.join("b") == [Backlog(1, 1, 0, 0)]


async def test_who_leaves_for_good(folder: Path) -> None:
    """Nothing is kept for it, and what only it waited for is gone from the disk."""
    async with Desk(folder) as desk:
        desk.join("a", "b")
        await desk.stored(b"x" * 100_000)
        desk.store.move("a", 1)
        desk.store.leave("b")
        assert desk.join("b") == [Backlog(1, 1, 0, 0)]
        await desk.stored(b"y")
    async with Desk(folder) as desk:
        assert desk.join("b") == [Backlog(1, 2, 1, 1 + ROW_OVERHEAD)]
        assert await desk.messages("a") == [b"y"]


async def test_dropping_the_oldest(folder: Path) -> None:
    """As many as needed give way for one producer, and only for it; they stay dropped."""
    async with Desk(folder) as desk:
        desk.join("a", "b")
        for number in range(1, 11):
            await desk.append(Batch.of([b"%04d" % number * 25_000]))
        # Numbers 1 and 2 are in the engine's memory.
        assert await desk.skip("a", 2, 150_000) == (4, 2, 2 * (100_000 + ROW_OVERHEAD))
        assert await desk.skip("a", 4, 1) == (5, 1, 100_000 + ROW_OVERHEAD)
        assert len(await desk.messages("b")) == 10
        desk.store.move("a", 1)
    async with Desk(folder) as desk:
        (backlog, _) = desk.join("a", "b")
        assert backlog == Backlog(1, 10, 6, 6 * (100_000 + ROW_OVERHEAD))
        batches, _ = await desk.read("a", 1)
        assert [one.number for one in batches] == [2, 6, 7, 8, 9, 10]
        assert len(await desk.messages("b")) == 10
        assert desk.lost == []
        # When that of the two in front is settled, all is: the rest of it was dropped.
        desk.store.move("a", 2)
        assert await desk.skip("a", 2, 1 << 40) == (10, 5, 5 * (100_000 + ROW_OVERHEAD))


async def test_what_is_too_old(folder: Path) -> None:
    """Only what is older than it may become is dropped."""
    async with Desk(folder, age=0.05) as desk:
        desk.join("a")
        await desk.stored(b"old")
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 0.06)
        # In a row of its own: rows give way as a whole.
        assert (await desk.skip("a", 0, None))[:2] == (1, 1)
        await desk.stored(b"new")
        dropped = await desk.skip("a", 1, None)
        if time.monotonic() - began < 0.1:  # on a machine that is not too busy
            assert dropped == (1, 0, 0)


async def test_age_goes_on_over_a_restart(folder: Path) -> None:
    """It is counted from when the batch came, on a clock that no wall clock touches."""
    async with Desk(folder) as desk:
        desk.join("a")
        came = time.monotonic()
        await desk.append(Batch.of([b"x"], received=came - 100))
    async with Desk(folder) as desk:
        desk.join("a")
        before = time.monotonic()
        ((stored,), _) = await desk.read("a")
        after = time.monotonic()

        assert 100 <= stored.age <= 100 + after - came + 0.01
        assert before - 0.01 <= stored.batch.received + stored.age <= after + 0.01


async def test_age_starts_anew_after_a_boot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the machine was off is not known without a wall clock, so it does not count."""
    async with Desk(folder) as desk:
        desk.join("a")
        await desk.append(Batch.of([b"x"], received=time.monotonic() - 1000))
    monkeypatch.setattr("producer_pool.storage.keeper.boot_id", lambda: 12345)
    async with Desk(folder) as desk:
        desk.join("a")
        ((stored,), _) = await desk.read("a")

        assert stored.age < 100


async def test_crowded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound in bytes sources should wait, until half of it is written; both is told."""
    monkeypatch.setattr(module, "CROWDED", 1_000_000)
    async with Desk(folder) as desk:
        desk.join("a")
        answers = [desk.append(Batch.of([bytes(100_000)])) for _ in range(12)]
        assert desk.store.crowded
        await asyncio.gather(*answers)
        await until(lambda: not desk.store.crowded)

        assert desk.changes >= 2


async def test_freed_room_is_used_again(folder: Path) -> None:
    """What all are done with is removed, and the file does not grow for what comes next."""
    async with Desk(folder) as desk:
        desk.join("a")
        for _ in range(20):
            numbers = await asyncio.gather(*(desk.append(Batch.of([bytes(100_000)])) for _ in range(10)))
            desk.store.move("a", max(filter(None, numbers)))
            # A later transaction has it removed.
            desk.store._hand_over_moves()
    assert (folder / "spool.db").stat().st_size < 6_000_000


async def test_too_large(folder: Path) -> None:
    """It says by how much; far beyond it takes nothing, says why, and goes on when there is room."""
    async with Desk(folder, size=1 << 20) as desk:
        desk.join("a")
        for _ in range(30):
            await desk.stored(bytes(100_000))
        await until(lambda: desk.store.trouble and desk.store.excess and desk.changes)

        assert desk.numbers[-1] is None
        assert "has its size (1MiB); raise spool-size" in (desk.store.trouble or "")
        upto, _, _ = await desk.skip("a", 0, 1 << 30)
        desk.store.move("a", upto)
        await until(lambda: desk.store.trouble is None and not desk.store.excess)
        assert await desk.stored(b"again") is not None


async def test_numbers_never_come_again(folder: Path) -> None:
    """Also when the database is gone."""
    async with Desk(folder) as desk:
        desk.join("a")
        last = await desk.stored(b"x")
    (folder / "spool.db").unlink()
    async with Desk(folder) as desk:
        desk.join("a")

        assert (await desk.stored(b"y") or 0) > (last or 0)


async def test_closing_twice_and_without_a_start(folder: Path) -> None:
    """Neither hangs, and the folder can be used again."""
    store = SpoolStore(Spool(folder))
    store.open()
    await store.aclose()
    await store.aclose()
    again = SpoolStore(Spool(folder))
    again.open()
    again.close()
    again.close()

    assert not again._folder.in_use


async def test_closing_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow at the end: who waits may go, and the folder is free when it is done."""
    hangs = threading.Event()
    close = Keeper.close

    def slow(keeper: Keeper) -> None:
        assert hangs.wait(BOUND)
        close(keeper)

    monkeypatch.setattr(Keeper, "close", slow)
    store = SpoolStore(Spool(folder))
    store.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await store.aclose()
    assert store._folder.in_use

    hangs.set()
    await until(lambda: not store._folder.in_use)


async def test_one_process_at_a_time(folder: Path) -> None:
    """Somebody else is told who has it."""
    async with Desk(folder):
        with pytest.raises(StorageError, match=f"is in use by process {os.getpid()}; stop that first"):
            SpoolStore(Spool(folder)).open()


async def test_no_call_waits_for_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a transaction hangs in the system, the loop goes on."""
    hangs = threading.Event()
    in_time: list[bool] = []
    commit = writer.Writer._store

    def slow(*arguments: object) -> None:
        in_time.append(hangs.wait(BOUND))
        commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writer.Writer, "_store", staticmethod(slow))
    async with Desk(folder) as desk:
        desk.join("a")
        answer = desk.append(Batch.of([b"x"]))
        desk.store.move("a", 0)
        assert not answer.done()
        hangs.set()
        assert await answer == 1
    assert all(in_time), "a call waited, so that nobody let the disk go on"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_leaves_no_file_open(folder: Path) -> None:
    """Nothing stays open when it is closed."""
    before = len(os.listdir("/proc/self/fd"))
    async with Desk(folder, sync=0.01) as desk:
        desk.join("a")
        await desk.stored(b"x")

    # What tests before this one left to others may just be opened, or closed.
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_where_producers_are_goes_along_with_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy spool is told at once what need not be kept any more; one that is at rest, a little later."""
    monkeypatch.setattr(module, "_MOVES", 1000.0)
    monkeypatch.setattr(module, "_RIDE", 0.0)
    async with Desk(tmp_path) as desk:
        desk.join("a")
        await desk.stored(b"one")
        desk.store.move("a", 1)
        await desk.stored(b"two")
        shutil.copytree(tmp_path, tmp_path / "killed", ignore=shutil.ignore_patterns("reserve", "killed"))

    async with Desk(tmp_path / "killed") as desk:
        assert desk.join("a")[0].after == 1
