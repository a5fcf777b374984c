"""A program's own client class, injected into a pool."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from producer_pool import BlockingClient, Client, ProducerPool, SendError, UsageError
from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.waiting import BOUND


@pytest.fixture
def consumer() -> Iterator[RecordingConsumer]:
    with RecordingConsumer() as consumer:
        yield consumer


class MyClient(Client):
    protocol_name = "mine"

    def __init__(self, port: int) -> None:
        self.address = f"mine at {port}"
        self._port = port

    async def connect(self) -> None:
        _, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def send(self, message: bytes) -> None:
        self._writer.write(message + b"\n")
        await self._writer.drain()

    async def aclose(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.close()


class Vendor:
    """A library's object: it blocks, and knows nothing of pools."""

    def __init__(self, port: int) -> None:
        self._port = port

    def connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port))

    def send(self, message: bytes) -> None:
        self._socket.sendall(message + b"\n")

    def close(self) -> None:
        self._socket.close()


def test_ten_line_class_is_injected(consumer: RecordingConsumer) -> None:
    """It receives each message, whole and in order, and the results carry the id that it was added with."""
    ledger = Ledger()
    with ProducerPool() as pool:
        pool.add_producer("audit", MyClient(consumer.port))
        results = [pool.forward_to_all(message) for message in ledger.write_many(50)]

    assert all(result["audit"].ok for result in results)
    assert ledger.judge(consumer.wait_for(50)).exact


def test_own_client_beside_a_url(consumer: RecordingConsumer) -> None:
    """Both get every message: where a client comes from makes no difference."""
    ledger = Ledger()
    with RecordingConsumer() as other, ProducerPool() as pool:
        pool.add_producer("mine", MyClient(consumer.port))
        pool.add_producer("by-url", other.url)
        for message in ledger.write_many(200):
            pool.submit(message)

        assert pool.drain(wait=20)
        assert ledger.judge(consumer.wait_for(200)).exact
        assert ledger.judge(other.wait_for(200)).exact


def test_blocking_send_is_refused_with_the_way_out(consumer: RecordingConsumer) -> None:
    """The error names BlockingClient; nothing was added, so the id is free; and wrapped, the object works."""
    ledger = Ledger()
    vendor = Vendor(consumer.port)
    with ProducerPool() as pool:
        with pytest.raises(UsageError, match=r"blocking.*BlockingClient\(Vendor\(\.\.\.\)\)"):
            pool.add_producer("vendor", vendor)  # type: ignore[arg-type]
        pool.add_producer("vendor", BlockingClient(vendor))
        results = [pool.forward_to_all(message) for message in ledger.write_many(20)]

    assert all(result["vendor"].ok for result in results)
    assert ledger.judge(consumer.wait_for(20)).exact


def test_own_client_that_raises() -> None:
    """What it raises is in the result of its own consumer, as an error of delivery with its cause."""

    class Broken(Client):
        protocol_name = "broken"

        async def send(self, message: bytes) -> None:
            raise ZeroDivisionError("a bug in it")

    with ProducerPool() as pool:
        pool.add_producer("broken", Broken())
        result = pool.forward_to("broken", "hello")

    assert isinstance(result.error, SendError)
    assert isinstance(result.error.__cause__, ZeroDivisionError)
    assert "a bug in it" in str(result.error)


def test_send_is_cancelled_in_the_middle_of_a_message(consumer: RecordingConsumer) -> None:
    """Its connection is closed, so that the next message is not glued to the half that went out."""

    class Hesitant(MyClient):
        timeout = 0.2
        connected = False
        hesitates = True

        async def connect(self) -> None:
            if not self.connected:
                await super().connect()
                self.connected = True

        async def send(self, message: bytes) -> None:
            if self.hesitates:
                self.hesitates = False
                self.timeout = BOUND  # of the next attempt
                self._writer.write(message[:10])
                await asyncio.Event().wait()
            await super().send(message)

        async def aclose(self) -> None:
            await super().aclose()
            self.connected = False

    ledger = Ledger()
    first, second = ledger.write_many(2)
    with ProducerPool() as pool:
        client = Hesitant(consumer.port)
        pool.add_producer("hesitant", client)
        cancelled = pool.forward_to("hesitant", first)
        while client.hesitates:  # On a slow machine its time may be over before it is sent.
            cancelled = pool.forward_to("hesitant", first)
        result = pool.forward_to("hesitant", second)

        assert not cancelled.ok
        assert result.ok
        assert ledger.judge(consumer.wait_for(1), expected=[second]).exact
    assert [stream.tail for stream in consumer.streams if stream.tail] == [first[:10]]
