"""Every listener with every client: what comes in by one protocol goes out by all, unchanged or refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from producer_pool.aio import AsyncProducerPool
from producer_pool.contract.ports import Intake, IntakeReceipt
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Rejected
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy, Limits
from support.certificates import Authority
from support.matrix import Way, ways
from support.readers import Reader
from support.streams import BOUND, FakeIntake, until

WAYS = list(ways())
SOURCES = [way for way in WAYS if not way.serves]


def one_of_each_kind() -> list[bytes]:
    """Return messages that are hard on some protocol. They are numbered, but for the empty one."""
    bodies = (
        b"plain words",
        "größer als 1 €, 漢字".encode(),
        b"a\0b\0\0",
        b"two\nlines",
        b"ends as a line\n",
        b"dos\r",
        bytes(range(128, 256)),
        bytes(range(256)),
        b"\x00\x00\x00\x05hello\x81\x05hello5 hello",
        b"  \t ",
        b"k" * (64 * 1024 - 2),
        b"M" * (1024 * 1024 - 2),
    )
    return [b"", *(b"%02d" % number + body for number, body in enumerate(bodies))]


class Relay:
    """An intake that forwards what comes, and says when all of it is settled."""

    paused = False

    def __init__(self, pool: AsyncProducerPool) -> None:
        self._pool = pool
        self.came: list[bytes] = []
        self._receipts: list[IntakeReceipt] = []

    def feed(self, batch: Batch) -> None:
        self.accept(batch)

    def accept(self, batch: Batch) -> IntakeReceipt:
        self.came += batch.messages
        self._receipts.append(self._pool.intake.accept(batch))
        return self._receipts[-1]

    async def resumed(self) -> None:
        return

    @property
    def settled(self) -> bool:
        return all(receipt.done for receipt in self._receipts)


class Bench:
    """A pool with a producer for each way, and what reaches their consumers."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self._authority = authority
        self._stack = AsyncExitStack()
        self.pool = AsyncProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=0.0))
        self.consumers: dict[Way, FakeIntake | Reader] = {}

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path, authority: Authority) -> AsyncIterator[Bench]:
        """Start all consumers, and close everything in the end."""
        bench = cls(folder, authority)
        async with bench._stack:
            await bench._stack.enter_async_context(bench.pool)
            for way in WAYS:
                await (bench._serve(way) if way.serves else bench._send_to(way))
            yield bench

    async def _send_to(self, way: Way) -> None:
        consumer = self.consumers[way] = FakeIntake()
        await self.pool.add_producer(way.id, await self.listen(way, consumer))

    async def _serve(self, way: Way) -> None:
        folder = self._next_folder()
        await self.pool.add_producer(way.id, way.listening_url(folder, self._authority))
        await self.pool.check()
        address = (await self.pool.health())[way.id].address
        reader = self.consumers[way] = Reader(way, address, self._authority.file)
        await self._stack.enter_async_context(reader)
        # It may be connected, and not be served yet: then it would miss what is sent now.
        async with asyncio.timeout(BOUND):
            while (await self.pool.stats()).producers[way.id].peers != 1:
                await asyncio.sleep(0.001)

    async def listen(self, way: Way, intake: Intake) -> str:
        """Start a listener of *way*, and return the URL that leads there."""
        folder = self._next_folder()
        listener = ClientFactory().listener(way.listening_url(folder, self._authority))
        await self._stack.enter_async_context(listener)
        endpoint = await listener.start(intake)
        return way.client_url(endpoint.raw, self._authority)

    def _next_folder(self) -> Path:
        """Make a folder with a short name: the path of a socket has 107 bytes at the most."""
        folder = self._folder / str(len(list(self._folder.iterdir())))
        folder.mkdir()
        return folder


async def send_all(way: Way, url: str, relay: Relay) -> list[bytes]:
    """Send one message of each kind, see that what *way* cannot carry is refused, and return the others."""
    sent = []
    async with ClientFactory.create(url) as client:
        for message in one_of_each_kind():
            if not way.carries(message):
                with pytest.raises(Rejected, match=r"framing|UTF-8|bytes"):
                    await client.send(message)
                continue
            sent.append(message)
            await client.send(message)
            # A datagram that finds a full buffer would be lost, and that is not what this is about.
            await until(lambda: len(relay.came) == len(sent), f"message {len(sent)} came in")
    return sent


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda way: way.name)
async def test_one_source_and_every_consumer(source: Way, tmp_path: Path, authority: Authority) -> None:
    """
    What a protocol can carry arrives unchanged, once, in order.

    What it cannot carry is Rejected there, and goes to the others all the same.
    """
    async with Bench.opened(tmp_path, authority) as bench:
        relay = Relay(bench.pool)
        sent = await send_all(source, await bench.listen(source, relay), relay)
        assert relay.came == sent
        await until(lambda: relay.settled, "everything is settled")
        stats = await bench.pool.stats()

        for way, consumer in bench.consumers.items():
            wanted = [message for message in sent if way.carries(message)]
            await until(partial(_has, consumer, len(wanted)), f"{way.name} got {len(wanted)} messages")
            counted = stats.producers[way.id]
            assert consumer.messages == wanted, way.name
            assert (counted.delivered, counted.failed) == (len(wanted), len(sent) - len(wanted)), way.name


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_what_a_protocol_cannot_carry(way: Way, tmp_path: Path, authority: Authority) -> None:
    """The result says that it was refused, and why; what comes after it is delivered."""
    async with Bench.opened(tmp_path, authority) as bench:
        for message in one_of_each_kind():
            result = await bench.pool.forward_to(way.id, message)

            if way.carries(message):
                assert result.outcome is Outcome.DELIVERED, result.error
            else:
                assert result.outcome is Outcome.FAILED
                assert isinstance(result.error, Rejected)


def _has(consumer: FakeIntake | Reader, count: int) -> bool:
    return len(consumer.messages) >= count


def test_matrix_is_whole() -> None:
    """Whatever listens can be a source, and whatever sends goes to a consumer."""
    transports = {way.scheme: way.transport for way in WAYS}

    assert {"tcp", "tcp+tls", "udp", "unix", "unix+dgram", "ws", "wss"} <= transports.keys()
    for scheme, transport in transports.items():
        assert transport.client is not None, scheme
        assert (transport.listener is None) == scheme.endswith("+serve"), scheme
