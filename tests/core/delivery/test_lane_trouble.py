"""A store whose disk is full, slow, unreadable or damaged: what goes on, in which order, and who is told."""

import asyncio
import logging
from dataclasses import replace

import pytest

from producer_pool.delivery.health import RESUMED_AFTER
from producer_pool.delivery.page import Page
from producer_pool.delivery.writeahead import STRANGERS
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy, Overflow
from producer_pool.model.stats import State
from producer_pool.testing import in_virtual_time
from support.engines import add, check_books, dead, of, until_done
from support.fake_clients import FakeClient
from support.storing import SMALL, Disk, FakeStore, behind, numbered, storing, until_stored

FULL = "no space left on the device; make some"


@in_virtual_time
async def test_full_disk_stops_nothing() -> None:
    """Messages go on from memory, are counted, and their receipts say that they are not stored."""
    store = FakeStore()
    async with storing(store, drain=60.0) as engine:
        client = FakeClient()
        add(engine, "a", client, SMALL)
        store.fault = FULL
        receipt = engine.accept(of(b"one", b"two"))
        await until_done(receipt)
        stats = engine.stats()

        assert client.messages == [b"one", b"two"]
        assert (receipt.stored, receipt.delivered) == (False, True)
        assert (stats.unstored, stats.storage) == (2, FULL)

        store.fault = None
        healed = engine.accept(of(b"three"))
        await until_done(healed)

        assert (healed.stored, engine.stats().storage) == (True, None)


@in_virtual_time
async def test_trouble_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """A line when it begins, a line when it is over, however many messages came in between."""
    store = FakeStore()
    caplog.set_level(logging.INFO)
    async with storing(store) as engine:
        add(engine, "a", FakeClient(), SMALL)
        store.fault = FULL
        for message in numbered(50):
            engine.feed(of(message))
            await asyncio.sleep(0.1)
        store.fault = None
        for message in numbered(50):
            engine.feed(of(message))
            await asyncio.sleep(0.1)

    lines = [record.message for record in caplog.records if record.name.endswith("writeahead")]
    assert lines == [
        f"spool: messages cannot be stored and are kept in memory only: {FULL}",
        "spool: messages are stored again",
    ]


@in_virtual_time
async def test_order_over_a_full_disk() -> None:
    """What could not be stored goes out in its place, between what was stored before and after it."""
    disk = Disk()
    async with storing(FakeStore(disk)) as engine:
        add(engine, "a", dead(), SMALL)
        for message in numbered(100):
            engine.feed(of(message))

    store = FakeStore(disk)
    client = dead()
    async with storing(store, drain=600.0) as engine:
        add(engine, "a", client, replace(SMALL, buffer=40_000))
        sent = 100
        for _ in range(3):
            for _ in range(30):
                engine.feed(of(b"%06d" % sent))
                sent += 1
            await until_stored(store)
            store.fault = FULL
            for _ in range(2):
                engine.feed(of(b"%06d" % sent))
                sent += 1
            await until_stored(store)
            store.fault = None
        check_books(engine.stats())

        assert engine.stats().producers["a"].spooled > 100

        client.unreachable = None
        assert await engine.drain(None)
        assert client.messages == numbered(sent)


@pytest.mark.parametrize(
    "overflow, outcome, which",
    [
        (Overflow.REJECT, Outcome.FAILED, "newest"),
        (Overflow.DROP_NEWEST, Outcome.DROPPED, "newest"),
        (Overflow.DROP_OLDEST, Outcome.DROPPED, "oldest"),
    ],
)
@in_virtual_time
async def test_full_disk_and_full_memory(overflow: Overflow, outcome: Outcome, which: str) -> None:
    """Then the overflow policy applies to what is in memory; what is stored stays."""
    store = FakeStore()
    async with storing(store) as engine:
        add(engine, "a", dead(), replace(SMALL, overflow=overflow))
        stored = [engine.accept(of(message)) for message in numbered(50)]
        await until_stored(store)
        store.fault = FULL
        receipts = [engine.accept(of(message)) for message in numbered(20)]
        await until_stored(store)
        outcomes = [receipt._page.results(0)["a"].outcome for receipt in receipts]
        count = outcomes.count(outcome)
        rest = [Outcome.PENDING] * (20 - count)

        assert count > 0
        assert outcomes == ([outcome] * count + rest if which == "oldest" else rest + [outcome] * count)
        assert all(receipt._page.results(0)["a"].outcome is Outcome.PENDING for receipt in stored)
        assert engine.budget.used <= 2 * 4_000


@in_virtual_time
async def test_full_disk_and_full_memory_block_the_source() -> None:
    """With Overflow.BLOCK nothing is lost: the source waits until memory has room."""
    store = FakeStore()
    client = dead()
    async with storing(store, drain=600.0) as engine:
        add(engine, "a", client, replace(SMALL, overflow=Overflow.BLOCK))
        store.fault = FULL
        sent = 0
        while not engine.paused:
            engine.feed(of(b"%06d" % sent))
            sent += 1
            await until_stored(store)
        assert sent < 12
        client.unreachable = None
        await engine.resumed()

        assert await engine.drain(None)
        assert client.messages == numbered(sent)


@in_virtual_time
async def test_pool_that_is_full_and_cannot_store() -> None:
    """The pool's own bound holds in memory, as without a store."""
    store = FakeStore()
    async with storing(store, buffer=10_000) as engine:
        add(engine, "a", dead(), replace(SMALL, buffer=10**6))
        store.fault = FULL
        receipts = [engine.accept(of(message)) for message in numbered(100)]
        await until_stored(store)
        failed = [receipt for receipt in receipts if receipt.done]

        assert engine.budget.used <= 10_000 + 600
        assert len(failed) > 70
        assert "the pool's buffer" in str(failed[-1]._page.results(0)["a"].error)


@in_virtual_time
async def test_store_that_is_behind_has_sources_wait() -> None:
    """Until its disk has caught up; then they go on."""
    store = FakeStore(latency=5.0, crowd=2_000)
    async with storing(store, drain=60.0) as engine:
        client = FakeClient()
        add(engine, "a", client, SMALL)
        told = 0

        def tell() -> None:
            nonlocal told
            told += 1

        engine.on_blocked.append(tell)
        for message in numbered(5):
            engine.feed(of(message))
        await asyncio.sleep(0.1)

        assert engine.paused
        assert engine.jam == "the spool"
        assert told

        await asyncio.sleep(2.0)
        health = engine.health()["a"]

        assert (health.state, "the spool is behind" in health.reason) == (State.PAUSED, True)

        await engine.resumed()

        assert not engine.jam
        assert store.disk.last == 5


@in_virtual_time
async def test_store_is_behind_whatever_ends_before() -> None:
    """One that need not wait for its own sake any more still waits; so does one that comes meanwhile."""
    store = FakeStore(latency=5.0, crowd=2_000)
    async with storing(store, drain=60.0) as engine:
        producer = add(engine, "a", FakeClient(), SMALL)
        for message in numbered(5):
            engine.feed(of(message))
        await asyncio.sleep(0.1)
        engine.lane_blocked(producer, "its quota is full")
        await asyncio.sleep(1.5)
        blocked = engine.health()["a"].reason
        engine.lane_blocked(producer, "")
        add(engine, "b", FakeClient(), SMALL)
        await asyncio.sleep(1.5)

        assert "its quota is full" in blocked
        for health in engine.health().values():
            assert (health.state, "the spool is behind" in health.reason) == (State.PAUSED, True)

        await engine.resumed()
        await asyncio.sleep(RESUMED_AFTER)

        assert not [health for health in engine.health().values() if health.state is State.PAUSED]


@in_virtual_time
async def test_bytes_on_their_way_to_the_disk_are_counted() -> None:
    """They are in memory, and so in the pool's budget; the producers' books have them as pending."""
    store = FakeStore(latency=60.0)
    async with storing(store, drain=600.0) as engine:
        add(engine, "a", FakeClient(), SMALL)
        batch = of(b"x" * 1000)
        engine.feed(batch)

        assert engine.budget.used == batch.cost
        assert engine.stats().producers["a"].pending == 1
        assert engine.stats().producers["a"].pending_bytes > 1000


@in_virtual_time
async def test_damaged_batches_are_failed_and_the_rest_goes_on() -> None:
    """Each is counted, and its receipt says that it is gone, and why."""
    async with behind(50) as (engine, store, client, receipts):
        for number in (20, 21, 35, 50):
            store.lose(number)
        client.unreachable = None
        assert await engine.drain(None)
        stats = engine.stats().producers["a"]
        gone = [receipts[number - 1]._page.results(0)["a"] for number in (20, 21, 35, 50)]

        assert (stats.failed, stats.delivered, stats.pending) == (4, 46, 0)
        assert [result.outcome for result in gone] == [Outcome.FAILED] * 4
        assert all("the page is damaged" in str(result.error) for result in gone)
        assert client.messages == [m for n, m in enumerate(numbered(50)) if n + 1 not in (20, 21, 35, 50)]


@in_virtual_time
async def test_store_that_loses_without_a_word() -> None:
    """What was said to lie there, and does not come, is FAILED when all has been read."""
    async with behind(50) as (engine, store, client, receipts):
        del store.disk.rows[30], store.disk.rows[50]
        client.unreachable = None
        assert await engine.drain(None)
        stats = engine.stats().producers["a"]

        assert (stats.failed, stats.delivered, stats.pending) == (2, 48, 0)
        assert receipts[29]._page.results(0)["a"].outcome is Outcome.FAILED
        assert receipts[49]._page.results(0)["a"].outcome is Outcome.FAILED


@in_virtual_time
async def test_store_that_cannot_be_read_for_a_while() -> None:
    """It is asked again, now and then; nothing is lost or passed over."""
    async with behind(50) as (engine, store, client, _):
        store.unreadable = True
        client.unreachable = None
        await asyncio.sleep(60.0)
        before = store.reads
        store.unreadable = False

        assert 50 < before < 200
        assert await engine.drain(None)
        assert client.messages == numbered(50)


@in_virtual_time
async def test_end_stores_what_is_queued() -> None:
    """What was taken is stored before the end, however slow the disk, within the bound."""
    disk = Disk()
    async with storing(FakeStore(disk, latency=0.5)) as engine:
        add(engine, "a", dead(), SMALL)
        receipt = engine.accept(of(b"one"))

    assert receipt.stored
    assert disk.messages("a") == [b"one"]


@in_virtual_time
async def test_end_of_a_disk_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It ends within its bound, says what was not stored, and every message has its outcome."""
    store = FakeStore(latency=3600.0)
    began = asyncio.get_running_loop().time()
    async with storing(store) as engine:
        add(engine, "a", dead(), SMALL)
        receipt = engine.accept(of(b"one"))

    assert asyncio.get_running_loop().time() - began < 5.0
    assert (receipt.stored, receipt._page.results(0)["a"].outcome) == (False, Outcome.CANCELLED)
    assert "spool: 1 message not stored within" in caplog.text
    assert "not closed within" in caplog.text
    store.crash()


@in_virtual_time
async def test_batch_that_comes_after_the_end() -> None:
    """It is CANCELLED, and so settled."""
    async with storing(FakeStore()) as engine:
        add(engine, "a", FakeClient(), SMALL)
        await engine.aclose(0)
        receipt = engine.accept(of(b"late"))

        assert receipt._page.results(0)["a"].outcome is Outcome.CANCELLED
        assert receipt.stored is False


@in_virtual_time
async def test_messages_of_somebody_who_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Once, a line names the producer, says how much lies there for it, and how to drop it."""
    disk = Disk()
    async with storing(FakeStore(disk)) as engine:
        for name in ("here", "gone"):
            add(engine, name, dead(), SMALL)
        for message in numbered(3):
            engine.feed(of(message))
    caplog.clear()
    async with storing(FakeStore(disk)) as engine:
        add(engine, "here", dead(), SMALL)
        await asyncio.sleep(10 * STRANGERS)

    lines = [record.message for record in caplog.records if "gone" in record.message]
    assert lines == [
        "3 messages, 210 bytes, lie in the spool for gone, which is no producer here; add it, or drop them: "
        "producer-pool spool forget fake-spool gone"
    ]


@in_virtual_time
async def test_policy_that_gives_up_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever adds such a producer to a pool that stores is told that this keeps nothing for it."""
    async with storing(FakeStore()) as engine:
        add(engine, "direct", FakeClient(), DeliveryPolicy.direct())
        add(engine, "relay", FakeClient(), SMALL)

    lines = [record.message for record in caplog.records if "after one attempt" in record.message]
    assert [line.partition(":")[0] for line in lines] == ["direct"]


@in_virtual_time
async def test_pool_without_producers_has_nothing_to_store() -> None:
    """Nothing of such a message is missing on the disk."""
    async with storing(FakeStore()) as engine:
        receipt = engine.accept(of(b"to nobody"))

        assert (receipt.stored, receipt.done) == (True, True)


@in_virtual_time
async def test_producer_that_was_removed_meanwhile() -> None:
    """A message for it is CANCELLED; the others get it."""
    async with storing(FakeStore(), drain=60.0) as engine:
        client = FakeClient()
        add(engine, "a", client, SMALL)
        page = Page(None, ("a", "b"), tracked=True)
        engine.take(page, of(b"one"))
        assert await engine.drain(None)

        assert client.messages == [b"one"]
        assert page.results(0)["b"].outcome is Outcome.CANCELLED
