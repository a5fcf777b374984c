"""With the websockets library at the other end: its clients are our producers, its servers our consumers."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError
from producer_pool.model.outcomes import Ack
from support.certificates import Authority
from support.ends import make_client
from support.streams import FakeSignals, until
from support.webs import TRANSPORTS, LibraryConsumer, Listening, texts

# Both ends are on one loop: when this machine stands still, neither of them is late.
pytestmark = pytest.mark.usefixtures("unhurried")

LEVELS = sorted(TRANSPORTS["ws"].acks)
MESSAGES = [b"one", "zwö".encode(), b"", b"new\nline and \0", b"x" * 65536, b"y" * (1 << 20)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


# -- its clients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "deflate"])
async def test_producer(compression: str) -> None:
    """Its messages of both kinds, its fragments and its pings are understood, and its end is a good one."""
    async with Listening(f"ws://127.0.0.1:0/in?compression={compression}") as listening:
        async with connect(f"{listening.url}") as producer:
            for message in MESSAGES:
                await producer.send(message)
                await producer.send(message.decode())
            await producer.send([b"in ", b"many", b"", b" parts"])
            await (await producer.ping())
            assert (producer.protocol.extensions != []) is (compression == "deflate")

        assert producer.close_code == 1000
        assert listening.intake.messages == [message for message in MESSAGES for _ in range(2)] + [
            b"in many parts"
        ]
        assert (listening.stats.evicted, listening.stats.tails) == (0, 0)


async def test_producer_over_tls(authority: Authority) -> None:
    """The same, encrypted."""
    here = authority.issue()
    context = ssl.create_default_context(cafile=str(authority.file))
    async with Listening(f"wss://127.0.0.1:0?{here.query}") as listening:
        async with connect(listening.url.partition("?")[0], ssl=context) as producer:
            for message in MESSAGES:
                await producer.send(message)
            await (await producer.ping())

        assert listening.intake.messages == MESSAGES
        assert producer.close_code == 1000


async def test_producer_that_is_told_that_we_close() -> None:
    """It learns that we go away, with everything that it had sent passed on."""
    async with Listening() as listening:
        async with connect(listening.url) as producer:
            await producer.send(b"last")
            await listening.listener.drain()
            with pytest.raises(ConnectionClosed):
                await producer.recv()

        assert producer.close_code == 1001
        assert listening.intake.messages == [b"last"]


async def test_producer_that_sends_too_much() -> None:
    """It learns by the close code that its message was too long."""
    async with Listening("ws://127.0.0.1:0?max-message=1000") as listening:
        async with connect(listening.url) as producer:
            await producer.send(b"x" * 1001)
            with pytest.raises(ConnectionClosed):
                await producer.recv()

        assert producer.close_code == 1009
        assert "longer than 1000 bytes" in (producer.close_reason or "")


async def test_zip_bomb() -> None:
    """A small frame that becomes a large message is refused by its size, and nothing of it is kept."""
    async with Listening("ws://127.0.0.1:0?compression=deflate") as listening:
        async with connect(listening.url) as producer:
            await producer.send(bytes((1 << 20) + 1))
            with pytest.raises(ConnectionClosed):
                await producer.recv()

        assert producer.close_code == 1009
        assert listening.intake.messages == []


async def test_producer_that_is_refused() -> None:
    """It sees the status."""
    async with Listening("ws://127.0.0.1:0/in") as listening:
        for url, options, status in (
            (f"ws://127.0.0.1:{listening.endpoint.port}/", {}, 404),
            (listening.url, {"origin": "https://page.example"}, 403),
        ):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url, **options)  # type: ignore[arg-type]
            assert caught.value.response.status_code == status


# -- its servers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)
@pytest.mark.parametrize("query", ["", "?frames=binary", "?compression=deflate"])
async def test_consumer(query: str, ack: Ack) -> None:
    """It gets all messages, each level is reached, and our end is a good one."""
    async with LibraryConsumer(max_size=1 << 21) as consumer:
        client = make_client(f"{consumer.url}/{query}")
        client.ack = ack
        async with client:
            await client.send_batch(Batch.of(MESSAGES))
        await until(lambda: len(consumer.messages) == len(MESSAGES))
        await until(lambda: consumer.connections[0].close_code == 1000)

        assert texts(consumer.messages) == MESSAGES
        assert {type(message) for message in consumer.messages} == {bytes if "binary" in query else str}


async def test_consumer_over_tls(authority: Authority) -> None:
    """The same, encrypted, with the level of a pong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here = authority.issue()
    context.load_cert_chain(here.cert, here.key)
    async with LibraryConsumer(ssl=context, max_size=1 << 21) as consumer:
        client = make_client(f"{consumer.url}?tls-ca={authority.file}")
        client.ack = Ack.PEER
        async with client:
            await client.send_batch(Batch.of(MESSAGES))
        await until(lambda: len(consumer.messages) == len(MESSAGES))

        assert texts(consumer.messages) == MESSAGES


async def test_many_batches_to_a_slow_consumer() -> None:
    """A queue of one message slows it down; each message is confirmed only when the library has read it."""
    async with LibraryConsumer(max_queue=1) as consumer:
        client = make_client(consumer.url)
        signals = FakeSignals(Ack.PEER)
        client.attach(signals)
        await client.connect()
        batches = [Batch.of([b"%d" % number, b"x" * 5000]) for number in range(500)]
        done = 0
        while done < len(batches):
            done += client.start(batches[done : done + 20])
            # What it has read waits for its program in a queue of one, and one that is being put there.
            assert client.settled().confirmed <= len(consumer.messages) + 2
            await asyncio.sleep(0)
        await until(lambda: client.settled() == (1000, 1000))
        await client.aclose()

        assert texts(consumer.messages) == [message for batch in batches for message in batch.messages]


@pytest.mark.parametrize("server,code", [({"max_size": 100}, 1009), ({}, 1001)])
async def test_consumer_that_ends(server: dict[str, Any], code: int) -> None:
    """Its close code is in the error."""
    async with LibraryConsumer(**server) as consumer:
        client = make_client(consumer.url)
        signals = FakeSignals()
        client.attach(signals)
        await client.connect()
        client.start([Batch.of([b"x" * 101])])
        closing = asyncio.ensure_future(asyncio.sleep(0))
        if code == 1001:
            await until(lambda: consumer.connections)
            closing = asyncio.ensure_future(consumer.connections[0].close(1001))
        await until(lambda: signals.errors)
        await client.aclose()
        await closing

        assert f"the consumer closed the connection: {code} (" in str(signals.errors[0])


async def test_consumer_that_refuses() -> None:
    """A server with rules of its own is understood."""
    async with LibraryConsumer(origins=["https://page.example"], subprotocols=["chat"]) as consumer:
        with pytest.raises(ConnectError, match="403 Forbidden"):
            await make_client(consumer.url).connect()
        with pytest.raises(ConnectError, match="400 Bad Request"):
            await make_client(f"{consumer.url}?origin=https://page.example").connect()
        client = make_client(f"{consumer.url}?origin=https://page.example&subprotocol=mqtt,chat")
        await client.send(b"hello")
        await client.aclose()
        await until(lambda: consumer.messages == ["hello"])

        assert consumer.connections[0].subprotocol == "chat"
