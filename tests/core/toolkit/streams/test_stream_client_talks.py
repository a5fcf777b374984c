"""The stream client under protocols in which both sides talk: an introduction, and a farewell."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from producer_pool.contract.ports import Settled
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets.tcp import TcpDialer, TcpOptions
from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions
from producer_pool.toolkit.streams.handshake import Dialogue
from producer_pool.toolkit.streams.progress import Progress
from producer_pool.toolkit.streams.tls import ClientTls
from support.certificates import Authority
from support.secure import identity
from support.streams import Consumer, FakeSignals, receive, receive_all, reset, send, until


class Counted(Progress):
    """The consumer itself says how many bytes it has."""

    reached = 0

    def acknowledged(self, total: int) -> int:
        return self.reached


class Polite(StreamClient):
    """Says hello and wants to be welcome; takes numbers as acknowledgements; says bye."""

    heard = b""
    acks = frozenset({Ack.WRITTEN, Ack.PEER})

    def __init__(self, endpoint: Endpoint, tls: ClientTls | None = None) -> None:
        dialer = TcpDialer(endpoint, TcpOptions())
        super().__init__(dialer, StreamClientOptions(), protocol_name="polite", tls=tls)
        self.counted = Counted()

    async def greet(self, dialogue: Dialogue, timeout: float) -> bytes:
        await dialogue.say(b"hello\n")
        answer = b""
        while b"\n" not in answer:
            more = await dialogue.hear()
            if not more:
                raise ConnectError(f"{self.address}: it left")
            answer += more
        line, _, rest = answer.partition(b"\n")
        if line != b"welcome":
            raise ConnectError(f"{self.address}: not welcome")
        return rest

    def progress(self, sock: object) -> Progress:
        return self.counted

    def received(self, data: memoryview) -> None:
        self.heard += bytes(data)
        self.counted.reached = int(self.heard.split(b"\n")[-2])

    def farewell(self) -> bytes:
        return b"bye\n"


async def greeted(client: Polite, consumer: Consumer, answer: bytes = b"welcome\n") -> None:
    """Connect *client*, whose consumer answers so."""
    connecting = asyncio.ensure_future(client.connect())
    peer = await consumer.accept()
    assert await receive(peer, 6) == b"hello\n"
    await send(peer, answer)
    await connecting


@pytest.mark.usefixtures("unhurried")
async def test_introduction_and_farewell(consumer: Consumer) -> None:
    """They stand around the messages, and a good end waits for the consumer's."""
    client = Polite(consumer.endpoint)
    await greeted(client, consumer)
    peer = consumer.taken[0]
    client.start([Batch.of([b"one"])])
    closing = asyncio.ensure_future(client.aclose())

    assert await receive_all(peer) == b"one\nbye\n"
    assert not closing.done()
    peer.close()
    await closing


async def test_level_that_the_consumer_answers_for(consumer: Consumer) -> None:
    """What a protocol counts as acknowledged counts, and no more."""
    client = Polite(consumer.endpoint)
    client.attach(FakeSignals(Ack.PEER))
    await greeted(client, consumer)
    client.start([Batch.of([b"one", b"two"])])
    await receive(consumer.taken[0], 8)

    assert client.settled() == (2, 0)
    await send(consumer.taken[0], b"8\n")
    await until(lambda: client.settled() == (2, 2))
    await client.aclose()


async def test_batches_that_are_through(consumer: Consumer) -> None:
    """While batches go out, none is gone through for how far inside it the consumer is."""
    client = Polite(consumer.endpoint)
    client.attach(FakeSignals(Ack.PEER))
    await greeted(client, consumer)
    client.start([Batch.of([b"one", b"two"]), Batch.of([b"three"])])
    client.counted.reached = 4

    assert client.settled_batches() == (3, 0)
    assert client.settled() == (3, 1)

    client.counted.reached = 8

    assert client.settled_batches() == (3, 2)
    await client.aclose()


async def test_count_of_its_own(consumer: Consumer) -> None:
    """A protocol that counts in its own way is asked for batches, too."""

    class Modest(Polite):
        def settled(self) -> Settled:
            return Settled(super().settled().written, 0)

    client = Modest(consumer.endpoint)
    client.attach(FakeSignals(Ack.PEER))
    await greeted(client, consumer)
    client.start([Batch.of([b"one"])])
    client.counted.reached = 4

    assert client.settled_batches() == (1, 0)
    await client.aclose()


async def test_words_right_behind_the_introduction(consumer: Consumer) -> None:
    """What came with the welcome is not lost."""
    client = Polite(consumer.endpoint)
    await greeted(client, consumer, b"welcome\n17\n")

    assert client.heard == b"17\n"
    await client.aclose()


@pytest.mark.parametrize("answer,wrong", [(b"go away\n", "not welcome"), (b"", "it left")])
async def test_who_is_not_welcome(consumer: Consumer, answer: bytes, wrong: str) -> None:
    """The error is the protocol's own, and no connection is left."""
    client = Polite(consumer.endpoint)
    connecting = asyncio.ensure_future(client.connect())
    peer = await consumer.accept()
    assert await receive(peer, 6) == b"hello\n"  # or closing it would be a reset
    await send(peer, answer)
    if not answer:
        peer.close()
    with pytest.raises(ConnectError, match=wrong):
        await connecting

    assert client.start([Batch.of([b"one"])]) == 0
    if answer:
        assert await receive_all(peer) == b""


async def test_reset_inside_the_introduction(consumer: Consumer) -> None:
    """The error names the cause, and is one after which nothing can have arrived."""
    client = Polite(consumer.endpoint)
    connecting = asyncio.ensure_future(client.connect())
    reset(await consumer.accept())
    with pytest.raises(ConnectError, match="connection reset by peer"):
        await connecting


async def test_words_behind_what_the_kernel_did_not_take(small: Consumer) -> None:
    """A protocol is told when it takes bytes again, whether a producer is told or not."""
    for signals in (FakeSignals(), None):
        client = Polite(small.endpoint)
        if signals is not None:
            client.attach(signals)
        client.flushed = lambda client=client: client.say(b"now\n")  # type: ignore[method-assign, misc]
        await greeted(client, small)
        size = 8_000_000
        client.start([Batch.of([b"x" * size])])
        assert client.pending

        assert await receive(small.taken[-1], size + 5) == b"x" * size + b"\nnow\n"
        await client.aclose()


async def test_bites(consumer: Consumer) -> None:
    """Where a protocol wants it, little is read in one turn, and others have theirs in between."""
    client = Polite(consumer.endpoint)
    client.bite = 1000
    sizes: list[int] = []
    turns = 0

    def another() -> None:
        nonlocal turns
        turns += 1
        if sum(sizes) < 20_000:
            asyncio.get_running_loop().call_soon(another)

    client.received = lambda data: sizes.append(len(data))  # type: ignore[method-assign]
    await greeted(client, consumer)
    consumer.taken[0].send(b"x" * 20_000)
    another()
    await until(lambda: sum(sizes) == 20_000)

    assert set(sizes) == {1000}
    assert turns >= len(sizes)
    await client.aclose()


async def test_no_farewell_inside_a_frame(small: Consumer) -> None:
    """It would be taken for a part of the message: there is a reset instead."""
    client = Polite(small.endpoint)
    await greeted(client, small)
    client.start([Batch.of([b"x" * 20_000_000])])
    await client.aclose()

    with pytest.raises(ConnectionResetError):
        await receive_all(small.taken[0])


async def test_all_of_it_encrypted(authority: Authority) -> None:
    """The same over TLS, with words that came together with the welcome."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.readline()
        writer.write(b"welcome\n" + b"1\n" * 50_000)
        got.set_result(hello + await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=identity(authority.issue()).context)
    context = ssl.create_default_context(cafile=str(authority.file))
    port = server.sockets[0].getsockname()[1]
    client = Polite(Endpoint.parse(f"tcp+tls://127.0.0.1:{port}"), ClientTls(context, "127.0.0.1"))
    async with client:
        await client.send(b"one")
        await until(lambda: client.heard == b"1\n" * 50_000)

    assert await got == b"hello\none\nbye\n"
    server.close()


async def test_encrypted_end_inside_the_introduction(authority: Authority) -> None:
    """A good end, too, is seen as one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=identity(authority.issue()).context)
    context = ssl.create_default_context(cafile=str(authority.file))
    port = server.sockets[0].getsockname()[1]
    client = Polite(Endpoint.parse(f"tcp+tls://127.0.0.1:{port}"), ClientTls(context, "127.0.0.1"))
    with pytest.raises(ConnectError, match="it left"):
        await client.connect()
    server.close()


class Asking(Polite):
    """Asks, after each group of batches, how far it got: by saying where that is."""

    notes = True

    def started(self) -> None:
        self.say(b"%d?\n" % self.position)


async def test_questions_between_batches(consumer: Consumer) -> None:
    """They stand behind what was taken, 64 KiB of small batches or a larger one, and say where that ended."""
    client = Asking(consumer.endpoint)
    await greeted(client, consumer)
    peer = consumer.taken[0]
    assert client.start([Batch.of([b"one"])]) == 1
    many = [Batch.of([b"x" * 39_999])] * 2

    assert await receive(peer, 7) == b"one\n4?\n"
    assert not client.pending
    assert client.start(many) == 2
    first = b"x" * 39_999 + b"\n40007?\n"
    assert await receive(peer, len(first)) == first
    assert (await receive(peer, 40_007)).endswith(b"x\n80014?\n")
    await client.aclose()


async def test_what_the_kernel_does_not_take_is_pending(small: Consumer) -> None:
    """The position counts it all the same."""
    client = Asking(small.endpoint)
    await greeted(client, small)
    client.start([Batch.of([b"x" * 9_999_999])])

    assert client.pending
    assert client.position == 10_000_000 + len(b"10000000?\n")
    assert (await receive(small.taken[0], client.position)).endswith(b"x\n10000000?\n")
    await until(lambda: not client.pending)
    await client.aclose()
