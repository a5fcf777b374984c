"""Three producers in a convoy, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producer_pool.delivery.engine import Engine
from producer_pool.model.policies import DeliveryPolicy
from support.engines import add, engine
from support.streaming import StreamingClient, lines

__all__ = ["ALL", "RELAY", "counters", "sailing"]

ALL = ("a", "b", "c")
RELAY = DeliveryPolicy.relay()


@asynccontextmanager
async def sailing(*policies: DeliveryPolicy) -> AsyncIterator[tuple[Engine, list[StreamingClient]]]:
    """Yield an engine and the clients of its producers, which are connected, and have got a first message."""
    async with engine(drain=30.0) as it:
        clients = [StreamingClient() for _ in ALL]
        for name, client, policy in zip(ALL, clients, policies or (RELAY,) * 3, strict=True):
            add(it, name, client, policy)
        await it.check(1.0)
        it.feed(lines(b"0"))
        yield it, clients
        for client in clients:
            client.prompt = True
            client.acknowledge()
            client.make_room(None)


def counters(it: Engine, name: str) -> tuple[int, int, int]:
    """Return how many messages a producer accepted, delivered, and has not settled."""
    each = it.stats().producers[name]
    return each.accepted, each.delivered, each.pending
