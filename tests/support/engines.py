"""An engine in virtual time, with fake clients, whose books are checked at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producer_pool.contract.ports import Client
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError
from producer_pool.model.policies import DeliveryPolicy, Limits
from producer_pool.model.stats import PoolStats
from support.fake_clients import FakeClient

__all__ = ["add", "check_books", "dead", "engine", "of", "outcomes", "until_done"]

REFUSED = ConnectError("fake: refused")


@asynccontextmanager
async def engine(*, buffer: int = 10**9, drain: float = 0.0) -> AsyncIterator[Engine]:
    engine = Engine(Limits(buffer=buffer))
    yield engine
    await engine.aclose(drain)
    check_books(engine.stats())

    assert engine.budget.used == 0
    assert all(each.pending == 0 for each in engine.stats().producers.values())


def add(engine: Engine, producer_id: str, client: Client, policy: DeliveryPolicy | None = None) -> Producer:
    producer = Producer(producer_id, client, policy)
    engine.add(producer)
    return producer


def dead() -> FakeClient:
    client = FakeClient()
    client.unreachable = REFUSED
    return client


def check_books(stats: PoolStats) -> None:
    for each in stats.producers.values():
        assert each.accepted == each.delivered + each.failed + each.dropped + each.cancelled + each.pending
        assert each.pending >= 0
        # What expired in flight is settled, and held until its client or its connection is done with it.
        assert each.pending_bytes > 0 or each.pending == 0


def of(*messages: bytes) -> Batch:
    return Batch.of(messages)


def outcomes(receipt: BatchReceipt, index: int = 0) -> dict[str, str]:
    return {name: result.outcome.value for name, result in receipt._page.results(index).items()}


async def until_done(receipt: BatchReceipt) -> None:
    done = asyncio.Event()
    receipt.when_done(done.set)
    await done.wait()
