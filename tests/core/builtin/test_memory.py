"""``memory:`` keeps what it gets, within bounds, where the program can read it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from producer_pool.aio import AsyncProducerPool
from producer_pool.builtin.memory import MemoryClient
from producer_pool.contract.ports import Settled
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.batch import Batch
from producer_pool.model.errors import (
    ConfigurationError,
    DeliveryError,
    InvalidEndpoint,
    InvalidOption,
    Rejected,
)
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy
from support.waiting import BOUND


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that nobody else uses, and that is empty again afterwards."""
    yield request.node.name
    MemoryClient.named(request.node.name).clear()


class Signals:
    """Counts what a client says."""

    ack = Ack.WRITTEN

    def __init__(self) -> None:
        self.writables = 0

    def writable(self) -> None:
        self.writables += 1

    def broken(self, error: DeliveryError) -> None:
        raise error

    def rejected(self, number: int, error: Exception, count: int = 1) -> None:
        raise error


async def test_pool_with_a_memory_sink(name: str) -> None:
    """Messages are there in their order, unchanged, for whoever asks by name."""
    async with AsyncProducerPool() as pool:
        await pool.add_producer("audit", f"memory:{name}")
        results = await pool.forward_to_all(b"one\n")
        await pool.forward_to_all(b"")

    assert results["audit"].ack is Ack.WRITTEN
    assert MemoryClient.named(name).messages == (b"one\n", b"")


async def test_client_alone(name: str) -> None:
    """It can be used without a pool, as any client."""
    async with ClientFactory.create(f"memory:{name}") as client:
        await client.send(b"one")
        await client.send_batch(Batch.from_wire(b"two\nthree\n", LINES), 1)

    assert MemoryClient.named(name).messages == (b"one", b"three")


def test_reader_before_the_writers(name: str) -> None:
    """It sees what comes later, from all clients of that name and of no other."""
    reader = MemoryClient.named(name)
    MemoryClient(name).start([Batch.of([b"one"])])
    MemoryClient(name).start([Batch.of([b"two"]), Batch.of([b"three"])])
    MemoryClient(f"{name} too").start([Batch.of([b"other"])])

    assert list(reader.messages) == [b"one", b"two", b"three"]
    assert reader.take() == (b"one", b"two", b"three")
    assert list(reader.messages) == []
    MemoryClient(f"{name} too").clear()


async def test_counting_starts_anew_with_each_connection(name: str) -> None:
    """What is settled is counted since connect(); an offset concerns the first batch only."""
    client = MemoryClient(name)
    await client.connect()
    taken = client.start([Batch.of([b"1", b"2", b"3"]), Batch.of([b"4", b"5"])], 2)

    assert taken == 2
    assert client.settled() == Settled(3, 3)
    await client.aclose()
    await client.connect()
    assert client.settled() == Settled(0, 0)
    assert client.messages == (b"3", b"4", b"5")


@pytest.mark.parametrize("bound", [{"max_messages": 3}, {"max_bytes": 6}])
async def test_full_memory(name: str, bound: dict[str, int]) -> None:
    """It takes no further batch until somebody makes room, and says on the loop when that is."""
    client, signals = MemoryClient(name, **bound), Signals()
    client.attach(signals)
    await client.connect()
    batches = [Batch.of([b"%d%d" % (number, part) for part in range(2)]) for number in range(4)]

    assert client.start(batches) == 2
    assert client.settled() == Settled(3, 3)
    assert client.start(batches[2:]) == 0
    clearing = threading.Thread(target=client.clear)
    clearing.start()
    async with asyncio.timeout(BOUND):
        while not signals.writables:
            await asyncio.sleep(0)
    clearing.join()
    assert signals.writables == 1
    assert client.start(batches[2:]) == 2
    assert client.settled() == Settled(6, 6)
    assert client.messages == (b"11", b"20", b"21")


async def test_message_larger_than_the_memory(name: str) -> None:
    """It is rejected: there never will be room for it."""
    async with AsyncProducerPool() as pool:
        await pool.add_producer("audit", f"memory:{name}?max-bytes=3")
        results = await pool.forward_to_all(b"1234")
        assert (await pool.forward_to_all(b"123")).ok

    assert isinstance(results["audit"].error, Rejected)
    assert MemoryClient.named(name).messages == (b"123",)


async def test_room_for_a_closed_client(name: str) -> None:
    """It is told nothing any more."""
    client, signals = MemoryClient(name, max_messages=1), Signals()
    client.attach(signals)
    await client.connect()
    client.start([Batch.of([b"1"]), Batch.of([b"2"])])
    client.clear()
    await client.aclose()
    await client.aclose()
    await asyncio.sleep(0)

    assert signals.writables == 0


async def test_full_memory_in_a_pool(name: str) -> None:
    """What does not fit waits as for a consumer that does not read, and arrives once, when there is room."""
    async with AsyncProducerPool(policy=DeliveryPolicy.relay()) as pool:
        await pool.add_producer("audit", f"memory:{name}?max-messages=2")
        for number in range(5):
            await pool.submit(str(number))
        reader = MemoryClient.named(name)
        seen: list[bytes] = []
        until = time.monotonic() + BOUND
        while len(seen) < 5 and time.monotonic() < until:
            assert len(reader.messages) <= 2
            seen += reader.take()
            await asyncio.sleep(0)

    assert seen == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("url", ["memory:", "memory:a/b", "memory://a"])
def test_url_without_a_name(url: str) -> None:
    """The error says how to write it."""
    with pytest.raises(InvalidEndpoint, match="memory:NAME"):
        ClientFactory.create(url)


def test_bounds_in_the_url(name: str) -> None:
    """They have units and suggestions as all options."""
    with pytest.raises(InvalidOption, match=r"did you mean max-bytes\?"):
        ClientFactory.create(f"memory:{name}?max-byte=1MiB")


def test_text_for_a_number() -> None:
    """Its bounds are numbers: what would be written so in a URL is refused when it is made."""
    wrong: Any = "64MiB"
    for name in ("max_messages", "max_bytes"):
        with pytest.raises(ConfigurationError, match=f"^{name} is a number here"):
            MemoryClient("memory", **{name: wrong})
