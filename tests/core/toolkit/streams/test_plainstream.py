"""A connection as a stream, over real sockets: what is sent past the client is the client's afterwards."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from producer_pool.contract.stream import Stream
from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets.tcp import Dialer
from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions
from producer_pool.toolkit.streams.plainstream import POSSIBLE
from producer_pool.toolkit.streams.progress import UNIX_ACKS, UnixProgress
from support.descriptors import descriptors
from support.processes import run_program
from support.sending import Connected, connected, needs_kernel
from support.streams import Consumer, FakeSignals, receive, until

pytestmark = [needs_kernel, pytest.mark.skipif(not POSSIBLE, reason="needs epoll")]

ONE = Batch.from_wire(b"one\n", LINES)
TWO = Batch.from_wire(b"two\n", LINES)


def stream_of(link: Connected) -> Stream:
    stream = link.client._plain_stream()
    assert stream is not None
    return stream


@pytest.fixture
async def link(consumer: Consumer) -> AsyncIterator[Connected]:
    link = await connected(consumer, Ack.KERNEL)
    yield link
    await link.client.aclose()


async def test_sent_and_passed(link: Connected) -> None:
    """What was confirmed before the client heard of it counts, and what is started then comes after it."""
    stream = stream_of(link)
    assert stream.send(b"one\n") == 4
    await until(lambda: stream.unconfirmed() == 0)
    stream.passed(4, 1)
    link.start([TWO])
    await until(lambda: link.client.settled() == (2, 2))

    assert await receive(link.peer, 8) == b"one\ntwo\n"


async def test_sent_and_not_confirmed(link: Connected) -> None:
    """The client goes on to ask how far it is."""
    stream = stream_of(link)
    stream.send(b"one\n")
    stream.took(ONE, 4)

    assert link.client.settled().written == 1

    await until(lambda: link.client.settled() == (1, 1))


async def test_unconfirmed(link: Connected) -> None:
    """Bytes that the other side has no room for are not confirmed; those that it has are."""
    stream = stream_of(link)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += stream.send(b"x" * 100_000)
    await until(lambda: 0 < stream.unconfirmed() < sent)


async def test_rest_is_sent_by_the_client(link: Connected) -> None:
    """It says when it takes more, and nothing of it was taken before."""
    stream = stream_of(link)
    wire = b"x" * 8_000_000 + b"\n"
    large = Batch.from_wire(wire, LINES)
    sent = stream.send(wire)
    assert sent < len(wire)
    stream.took(large, sent)

    assert link.start([TWO]) == 0
    assert link.client.settled().written == 0

    assert await receive(link.peer, len(wire)) == wire
    await until(lambda: link.signals.writes)
    link.start([TWO])
    assert await receive(link.peer, 4) == b"two\n"
    await until(lambda: link.client.settled() == (2, 2))


async def test_end_of_one_of_several(consumer: Consumer) -> None:
    """One look tells that there is one, and each whether it is the one. Others are not looked at."""
    links = [await connected(consumer, Ack.KERNEL) for _ in range(3)]
    streams = [stream_of(link) for link in links]
    before = descriptors()
    for stream in streams:
        stream.watch(True)

    assert not streams[0].ended()

    links[1].peer.close()
    await until(streams[0].ended)

    assert [stream.has_ended() for stream in streams] == [False, True, False]

    streams[1].watch(False)

    assert not streams[0].ended()

    streams[0].watch(False)
    streams[2].watch(False)

    assert not streams[0].ended()
    assert descriptors() <= before

    for link in links:
        await link.client.aclose()


async def test_send_that_failed(link: Connected) -> None:
    """The client takes nothing more, and says why a little later."""
    stream = stream_of(link)
    stream.broke(ConnectionResetError(104, "reset by a test"))

    assert link.start([ONE]) == 0
    assert not link.signals.errors

    await asyncio.sleep(0)

    assert "reset by a test" in str(link.signals.errors[0])


async def test_closed_and_watched_again(link: Connected) -> None:
    """Who stopped watching can begin again."""
    stream = stream_of(link)
    for _ in range(2):
        stream.watch(True)
        assert not stream.ended()
        stream.watch(False)


async def test_no_connection(link: Connected) -> None:
    """There is no stream without one."""
    await link.client.aclose()

    assert link.client._plain_stream() is None


class _Near(Dialer):
    """Connects to a socket of this process."""

    address = "near"
    acks = UNIX_ACKS

    async def dial(self, timeout: float) -> socket.socket:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        return ours

    def progress(self, sock: socket.socket) -> UnixProgress:
        return UnixProgress(sock)


@pytest.fixture
async def near() -> AsyncIterator[Connected]:
    """Return a client whose consumer has to have read what counts."""
    dialer = _Near()
    client = StreamClient(dialer, StreamClientOptions(), protocol_name="near")
    signals = FakeSignals(Ack.KERNEL)
    client.attach(signals)
    await client.connect()
    with dialer.peer:
        yield Connected(client, dialer.peer, signals)
    await client.aclose()


async def test_what_was_read_of_both_ways(near: Connected) -> None:
    """Sends past the client and its own are told apart, in their order, whichever was the last."""
    stream = stream_of(near)
    near.start([TWO])
    near.peer.recv(4)
    assert near.client.settled() == (1, 1)
    stream.send(b"one\n")
    stream.send(b"one\n")

    assert stream.unconfirmed() == 8

    near.peer.recv(4)

    assert stream.unconfirmed() == 4

    stream.passed(4, 1)
    stream.took(ONE, 4)
    near.start([TWO])

    assert near.client.settled() == (4, 2)

    near.peer.recv(4)

    assert near.client.settled() == (4, 3)
    assert stream.unconfirmed() == 4


async def test_closed_with_bytes_unread(near: Connected) -> None:
    """They are not confirmed, though nothing of them is left in the kernel, and a send said that it broke."""
    stream = stream_of(near)
    stream.send(b"one\n")
    near.peer.close()
    with pytest.raises(OSError, match=r"reset|pipe"):
        stream.send(b"two\n")

    assert stream.unconfirmed() == 4


def test_forked_child_that_looks_away() -> None:
    """The parent goes on to watch: what a child stops to watch was never what its parent watches."""
    run_program(
        """
        import asyncio, os, socket
        from producer_pool.model.endpoint import Endpoint
        from producer_pool.toolkit.sockets.tcp import TcpDialer, TcpOptions
        from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions

        async def main():
            server = socket.create_server(("127.0.0.1", 0))
            endpoint = Endpoint.parse("tcp://127.0.0.1:%d" % server.getsockname()[1])
            streams, peers = [], []
            for _ in range(2):
                client = StreamClient(
                    TcpDialer(endpoint, TcpOptions()), StreamClientOptions(), protocol_name="tcp"
                )
                await client.connect()
                streams.append(client._plain_stream())
                peers.append(server.accept()[0])
            for stream in streams:
                stream.watch(True)
            if not os.fork():
                streams[0].watch(False)
                os._exit(0)
            os.wait()
            assert not streams[0].ended()
            peers[0].shutdown(socket.SHUT_WR)
            assert streams[0].ended() and streams[0].has_ended()

        asyncio.run(main())
        """
    )
