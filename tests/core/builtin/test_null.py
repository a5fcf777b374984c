"""``null:`` takes everything."""

import pytest

from producer_pool.aio import AsyncProducerPool
from producer_pool.builtin.null import NullClient
from producer_pool.contract.ports import Settled
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.batch import Batch
from producer_pool.model.errors import InvalidEndpoint
from producer_pool.model.framing import LINES


async def test_pool_with_a_null_sink() -> None:
    """Everything is delivered, and counted."""
    client = ClientFactory.create("null:")
    async with AsyncProducerPool() as pool:
        await pool.add_producer("nowhere", client)
        results = await pool.forward_to_all(b"hello")

    assert results.ok
    assert isinstance(client, NullClient)
    assert (client.messages, client.bytes) == (1, 5)


async def test_counting() -> None:
    """What is settled is counted since connect(); messages and bytes since it was made."""
    client = NullClient()
    await client.connect()
    batch = Batch.from_wire(b"1\n2\n3\n", LINES)

    assert client.start([batch, batch], 2) == 2
    assert client.settled() == Settled(4, 4)
    assert (client.messages, client.bytes) == (4, 12)
    await client.aclose()
    await client.connect()
    assert client.settled() == Settled(0, 0)


async def test_client_alone() -> None:
    """It can be used without a pool, as any client."""
    client = NullClient()
    await client.send(b"one")
    await client.send(b"two")

    assert client.messages == 2


@pytest.mark.parametrize("url", ["null:x", "null://", "null:///x"])
def test_url_with_something_behind_it(url: str) -> None:
    """The error says that nothing stands there."""
    with pytest.raises(InvalidEndpoint, match="nothing stands behind null: but options"):
        ClientFactory.create(url)
