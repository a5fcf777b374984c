"""The pool's own bound, and producers whose source has to wait."""

import asyncio
from typing import Any

import pytest

from producer_pool.delivery.page import Page
from producer_pool.model.errors import Full
from producer_pool.model.policies import DeliveryPolicy, Overflow, Role
from producer_pool.testing import in_virtual_time
from support.engines import add, check_books, dead, engine, of, outcomes
from support.fake_clients import FakeClient, FakePipelinedClient

KiB = 1024
RELAY = DeliveryPolicy.relay()
FULL: Any = {"buffer": 100 * KiB}
BATCH = b"x" * (KiB - 512)


@in_virtual_time
async def test_batches_that_sources_should_make() -> None:
    """Many fit into the smallest buffer that there is now, or into the pool's, if there is no producer."""
    async with engine(buffer=3200 * KiB) as it:
        alone = it.bite
        add(it, "large", FakePipelinedClient(), DeliveryPolicy(buffer=1600 * KiB))
        add(it, "small", FakePipelinedClient(), DeliveryPolicy(buffer=320 * KiB))
        both = it.bite
        await it.remove("small", 0.0)

        assert [alone, both, it.bite] == [200 * KiB, 20 * KiB, 100 * KiB]


# -- the pool's own bound --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overflow,fate",
    [(Overflow.REJECT, "failed"), (Overflow.DROP_NEWEST, "dropped"), (Overflow.DROP_OLDEST, "dropped")],
)
@in_virtual_time
async def test_largest_backlog_at_the_bound(overflow: Overflow, fate: str) -> None:
    """The dead one applies its own overflow; the healthy one loses nothing, and the bound holds."""
    healthy = FakePipelinedClient()
    policy = DeliveryPolicy(overflow=overflow, deadline=3600)
    async with engine(**FULL) as it:
        add(it, "dead", dead(), policy)
        add(it, "healthy", healthy, policy)
        await asyncio.sleep(1)
        receipts = []
        for _ in range(300):
            receipts.append(it.accept(of(BATCH)))
            check_books(it.stats())

            assert it.budget.used <= 100 * KiB
        lost = [outcomes(receipt)["dead"] for receipt in receipts]

        assert len(healthy.messages) == 300
        assert lost.count(fate) == 200
        assert (lost[0] == fate) == (overflow is Overflow.DROP_OLDEST)
        assert it.stats().producers["healthy"].delivered == 300


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
@in_virtual_time
async def test_shadow_at_the_bound(overflow: Overflow) -> None:
    """It gives way before the others do, though its backlog is the smaller one, whatever its policy says."""
    slow = FakePipelinedClient(room=0, timeout=10**5)
    async with engine(**FULL) as it:
        add(it, "required", slow, RELAY)
        await asyncio.sleep(1)
        for _ in range(50):
            it.feed(of(BATCH))
        add(it, "shadow", dead(), DeliveryPolicy(role=Role.SHADOW, overflow=overflow, deadline=3600))
        # To different producers, so that each batch is held by one alone.
        for number in range(100):
            page = Page(None, ("shadow" if number < 49 else "required",), tracked=False)
            it.take(page, of(BATCH))

            assert it.budget.used <= 100 * KiB
        stats = it.stats().producers

        assert stats["shadow"].dropped + stats["shadow"].failed == 49
        assert stats["required"].dropped == 1


@in_virtual_time
async def test_error_at_the_bound() -> None:
    """It names the pool's buffer, and not that of the producer."""
    async with engine(**FULL) as it:
        add(it, "dead", dead(), DeliveryPolicy(deadline=3600))
        receipts = [it.accept(of(BATCH)) for _ in range(110)]
        error = receipts[-1]._page.results(0)["dead"].error

        assert isinstance(error, Full)
        assert "the pool's buffer of 100KiB is full" in str(error)


@in_virtual_time
async def test_small_backlogs_at_the_bound() -> None:
    """Who holds less than a fair share goes on, although a batch is larger than that share."""
    slow = FakePipelinedClient(confirms_after=0.5)
    async with engine(**FULL) as it:
        add(it, "dead", dead(), DeliveryPolicy(deadline=3600))
        for number in range(200):
            add(it, f"healthy{number}", FakePipelinedClient())
        add(it, "slow", slow, RELAY)
        await asyncio.sleep(1)
        for _ in range(110):
            it.feed(of(BATCH))
            await asyncio.sleep(1)
        stats = it.stats().producers

        assert stats["dead"].failed > 0
        assert stats["slow"].delivered == 110
        assert {stats[f"healthy{number}"].delivered for number in range(200)} == {110}


@in_virtual_time
async def test_two_dead_ones_at_the_bound() -> None:
    """Both hold the same batches, so both let go of the oldest."""
    async with engine(**FULL) as it:
        add(it, "one", dead(), RELAY)
        add(it, "two", dead(), RELAY)
        for _ in range(300):
            it.feed(of(BATCH))

            assert it.budget.used <= 100 * KiB
        stats = it.stats().producers

        assert {200, 202} >= {stats["one"].dropped, stats["two"].dropped}


@in_virtual_time
async def test_blocking_at_the_bound() -> None:
    """The source waits until there is room again, well below the bound."""
    blocks = FakePipelinedClient(room=0, timeout=10**5)
    policy = DeliveryPolicy(overflow=Overflow.BLOCK, deadline=10**6)
    async with engine(**FULL) as it:
        add(it, "blocks", blocks, policy)
        await asyncio.sleep(1)
        fed = 0
        while not it.paused:
            it.feed(of(BATCH))
            fed += 1

        assert 100 <= fed <= 102

        blocks.make_room(40)

        assert it.paused

        blocks.make_room(20)

        assert not it.paused


# -- Overflow.BLOCK --------------------------------------------------------------------------------


@in_virtual_time
async def test_source_that_has_to_wait() -> None:
    """It is paused at the bound and resumed at half of it; what it feeds meanwhile is taken."""
    client = FakePipelinedClient(room=0, timeout=10**5)
    async with engine() as it:
        add(it, "blocks", client, DeliveryPolicy(buffer=8 * KiB, overflow=Overflow.BLOCK, deadline=10**6))
        await asyncio.sleep(1)
        for _ in range(8):
            assert not it.paused
            it.feed(of(BATCH))

        assert it.paused
        assert it.blocked == {"blocks"}

        it.feed(of(b"read before it could be stopped"))
        resumed = asyncio.create_task(it.resumed())
        client.make_room(4)
        await asyncio.sleep(0)

        assert not resumed.done()

        client.make_room(1)
        await resumed

        assert not it.paused


@in_virtual_time
async def test_blocking_producer_is_removed() -> None:
    """The source goes on at once, and not when it has been drained."""
    client = FakePipelinedClient(room=0, timeout=10**5)
    async with engine() as it:
        add(it, "blocks", client, DeliveryPolicy(buffer=2 * KiB, overflow=Overflow.BLOCK))
        add(it, "other", FakeClient())
        it.feed(of(BATCH))
        it.feed(of(BATCH))
        waiting = asyncio.create_task(it.room_for(("blocks",)))
        await asyncio.sleep(0)
        leaving = it.remove("blocks", 5.0)

        assert not it.paused

        await waiting
        await leaving


@in_virtual_time
async def test_same_id_again_while_the_old_one_leaves() -> None:
    """What the old one does concerns the new one in nothing."""
    policy = DeliveryPolicy(buffer=2 * KiB, overflow=Overflow.BLOCK, deadline=3600)
    async with engine() as it:
        add(it, "twin", FakePipelinedClient(room=0, timeout=10**5), policy)
        await asyncio.sleep(0)
        it.feed(of(BATCH))
        leaving = it.remove("twin", 5.0)
        add(it, "twin", FakePipelinedClient(room=0, timeout=10**5), policy)
        it.feed(of(BATCH))
        it.feed(of(BATCH))
        await leaving

        assert it.paused
        assert it.stats().producers["twin"].accepted == 2
