"""Cancelled at every point where it waits: no verb leaves a task behind, and the accounts stay exact."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from producer_pool import AsyncProducerPool, DeliveryPolicy, Limits, Outcome, Overflow, PoolClosed, Retry
from producer_pool.contract.ports import Client
from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES
from producer_pool.testing import in_virtual_time, run_in_virtual_time
from support.cancelling import MOST, Moment, Struck, cancelled_at, each_point, striking
from support.engines import check_books, dead
from support.fake_clients import FakeClient, FakePipelinedClient
from support.faults import report
from support.streaming import StreamingClient

Verb = Callable[[AsyncProducerPool], Coroutine[Any, Any, object]]

MOMENTS = pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())


class Slow(FakeClient):
    """A plain client that takes its time for everything, in several steps."""

    async def connect(self) -> None:
        await super().connect()
        await _take_time()

    async def send(self, message: bytes) -> None:
        await _take_time()
        await super().send(message)

    async def aclose(self) -> None:
        await super().aclose()
        await _take_time()


async def _take_time() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)


async def a_pool() -> AsyncProducerPool:
    """Return a pool with consumers of several kinds: slow, late, dead, without room, and in a convoy."""
    pool = AsyncProducerPool(limits=Limits(drain=1.0))
    holding = DeliveryPolicy(retry=Retry(attempts=None), deadline=2.0)
    await pool.add_producer("slow", Slow())
    await pool.add_producer("late", FakePipelinedClient(confirms_after=0.05), policy=DeliveryPolicy.relay())
    await pool.add_producer("dead", dead(), policy=holding)
    block = DeliveryPolicy(retry=Retry(attempts=None), overflow=Overflow.BLOCK, buffer=2_000, deadline=1.0)
    await pool.add_producer("tight", Slow(), policy=block)
    for name in ("sails", "sails too"):
        await pool.add_producer(name, StreamingClient(), policy=DeliveryPolicy.relay())
    return pool


async def fill(pool: AsyncProducerPool) -> None:
    """Submit so much that one of them has its source wait, and have something in flight in a convoy."""
    for _ in range(3):
        pool.submit_nowait(b"x" * 400)
    await asyncio.sleep(0.005)
    for producer in pool.engine._producers.values():
        if isinstance(producer.client, StreamingClient):
            producer.client.prompt = False
            # It acknowledges before anybody would give it up.
            asyncio.get_running_loop().call_later(0.1, read_on, producer.client)
    pool.intake.feed(Batch.from_wire(b"fed\n", LINES))
    for convoy in pool.engine._convoys.values():
        assert len(convoy._members) == 2


def read_on(client: StreamingClient) -> None:
    client.prompt = True
    if client.connections:
        client.acknowledge()


async def results(pool: AsyncProducerPool) -> object:
    return await (await pool.submit("one")).results()


async def remove(pool: AsyncProducerPool) -> object:
    await pool.remove_producer("slow")
    return None


async def add_and_remove(pool: AsyncProducerPool) -> object:
    await pool.add_producer("another", Slow())
    await pool.forward_to("another", "one")
    await pool.remove_producer("another", drain=False)
    return None


async def with_block(pool: AsyncProducerPool) -> object:
    async with pool:
        return await pool.forward_to_many(["slow", "late"], "one")


VERBS: dict[str, Verb] = {
    "submit": lambda pool: pool.submit("one"),
    "submit_many": lambda pool: pool.submit_many(["one", "two", "three"]),
    "results": results,
    "forward_to_all": lambda pool: pool.forward_to_all("one"),
    "forward_to_all, wait=": lambda pool: pool.forward_to_all("one", wait=0.5),
    "forward_to": lambda pool: pool.forward_to("late", "one"),
    "remove_producer": remove,
    "add_producer and remove_producer": add_and_remove,
    "check": lambda pool: pool.check(wait=0.5),
    "drain": lambda pool: pool.drain(),
    "drain, wait=": lambda pool: pool.drain(wait=0.5),
    "stats": lambda pool: pool.stats(),
    "aclose": lambda pool: pool.aclose(),
    "async with": with_block,
}

CLOSING = {"aclose", "async with"}
"""Verbs after which the pool takes nothing any more."""

WITHOUT_WAITING = {"stats"}
"""Verbs that never give the loop away, and so cannot be cancelled inside."""


@pytest.mark.parametrize("verb", VERBS)
def test_cancelled_verb_of_a_pool(verb: str) -> None:
    """No task is left, every message has one outcome, and the pool goes on; a second close ends it."""

    async def story(number: int, moment: Moment) -> Struck[object]:
        pool = await a_pool()
        await fill(pool)
        struck = await cancelled_at(number, moment, lambda: VERBS[verb](pool))
        check_books(await pool.stats())
        if verb not in CLOSING:
            await goes_on(pool)
        await pool.aclose()
        stats = await pool.stats()

        check_books(stats)
        assert stats.buffered_bytes == 0
        assert all(each.pending == 0 for each in stats.producers.values())
        await asyncio.sleep(5)  # What closes may take its time; then nothing is left.
        return struck

    async def each() -> int:
        return sum([await each_point(how, partial(watched, partial(story, moment=how))) for how in Moment])

    count = run_in_virtual_time(each)
    report(f"cancelled: {verb}", points=count)

    assert (count == 0) == (verb in WITHOUT_WAITING)


async def goes_on(pool: AsyncProducerPool) -> None:
    for name in {"slow", "late"}.intersection(pool.producers):
        result = await pool.forward_to(name, "after")
        assert result.ok, result
    # What was removed can be added again.
    if "slow" not in pool.producers:
        await asyncio.sleep(5)
        await pool.add_producer("slow", Slow())
        assert (await pool.forward_to("slow", "again")).ok


async def watched(story: Callable[[int], Awaitable[Struck[object]]], number: int) -> Struck[object]:
    """Run one story, and see that it leaves no task behind."""
    before = asyncio.all_tasks()
    struck = await story(number)
    left = asyncio.all_tasks() - before
    assert not left, f"point {number}: left behind: {left}"
    return struck


ENDS: dict[str, Verb] = {
    "removed": lambda pool: pool.remove_producer("it", drain=False),
    "removed after a drain": lambda pool: pool.remove_producer("it"),
    "closed": lambda pool: pool.aclose(drain=0),
    "closed after a drain": lambda pool: pool.aclose(),
}

KINDS: dict[str, Callable[[], Client]] = {
    "slow": Slow,
    "late": lambda: FakePipelinedClient(confirms_after=0.05, room=1),
    "dead": dead,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_producer_that_ends_wherever_it_waits(end: str, kind: str) -> None:
    """In connecting, sending, waiting for the next attempt: its client is closed, and its books add up."""

    async def story(number: int, turns: int) -> bool:
        pool = AsyncProducerPool(limits=Limits(drain=0.5))
        client = KINDS[kind]()
        ending: list[asyncio.Task[object]] = []

        async def strike() -> object:
            for _ in range(turns):
                await asyncio.sleep(0)
            with suppress(PoolClosed):  # The last points are in the close at the end.
                return await ENDS[end](pool)
            return None

        def soon() -> None:
            ending.append(asyncio.get_running_loop().create_task(strike()))

        with striking("Producer._run", number, soon) as struck:
            await pool.add_producer(
                "it", client, policy=DeliveryPolicy(retry=Retry(attempts=3), deadline=2.0)
            )
            receipts = [pool.submit_nowait(b"%d" % index) for index in range(3)]
            done = [await receipt.results() for receipt in receipts]
            await pool.aclose()
        await asyncio.gather(*ending)

        check_books(await pool.stats())
        assert all(each["it"].outcome is not Outcome.PENDING for each in done)
        assert isinstance(client, FakeClient | FakePipelinedClient)
        assert not client.is_open
        return struck()

    async def each(turns: int) -> int:
        for number in range(1, MOST):
            before = asyncio.all_tasks()
            struck = await story(number, turns)
            left = asyncio.all_tasks() - before
            assert not left, f"point {number}, {turns} turns later: left behind: {left}"
            if not struck:
                return number - 1
        raise AssertionError(f"more than {MOST} points")

    count = sum(run_in_virtual_time(partial(each, turns)) for turns in range(4))
    report(f"{end} wherever it waits: {kind}", points=count)

    assert count > 4


class NaivePool:
    """Sends in the caller's own task, and counts what it has sent when it has."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.accepted = self.delivered = self.failed = 0

    async def forward_to_all(self, message: bytes) -> None:
        self.accepted += len(self.clients)
        for client in self.clients:
            try:
                await client.send(message)
            except Exception:
                self.failed += 1
            else:
                self.delivered += 1


@MOMENTS
@in_virtual_time
async def test_control_of_the_verbs(moment: Moment) -> None:
    """A naive pool loses count: what it has accepted has no outcome once its caller is cancelled."""
    lost = 0

    async def story(number: int) -> Struck[None]:
        nonlocal lost
        clients = [Slow(), Slow()]
        for client in clients:
            await client.connect()
        pool = NaivePool(list(clients))
        struck = await cancelled_at(number, moment, lambda: pool.forward_to_all(b"one"))
        lost += pool.accepted - pool.delivered - pool.failed
        return struck

    count = await each_point(moment, story)

    assert count > 3
    assert lost > 0
