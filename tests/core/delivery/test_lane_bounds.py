"""How much may lie in a store for one producer, and what happens beyond that."""

import asyncio
from dataclasses import replace

import pytest

from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy, Overflow, Role
from producer_pool.model.stored import ROW_OVERHEAD
from producer_pool.testing import in_virtual_time
from support.engines import add, dead, of
from support.fake_clients import FakeClient, FakePipelinedClient
from support.storing import SMALL, FakeStore, numbered, storing, until_stored

ROW = ROW_OVERHEAD + 6
"""What each of the numbered messages takes."""


def quota(overflow: Overflow, rows: int = 20) -> DeliveryPolicy:
    return replace(SMALL, overflow=overflow, spool_quota=rows * ROW)


def outcomes_of(receipts: list[BatchReceipt], producer_id: str = "a") -> list[Outcome]:
    return [receipt._page.results(0)[producer_id].outcome for receipt in receipts]


@pytest.mark.parametrize(
    "overflow, outcome", [(Overflow.REJECT, Outcome.FAILED), (Overflow.DROP_NEWEST, Outcome.DROPPED)]
)
@in_virtual_time
async def test_full_quota_refuses_the_newest(overflow: Overflow, outcome: Outcome) -> None:
    """What does not fit is settled at once, and is not stored for this producer; another one gets it."""
    store = FakeStore()
    async with storing(store, drain=60.0) as engine:
        client = FakeClient()
        add(engine, "a", dead(), quota(overflow))
        add(engine, "b", client, SMALL)
        receipts = []
        for message in numbered(30):
            receipts.append(engine.accept(of(message)))
            await until_stored(store)

        assert outcomes_of(receipts) == [Outcome.PENDING] * 20 + [outcome] * 10
        assert "its quota of" in str(receipts[-1]._page.results(0)["a"].error)
        assert "spool-quota=" in str(receipts[-1]._page.results(0)["a"].error)
        assert client.messages == numbered(30)
        assert [receipt.stored for receipt in receipts] == [True] * 30
        assert store.disk.messages("a") == numbered(20)


@in_virtual_time
async def test_batch_that_nobody_may_store_is_not_stored() -> None:
    """Its receipt says so at once."""
    store = FakeStore()
    async with storing(store) as engine:
        add(engine, "a", dead(), quota(Overflow.REJECT, rows=1))
        first, second = engine.accept(of(b"000000")), engine.accept(of(b"000001"))
        told = asyncio.Event()
        second.when_stored(told.set)
        await asyncio.sleep(0)

        assert told.is_set()
        assert (first.stored, second.stored, second.done) == (False, False, True)


@in_virtual_time
async def test_full_quota_drops_the_oldest_on_disk() -> None:
    """They are DROPPED, the newest come in, and what goes out afterwards is in order."""
    store = FakeStore()
    client = dead()
    async with storing(store, drain=600.0) as engine:
        add(engine, "a", client, quota(Overflow.DROP_OLDEST))
        receipts = []
        for message in numbered(100):
            receipts.append(engine.accept(of(message)))
            await until_stored(store)
        stats = engine.stats().producers["a"]

        assert stats.dropped >= 80
        assert stats.pending <= 20
        assert outcomes_of(receipts)[-1] is Outcome.PENDING

        client.unreachable = None
        assert await engine.drain(None)
        outcomes = outcomes_of(receipts)
        delivered = [n for n, outcome in enumerate(outcomes) if outcome is Outcome.DELIVERED]

        assert [int(message) for message in client.messages] == delivered
        assert delivered[-10:] == list(range(90, 100))
        dropped = receipts[outcomes.index(Outcome.DROPPED)]._page.results(0)["a"]
        assert "the oldest messages in it were dropped" in str(dropped.error)


@in_virtual_time
async def test_quota_below_the_buffer_drops_from_memory() -> None:
    """Where nothing lies on the disk only, the oldest waiting batch in memory gives way."""
    store = FakeStore()
    async with storing(store) as engine:
        policy = replace(quota(Overflow.DROP_OLDEST), buffer=10**6)
        add(engine, "a", dead(), policy)
        receipts = []
        for message in numbered(30):
            receipts.append(engine.accept(of(message)))
            await until_stored(store)

        assert outcomes_of(receipts) == [Outcome.DROPPED] * 10 + [Outcome.PENDING] * 20


@in_virtual_time
async def test_full_quota_blocks_the_source() -> None:
    """Until half of it is free; nothing is lost."""
    store = FakeStore()
    client = dead()
    async with storing(store, drain=600.0) as engine:
        add(engine, "a", client, quota(Overflow.BLOCK))
        sent = 0
        while not engine.paused:
            engine.feed(of(b"%06d" % sent))
            sent += 1
            await until_stored(store)

        assert engine.blocked == {"a"}
        assert 20 <= sent <= 22

        client.unreachable = None
        await engine.resumed()

        assert engine.stats().producers["a"].pending <= 11
        assert await engine.drain(None)
        assert client.messages == numbered(sent)


@in_virtual_time
async def test_removed_producer_blocks_nobody() -> None:
    """A source that waited for it goes on."""
    store = FakeStore()
    async with storing(store) as engine:
        add(engine, "a", dead(), quota(Overflow.BLOCK, rows=1))
        for message in numbered(3):
            engine.feed(of(message))
        before = engine.paused
        removing = engine.remove("a", 10.0)

        assert (before, engine.paused) == (True, False)

        await removing


@in_virtual_time
async def test_store_that_is_too_large() -> None:
    """The largest backlog gives way, by its own policy, and nobody else's does."""
    store = FakeStore()
    async with storing(store) as engine:
        add(engine, "large", dead(), replace(SMALL, overflow=Overflow.DROP_OLDEST))
        add(engine, "small", dead(), replace(SMALL, overflow=Overflow.DROP_OLDEST, buffer=20_000))
        for message in numbered(50):
            engine.feed(of(message))
            await until_stored(store)
        store.change(excess=10 * ROW)
        await until_stored(store)
        store.change(excess=0)
        stats = engine.stats().producers

        assert stats["large"].dropped == 10
        assert stats["small"].dropped == 0


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.BLOCK])
@in_virtual_time
async def test_store_that_is_too_large_for_one_that_drops_nothing(overflow: Overflow) -> None:
    """It refuses what is new, or has its source wait, until the store is small enough."""
    store = FakeStore()
    async with storing(store) as engine:
        add(engine, "a", dead(), replace(SMALL, overflow=overflow))
        for message in numbered(50):
            engine.feed(of(message))
            await until_stored(store)
        store.change(excess=1)
        await asyncio.sleep(0)
        refused = engine.accept(of(b"new")) if overflow is Overflow.REJECT else None

        assert engine.paused is (overflow is Overflow.BLOCK)
        if refused is not None:
            assert "the spool is full" in str(refused._page.results(0)["a"].error)

        store.change(excess=0)
        await until_stored(store)
        later = engine.accept(of(b"later"))

        assert not engine.paused
        assert outcomes_of([later]) == [Outcome.PENDING]
        assert engine.stats().producers["a"].dropped == 0


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.BLOCK])
@in_virtual_time
async def test_store_that_is_too_large_for_what_is_in_an_outbox(overflow: Overflow) -> None:
    """Who is away gives way, though all that is stored for it is in memory too; who is there does not."""
    store = FakeStore()
    async with storing(store) as engine:
        client = FakeClient()
        add(engine, "here", client, replace(SMALL, overflow=Overflow.REJECT))
        add(engine, "away", dead(), replace(SMALL, overflow=overflow, buffer=10**6))
        for message in numbered(50):
            engine.feed(of(message))
            await until_stored(store)
        store.change(excess=1)
        await asyncio.sleep(0)
        engine.feed(of(b"new"))
        await until_stored(store)
        stats = engine.stats().producers

        assert engine.blocked == ({"away"} if overflow is Overflow.BLOCK else set())
        assert stats["away"].failed == (overflow is Overflow.REJECT)
        assert (stats["here"].delivered, stats["here"].failed) == (51, 0)


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.BLOCK, Overflow.DROP_OLDEST])
@in_virtual_time
async def test_store_that_is_too_large_for_a_stranger(overflow: Overflow) -> None:
    """Nobody who is there suffers for what lies there for one who is not."""
    store = FakeStore()
    async with storing(store) as engine:
        add(engine, "old", dead(), SMALL)
        for message in numbered(50):
            engine.feed(of(message))
            await until_stored(store)
    again = FakeStore(store.disk)
    async with storing(again) as engine:
        client = FakeClient()
        add(engine, "new", client, replace(SMALL, overflow=overflow))
        again.change(excess=1)
        for message in numbered(10):
            engine.feed(of(message))
            await until_stored(again)

        assert not engine.paused
        assert client.messages == numbered(10)


@in_virtual_time
async def test_old_messages_are_given_up() -> None:
    """What is older than a stored message may become fails, with the reason, though its deadline is later."""
    store = FakeStore(age=3600.0)
    async with storing(store) as engine:
        add(engine, "a", dead(), SMALL)
        receipts = [engine.accept(of(message)) for message in numbered(50)]
        await asyncio.sleep(3000.0)
        engine.feed(of(b"younger"))
        assert engine.stats().producers["a"].failed == 0
        await asyncio.sleep(700.0)
        stats = engine.stats().producers["a"]

        assert stats.failed > 40
        assert stats.spooled == 1
        assert "spool-age=" in str(receipts[-1]._page.results(0)["a"].error)


@in_virtual_time
async def test_memory_stays_within_the_pool() -> None:
    """However many consumers are down, memory is within the pool's own buffer, and what is on its way."""
    store = FakeStore()
    async with storing(store, buffer=40_000) as engine:
        for number in range(10):
            add(engine, f"p{number}", dead(), replace(SMALL, buffer=10**6))
        for number in range(300):
            engine.feed(of(b"%06d" % number))
            await until_stored(store)
            assert engine.budget.used <= 40_000 + 10 * 600

        assert all(each.pending == 300 for each in engine.stats().producers.values())


@in_virtual_time
async def test_dead_consumer_does_not_fill_the_memory_of_others() -> None:
    """At the pool's own bound, the one with the largest backlog goes to the disk; others go on."""
    store = FakeStore()
    client = FakePipelinedClient()
    async with storing(store, buffer=20_000, drain=60.0) as engine:
        add(engine, "dead", dead(), replace(SMALL, buffer=10**6))
        add(engine, "alive", client, replace(SMALL, buffer=10**6))
        for number in range(200):
            engine.feed(of(b"%06d" % number))
            await until_stored(store)

        assert client.messages == numbered(200)
        assert engine.stats().producers["dead"].spooled > 150


@in_virtual_time
async def test_shadow_is_not_waited_for() -> None:
    """Its backlog in the store keeps no drain, and no receipt, waiting."""
    store = FakeStore()
    async with storing(store) as engine:
        client = FakeClient()
        add(engine, "a", client, SMALL)
        add(engine, "shadow", dead(), replace(SMALL, role=Role.SHADOW))
        receipts = [engine.accept(of(message)) for message in numbered(50)]

        assert await engine.drain(5.0)
        assert client.messages == numbered(50)
        assert all(receipt.done and receipt.delivered for receipt in receipts)
        assert engine.stats().producers["shadow"].pending == 50
