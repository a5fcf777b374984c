"""The pool for asyncio programs: its producers, those that block, and its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from producer_pool.aio import AsyncProducerPool
from producer_pool.model.errors import (
    ConfigurationError,
    DuplicateProducer,
    Full,
    PoolClosed,
    UnknownProducer,
    UsageError,
)
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy, Limits, Overflow
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient, FakePipelinedClient
from support.pools import pool_of

KiB = 1024
RELAY = DeliveryPolicy.relay()
BLOCKS = DeliveryPolicy(buffer=2 * KiB, overflow=Overflow.BLOCK, deadline=30)


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- producers -------------------------------------------------------------------------------------


@in_virtual_time
async def test_same_id_twice() -> None:
    """It is an error that names those that there are; once it is removed, the id is free."""
    first, second = FakeClient(), FakeClient()
    async with pool_of(a=first) as pool:
        with pytest.raises(DuplicateProducer, match="'a' is in the pool already; known: a"):
            await pool.add_producer("a", second)
        await pool.remove_producer("a")
        await pool.add_producer("a", second)
        await pool.forward_to("a", "x")

        assert (first.messages, second.messages) == ([], [b"x"])


@pytest.mark.parametrize("client", [object(), FakeClient, "no url", "tcp://127.0.0.1:1?nonsense=1"])
@in_virtual_time
async def test_producer_that_cannot_be_made(client: Any) -> None:
    """Its id stays free."""
    async with pool_of() as pool:
        with pytest.raises((UsageError, ConfigurationError)):
            await pool.add_producer("a", client)
        await pool.add_producer("a", FakeClient())

        assert pool.producers == ("a",)


@in_virtual_time
async def test_timeout_beside_a_client() -> None:
    """It belongs on the client."""
    async with pool_of() as pool:
        with pytest.raises(UsageError, match="set the timeout of an injected client on the client"):
            await pool.add_producer("a", FakeClient(), timeout=3)


@in_virtual_time
async def test_removal_without_draining() -> None:
    """What it has is CANCELLED."""
    client = FakePipelinedClient(confirms_after=60)
    async with pool_of() as pool:
        await pool.add_producer("a", client, policy=RELAY)
        receipt = await pool.submit("x")
        await pool.remove_producer("a", drain=False)

        assert (await receipt.results())["a"].outcome is Outcome.CANCELLED
        assert pool.producers == ()
        with pytest.raises(UnknownProducer):
            await pool.remove_producer("a")


@in_virtual_time
async def test_removal_that_is_not_waited_for() -> None:
    """It goes on, and its id can be used for another one; neither disturbs the other."""
    old, new = FakePipelinedClient(confirms_after=5), FakeClient()
    async with pool_of() as pool:
        await pool.add_producer("a", old, policy=RELAY)
        await pool.check()
        before = await pool.submit("x")
        removing = asyncio.create_task(pool.remove_producer("a"))
        await asyncio.sleep(1)
        removing.cancel()
        await asyncio.wait([removing])
        await pool.add_producer("a", new)
        result = await pool.forward_to("a", "y")

        assert result.ok
        assert (await before.results())["a"].ok
        await asyncio.sleep(1)

        assert (old.messages, new.messages) == ([b"x"], [b"y"])
        assert old.closes == 1


# -- Overflow.BLOCK --------------------------------------------------------------------------------


@asynccontextmanager
async def blocked() -> AsyncIterator[tuple[AsyncProducerPool, FakePipelinedClient, FakeClient]]:
    """Return a pool with a producer that is full and blocks, and another one."""
    client, other = FakePipelinedClient(room=0, timeout=10**4), FakeClient()
    pool = AsyncProducerPool()
    await pool.add_producer("full", client, policy=BLOCKS)
    await pool.add_producer("other", other)
    await pool.check()
    for _ in range(4):
        await pool.submit(b"", to="full")
        await asyncio.sleep(0)
    yield pool, client, other
    await pool.aclose(drain=0)


@in_virtual_time
async def test_submit_waits_for_room() -> None:
    """Until half of the buffer is free; for those that are not full nobody waits."""
    async with blocked() as (pool, client, other):
        waiting = asyncio.create_task(pool.submit(b"late", to="full"))
        await pool.forward_to("other", "x")
        await asyncio.sleep(10)

        assert not waiting.done()
        assert other.messages == [b"x"]

        client.make_room(2)
        await waiting
        client.make_room(9)
        await pool.drain(wait=1)

        assert client.messages == [b"", b"", b"", b"", b"late"]


@in_virtual_time
async def test_no_room_in_time() -> None:
    """Full is raised when the deadline has passed, and nobody has got the message."""
    async with blocked() as (pool, _, other):
        begin = seconds()
        with pytest.raises(Full, match=r"full: no room within 10 s .*nothing was accepted"):
            await pool.submit(b"late")

        assert seconds() - begin == 10
        assert other.messages == []


@in_virtual_time
async def test_no_room_now() -> None:
    """submit_nowait() raises at once, and nobody has got the message."""
    async with blocked() as (pool, _, other):
        with pytest.raises(Full, match="full: no room"):
            pool.submit_nowait(b"late")
        await asyncio.sleep(1)

        assert other.messages == []


@in_virtual_time
async def test_full_producer_is_removed() -> None:
    """Who waited for it goes on; for the one that is gone the message is CANCELLED."""
    async with blocked() as (pool, _, _other):
        waiting = asyncio.create_task(pool.submit(b"late"))
        await asyncio.sleep(1)
        await pool.remove_producer("full", drain=False)
        results = await (await waiting).results()

        assert results["full"].outcome is Outcome.CANCELLED
        assert results["other"].ok


@in_virtual_time
async def test_closed_while_somebody_waits_for_room() -> None:
    """They are told that the pool is closed."""
    async with blocked() as (pool, _, _other):
        waiting = asyncio.create_task(pool.submit(b"late", to="full"))
        await asyncio.sleep(1)
        await pool.aclose(drain=0)

        with pytest.raises(PoolClosed):
            await waiting


# -- the end ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_closed() -> None:
    """What is queued is delivered first; then nothing is taken any more."""
    client = FakeClient()
    client.faults = [lambda: asyncio.sleep(5)]
    pool = AsyncProducerPool()
    await pool.add_producer("a", client)
    receipt = await pool.submit("x")
    await pool.aclose()

    assert (await receipt.results())["a"].ok
    for late in (
        lambda: pool.submit("y"),
        lambda: pool.forward_to("a", "y"),
        lambda: pool.add_producer("b", FakeClient()),
        lambda: pool.drain(),
        lambda: pool.check(),
    ):
        with pytest.raises(PoolClosed, match="the pool is closed"):
            await cast(Any, late)()
    with pytest.raises(PoolClosed):
        pool.submit_nowait("y")


@in_virtual_time
async def test_closed_twice_at_once() -> None:
    """Both calls return when it is over."""
    client = FakeClient()
    client.faults = [lambda: asyncio.sleep(5)]
    pool = AsyncProducerPool()
    await pool.add_producer("a", client)
    pool.submit_nowait("x")
    begin = seconds()
    await asyncio.gather(pool.aclose(), pool.aclose())
    await pool.aclose()

    assert seconds() - begin == 5
    assert client.closes == 1


@in_virtual_time
async def test_closed_without_having_been_used() -> None:
    """There is nothing to do."""
    pool = AsyncProducerPool()
    await pool.aclose()
    await pool.aclose()

    with pytest.raises(PoolClosed):
        await pool.submit("x")


@in_virtual_time
async def test_closing_is_cancelled() -> None:
    """It is closed all the same, and what was queued is CANCELLED."""
    client = FakePipelinedClient(confirms_after=60, timeout=1000)
    pool = AsyncProducerPool()
    await pool.add_producer("a", client, policy=RELAY)
    receipt = await pool.submit("x")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await pool.aclose()
    await pool.aclose()

    assert (await receipt.results())["a"].outcome is Outcome.CANCELLED


@in_virtual_time
async def test_closed_by_an_exception() -> None:
    """The context manager closes, and the exception goes on."""
    client = FakeClient()

    async def fail() -> None:
        async with AsyncProducerPool() as pool:
            await pool.add_producer("a", client)
            await pool.submit("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert client.messages == [b"x"]


@in_virtual_time
async def test_callback_that_submits_and_closes() -> None:
    """From inside of a delivery: nothing waits for itself."""
    pool = AsyncProducerPool(limits=Limits(drain=1))

    class CallsBack(FakeClient):
        async def send(self, message: bytes) -> None:
            await super().send(message)
            if len(self.messages) < 5:
                await pool.submit(b"more")
            else:
                await pool.aclose()

    client = CallsBack()
    await pool.add_producer("a", client)
    begin = seconds()
    await pool.submit(b"first")
    await asyncio.sleep(0)
    await asyncio.sleep(10)
    await pool.aclose()

    assert len(client.messages) == 5
    assert seconds() - begin <= 10
    assert (await pool.stats()).producers["a"].pending == 0


def test_pool_in_a_second_loop() -> None:
    """A pool lives on the loop that it was begun on: in another one, each verb says so instead of hanging."""
    pool = AsyncProducerPool()

    async def begin() -> bool:
        await pool.add_producer("a", "null:")
        return (await pool.forward_to_all("one")).ok

    async def go_on() -> None:
        await pool.forward_to_all("two")

    assert asyncio.run(begin())
    with pytest.raises(UsageError, match="belongs to another event loop"):
        asyncio.run(go_on())


def test_submit_while_its_loop_stands() -> None:
    """A loop that may run again is none that runs: on another one of the thread, submit() says so."""
    pool = AsyncProducerPool()
    own, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        own.run_until_complete(pool.add_producer("a", "null:"))
        with pytest.raises(UsageError, match="belongs to another event loop"):
            other.run_until_complete(pool.submit(b"one"))
        receipt = own.run_until_complete(pool.submit(b"two"))

        assert own.run_until_complete(receipt.results()).ok

        own.run_until_complete(pool.aclose())
    finally:
        own.close()
        other.close()


async def test_submit_on_a_loop_of_another_thread() -> None:
    """It says so as well while the pool's own loop runs."""
    async with AsyncProducerPool() as pool:
        await pool.add_producer("a", "null:")
        with pytest.raises(UsageError, match="belongs to another event loop"):
            await asyncio.to_thread(asyncio.run, pool.submit(b"one"))

        assert (await pool.stats()).producers["a"].accepted == 0
