"""One producer's way out of a store: in order, in memory only as far as there is room, each one told of."""

import asyncio
import gc
from functools import partial

from producer_pool.delivery.engine import Engine
from producer_pool.delivery.page import Page
from producer_pool.delivery.receipts import Receipt
from producer_pool.delivery.submitlog import OpenPage, SubmitLog
from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy, Limits, Retry
from producer_pool.testing import in_virtual_time
from support.engines import add, dead, of, until_done
from support.fake_clients import FakeClient, FakePipelinedClient
from support.storing import HOLDING, SMALL, Disk, FakeStore, behind, numbered, storing, until_stored


@in_virtual_time
async def test_batch_goes_out_when_it_is_stored() -> None:
    """Nobody gets what is not stored; then everybody does, and the receipt says that it is stored."""
    client = FakePipelinedClient()
    store = FakeStore(latency=1.0)
    async with storing(store, drain=5.0) as engine:
        add(engine, "a", client, HOLDING)
        receipt = engine.accept(of(b"one", b"two"))
        await asyncio.sleep(0.9)

        assert (receipt.stored, client.messages) == (False, [])
        assert engine.stats().producers["a"].pending == 2

        await asyncio.sleep(0.2)

        assert (receipt.stored, receipt.delivered, client.messages) == (True, True, [b"one", b"two"])


@in_virtual_time
async def test_full_outbox_falls_behind_and_catches_up() -> None:
    """What there is no room for lies in the store only, and comes out of it in order when there is room."""
    client = dead()
    store = FakeStore()
    async with storing(store, drain=60.0) as engine:
        add(engine, "a", client, SMALL)
        receipts = [engine.accept(of(message)) for message in numbered(100)]
        await until_stored(store)
        stats = engine.stats().producers["a"]

        assert stats.pending == 100
        assert stats.spooled > 90
        assert engine.budget.used <= 4_000

        client.unreachable = None
        await asyncio.gather(*map(until_done, receipts))

        assert client.messages == numbered(100)
        assert all(receipt.delivered for receipt in receipts)


@in_virtual_time
async def test_order_of_old_and_new() -> None:
    """What comes while the rest is read back goes out behind it."""
    async with behind(50) as (engine, _, client, _):
        client.unreachable = None
        for message in numbered(50, first=50):
            engine.feed(of(message))
            await asyncio.sleep(0.01)

        assert await engine.drain(None)
        assert client.messages == numbered(100)


@in_virtual_time
async def test_restart_begins_with_what_was_not_delivered() -> None:
    """After a crash, what was stored and not settled goes out before anything new."""
    store = FakeStore()
    engine = Engine(Limits(), store)
    add(engine, "a", dead(), SMALL)
    for message in numbered(20):
        engine.feed(of(message))
    await until_stored(store)
    disk = store.crash()
    await engine.aclose(0)

    client = FakeClient()
    async with storing(FakeStore(disk), drain=60.0) as engine:
        add(engine, "a", client, SMALL)
        engine.feed(of(b"new"))

        assert engine.stats().producers["a"].accepted == 21
        assert await engine.drain(None)
        assert client.messages == [*numbered(20), b"new"]


@in_virtual_time
async def test_orderly_restart_sends_nothing_twice() -> None:
    """What was delivered before an orderly end lies behind the cursor."""
    disk = Disk()
    client = FakeClient()
    for first in (0, 10, 20):
        async with storing(FakeStore(disk), drain=60.0) as engine:
            add(engine, "a", client, SMALL)
            for message in numbered(10, first):
                engine.feed(of(message))
            await engine.drain(None)

    assert client.messages == numbered(30)
    assert disk.messages("a") == []


@in_virtual_time
async def test_close_keeps_what_is_left() -> None:
    """What an end leaves is CANCELLED here, says that it is stored, and goes out at the next start."""
    disk = Disk()
    async with storing(FakeStore(disk)) as engine:
        add(engine, "a", dead(), SMALL)
        receipts = [engine.accept(of(message)) for message in numbered(20)]
        await engine.aclose(0)
        stats = engine.stats().producers["a"]

        assert (stats.cancelled, stats.left_stored, stats.spooled) == (20, 20, 0)
        for receipt in receipts:
            result = receipt._page.results(0)["a"]
            assert result.outcome is Outcome.CANCELLED
            assert "it is stored, and goes out at the next start" in str(result.error)

    client = FakeClient()
    async with storing(FakeStore(disk), drain=60.0) as engine:
        add(engine, "a", client, SMALL)

    assert client.messages == numbered(20)


@in_virtual_time
async def test_cursor_stays_before_what_is_in_flight() -> None:
    """What the consumer has not confirmed goes out again after a crash, and so does all behind it."""
    store = FakeStore()
    engine = Engine(Limits(), store)
    client = FakePipelinedClient(confirms_after=3600.0, timeout=7200.0)
    add(engine, "a", client, DeliveryPolicy(deadline=86_400.0, retry=Retry(), ack=None))
    for message in numbered(5):
        engine.feed(of(message))
    await asyncio.sleep(10.0)
    disk = store.crash()
    await engine.aclose(0)

    assert client.messages == numbered(5)
    assert disk.messages("a") == numbered(5)


@in_virtual_time
async def test_removed_producer_leaves_nothing() -> None:
    """A producer that is removed drains first; then nothing is kept for it."""
    disk = Disk()
    store = FakeStore(disk)
    async with storing(store, drain=60.0) as engine:
        client = FakeClient()
        add(engine, "a", client, SMALL)
        add(engine, "b", dead(), SMALL)
        for message in numbered(20):
            engine.feed(of(message))
        await engine.remove("a", 60.0)
        await engine.remove("b", 0.0)

        assert client.messages == numbered(20)
        assert engine.stats().producers == {}

    assert disk.cursors == {}


@in_virtual_time
async def test_batch_for_some_comes_back_for_them_only() -> None:
    """What was meant for one producer is not read back for another."""
    disk = Disk()
    async with storing(FakeStore(disk)) as engine:
        for name in "ab":
            add(engine, name, dead(), SMALL)
        engine.feed(of(b"for both"))
        engine.take(Page(None, ("a",), tracked=True), of(b"for a"))

    clients = {name: FakeClient() for name in "ab"}
    async with storing(FakeStore(disk), drain=60.0) as engine:
        for name, client in clients.items():
            add(engine, name, client, SMALL)

    assert clients["a"].messages == [b"for both", b"for a"]
    assert clients["b"].messages == [b"for both"]


@in_virtual_time
async def test_large_batch_gets_into_an_empty_outbox() -> None:
    """What is larger than the buffer loses nothing: it is stored, and goes out alone."""
    client = FakeClient()
    async with storing(FakeStore(), drain=60.0) as engine:
        add(engine, "a", client, SMALL)
        engine.feed(of(*[b"x" * 100] * 200))
        engine.feed(of(*[b"y" * 100] * 200))
        assert await engine.drain(None)

    assert client.messages == [b"x" * 100] * 200 + [b"y" * 100] * 200


@in_virtual_time
async def test_deadline_is_that_of_the_acceptance() -> None:
    """What lay in the store for too long fails when it comes out, and at no other time than in memory."""
    store = FakeStore()
    async with storing(store, drain=0.0) as engine:
        policy = DeliveryPolicy(deadline=60.0, retry=Retry(max_backoff=1.0), buffer=4_000)
        add(engine, "a", dead(), policy)
        receipts = [engine.accept(of(message)) for message in numbered(50)]
        await asyncio.sleep(59.0)

        assert engine.stats().producers["a"].failed == 0

        await asyncio.sleep(2.0)
        stats = engine.stats().producers["a"]

        assert (stats.failed, stats.pending) == (50, 0)
        assert all("within 1m" in str(receipt._page.results(0)["a"].error) for receipt in receipts)


@in_virtual_time
async def test_accepted_batch_that_nobody_asks_for_costs_nothing() -> None:
    """A listener that has acknowledged what is stored lets go of the receipt; one that is to be told is."""
    store = FakeStore()
    client = dead()
    told: list[int] = []
    async with storing(store, drain=600.0) as engine:
        producer = add(engine, "a", client, SMALL)
        for message in numbered(40):
            engine.accept(of(message))
        for message in numbered(10, first=40):
            engine.accept(of(message)).when_done(partial(told.append, int(message)))
        await until_stored(store)
        gc.collect()
        assert engine._ahead is not None

        assert len(engine._ahead.lane_of(producer)._awaited._weak) == 10

        client.unreachable = None
        assert await engine.drain(None)
        await asyncio.sleep(0)

        assert told == list(range(40, 50))
        assert not engine._held


def submit(log: SubmitLog[Receipt], engine: Engine, message: bytes) -> Receipt:
    receipt = log.append(("a",), message)
    (page,) = log.swap()
    assert isinstance(page, OpenPage)
    engine.take(page, Batch.owning(page.give_away()))
    return receipt


@in_virtual_time
async def test_receipt_that_nobody_holds_costs_nothing() -> None:
    """Pages of what only lies in the store go with their last receipt."""
    log: SubmitLog[Receipt] = SubmitLog(lambda: None, Receipt)
    log.stores = True
    store = FakeStore()
    async with storing(store) as engine:
        producer = add(engine, "a", dead(), SMALL)
        held = [submit(log, engine, message) for message in numbered(50)]
        await until_stored(store)
        assert all(receipt.stored for receipt in held)
        del held[:40]
        gc.collect()
        assert engine._ahead is not None
        awaited = engine._ahead.lane_of(producer)._awaited

        assert len(awaited._weak) == 10
        assert all(receipt._page.batch is None for receipt in held)
