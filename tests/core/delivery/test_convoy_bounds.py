"""What may be in flight in a convoy, and who may be in one: nobody goes beyond a bound of his."""

import asyncio
from dataclasses import replace

import pytest

from producer_pool.model.policies import DeliveryPolicy
from producer_pool.testing import in_virtual_time
from support.engines import add, engine
from support.sailing import ALL, RELAY, counters, sailing
from support.streaming import StreamingClient, lines

pytestmark = pytest.mark.usefixtures("no_log")


@in_virtual_time
async def test_too_much_in_flight() -> None:
    """Nobody holds up the others: who is behind when a megabyte is in flight leaves."""
    async with sailing() as (it, clients):
        clients[1].prompt = False
        for _ in range(300):
            it.feed(lines(b"x" * 4_000))

        assert [client.calls > 0 for client in clients] == [False, True, False]
        assert counters(it, "b") == (301, 1, 300)


@in_virtual_time
async def test_no_room_for_a_large_batch() -> None:
    """Who is furthest behind leaves, and nobody whose consumer is only not quite as far as what was sent."""
    async with sailing() as (it, clients):
        clients[1].prompt = False
        for number in range(5):
            clients[2].prompt = number < 3
            it.feed(lines(b"x" * 250_000))

        assert [client.calls > 0 for client in clients] == [False, True, False]
        assert [client.streamed for client in clients] == [6, 5, 6]


@pytest.mark.parametrize(
    "policy",
    [
        replace(RELAY, buffer=2 * 1024 * 1024),
        replace(RELAY, deadline=0.5),
    ],
    ids=["small buffer", "short deadline"],
)
@in_virtual_time
async def test_narrow_bounds(policy: DeliveryPolicy) -> None:
    """Who could go beyond a bound of his in a convoy is in none."""
    async with sailing(RELAY, policy, RELAY) as (_, clients):
        assert [client.calls for client in clients] == [0, 1, 0]


@in_virtual_time
async def test_message_above_a_limit() -> None:
    """It is rejected for the one who has the limit."""
    async with sailing() as (it, _):
        client = StreamingClient()
        client.max_message = 10
        add(it, "d", client, RELAY)
        await it.check(1.0)
        it.feed(lines(b"x" * 11))
        it.feed(lines(b"1"))

        assert client.arrived == [[b"1"]]
        assert it.stats().producers["d"].failed == 1


@in_virtual_time
async def test_batch_in_which_a_message_may_be_too_long() -> None:
    """It goes the usual way to the one who has the limit, and the next small one in one go to all again."""
    async with sailing() as (it, clients):
        client = StreamingClient()
        client.max_message = 100_000
        add(it, "d", client, RELAY)
        await it.check(1.0)
        for batch in (lines(b"1"), lines(b"x" * 80_000, b"y" * 80_000), lines(b"2")):
            it.feed(batch)
            await asyncio.sleep(0.1)

        assert client.arrived == [[b"1", b"x" * 80_000, b"y" * 80_000, b"2"]]
        assert (client.calls, client.streamed) == (1, 2)
        assert [one.calls for one in clients] == [0, 0, 0]


@in_virtual_time
async def test_bound_of_the_pool() -> None:
    """Who is behind refuses, when all have too much together, and not one batch later."""
    async with engine(buffer=25_000, drain=30.0) as it:
        clients = [StreamingClient() for _ in ALL]
        for name, client in zip(ALL, clients, strict=True):
            add(it, name, client, RELAY)
        await it.check(1.0)
        clients[1].prompt = False
        batch = lines(b"x" * 7_000)
        for _ in range(4):
            it.feed(batch)

        assert [len(client.arrived[0]) for client in clients] == [4, 3, 4]
        assert it.stats().producers["b"].dropped == 1

        clients[1].acknowledge()
