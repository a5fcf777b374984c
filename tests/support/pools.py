"""A pool for asyncio, with fake clients, whose books are checked at its end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producer_pool.aio import AsyncProducerPool
from support.engines import check_books
from support.fake_clients import FakeClient, FakePipelinedClient

__all__ = ["pool_of"]


@asynccontextmanager
async def pool_of(**clients: FakeClient | FakePipelinedClient) -> AsyncIterator[AsyncProducerPool]:
    """Return a pool with a producer for each client, with its default policy; it is closed at once."""
    pool = AsyncProducerPool()
    for name, client in clients.items():
        await pool.add_producer(name, client)
    yield pool
    await pool.aclose(drain=0)
    check_books(await pool.stats())
