"""Both ends of a stream over TLS: messages, and what counts as arrived."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.errors import SendError
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.streams.connection import StreamListenerOptions, Tail
from producer_pool.toolkit.streams.progress import TCP_ACKS
from producer_pool.toolkit.streams.tls import (
    ServerTls,
)
from producer_pool.toolkit.streams.tls_layer import TlsLayer
from support.certificates import Authority
from support.secure import client, identity
from support.sending import LEVELS
from support.streams import (
    Consumer,
    FakeSignals,
    connect,
    receive,
    reset,
    send,
    until,
)

# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)
async def test_messages_arrive(
    listen: Callable[..., Any], authority: Authority, ack: Ack, version: str
) -> None:
    """In order, small and large, one by one and many at once; and their level is reached."""
    running = await listen(identity(authority.issue()))
    sender = client(running.port, tls_ca=authority.file)
    assert sender._tls is not None
    sender._tls.context.maximum_version = ssl.TLSVersion[version]
    signals = FakeSignals(ack)
    sender.attach(signals)
    await sender.connect()
    batches = [Batch.of([b"%d %d" % (n, m) for m in range(n % 50 + 1)]) for n in range(300)]
    batches[100:100] = [Batch.of([b"x" * 900_000, b"y"]), Batch.of([]), Batch.of([b""])]
    expected = [message for batch in batches for message in batch.messages]
    done = 0
    while done < len(batches):
        done += sender.start(batches[done : done + 40])
        await asyncio.sleep(0)
    await until(lambda: sender.settled().confirmed == len(expected))
    await sender.aclose()
    await until(lambda: len(running.intake.messages) == len(expected))

    assert running.intake.messages == expected
    assert running.listener.stats.tails == 0


async def test_client_alone(listen: Callable[..., Any], authority: Authority) -> None:
    """send() does the handshake, too."""
    running = await listen(identity(authority.issue()))
    sender = client(running.port, tls_ca=authority.file)
    await sender.send(b"hello")
    await until(lambda: running.intake.messages)
    await sender.aclose()

    assert running.intake.messages == [b"hello"]


async def test_other_programs(listen: Callable[..., Any], authority: Authority) -> None:
    """A plain asyncio program is understood at both ends, and closes in good order."""
    running = await listen(identity(authority.issue()))
    context = ssl.create_default_context(cafile=str(authority.file))
    _, writer = await asyncio.open_connection(
        "127.0.0.1", running.port, ssl=context, server_hostname="localhost"
    )
    writer.write(b"from asyncio\nhalf")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await until(lambda: running.listener.stats.tails)

    assert running.intake.messages == [b"from asyncio"]
    assert running.listener.stats.evicted == 0


async def test_to_other_programs(authority: Authority) -> None:
    """A consumer of another make gets the messages and a proper end."""
    here = identity(authority.issue())
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=here.context)
    sender = client(server.sockets[0].getsockname()[1], tls_ca=authority.file)
    await sender.send(b"one")
    await sender.aclose()

    assert await got == b"one\n"
    server.close()


@pytest.mark.parametrize("tail", list(Tail))
async def test_stream_that_was_cut(listen: Callable[..., Any], authority: Authority, tail: Tail) -> None:
    """An end without TLS's own is no end: nobody can make a whole message of half a one."""
    running = await listen(identity(authority.issue()), StreamListenerOptions(tail=tail))
    context = ssl.create_default_context(cafile=str(authority.file))
    raw = await connect(running.endpoint)
    layer = TlsLayer(context, name="127.0.0.1")
    while not layer.handshake():
        await send(raw, layer.outgoing())
        layer.receive(await asyncio.get_running_loop().sock_recv(raw, 65536))
    await send(raw, layer.outgoing() + layer.encrypt(b"one\npay 10"))
    raw.close()
    await until(lambda: running.listener.stats.tails)

    assert running.intake.messages == [b"one"]


async def test_paused_intake(listen: Callable[..., Any], authority: Authority) -> None:
    """A sender over TLS has to wait like any other."""
    running = await listen(identity(authority.issue()))
    running.intake.pause_after = 1
    sender = client(running.port, tls_ca=authority.file)
    signals = FakeSignals()
    sender.attach(signals)
    await sender.connect()
    batch = Batch.of([b"x" * 999] * 100)
    count = 0
    while sender.start([batch]):
        count += 1
        await asyncio.sleep(0)
    await until(lambda: running.intake.asked)
    running.intake.resume()
    await until(lambda: running.listener.stats.messages == count * 100)
    await sender.aclose()


# -- acknowledgement -------------------------------------------------------------------------------


@pytest.mark.skipif(Ack.KERNEL not in TCP_ACKS, reason="needs Linux: SIOCOUTQ")
@pytest.mark.parametrize(
    "version,read",
    [
        *(("TLSv1_3", read) for read in (0, 5_000, 16_406, 16_407, 300_000)),
        ("TLSv1_2", 1),
        ("TLSv1_2", 100_000),
    ],
)
async def test_consumer_killed_in_the_middle(authority: Authority, read: int, version: str) -> None:
    """
    What counts as confirmed is what the other side can decrypt of the bytes that its kernel has.

    The consumer's TLS is run by hand: it counts the messages in the ciphertext that came to it.
    """
    here = identity(authority.issue())
    here.context.maximum_version = ssl.TLSVersion[version]
    with Consumer(receive_buffer=8192) as consumer:
        sender = client(consumer.port, tls_ca=authority.file)
        signals = FakeSignals(Ack.KERNEL)
        sender.attach(signals)
        connecting = asyncio.ensure_future(sender.connect())
        peer = await consumer.accept()
        layer = await _answer(peer, here)
        await connecting
        sizes = (1, 50, 3_000, 40_000)
        batches = [Batch.of([b"%d.%06d" % (n, m) for m in range(size)]) for n, size in enumerate(sizes)]
        while sum(sender.start([batch]) for batch in batches):
            pass
        data = await receive(peer, read)
        await asyncio.sleep(0.05)
        # Looked at and left there: to read it would make room, and more would be acknowledged meanwhile.
        with contextlib.suppress(BlockingIOError):
            data += peer.recv(1 << 20, socket.MSG_PEEK)
        reset(peer)
        await until(lambda: signals.errors)
        settled = sender.settled()
        progress = sender._progress
        assert progress is not None
        acknowledged = progress.acknowledged(sender._ledger.position - len(sender._tail))
        assert 0 < acknowledged <= len(data)
        layer.receive(data[:acknowledged])
        whole = _read(layer).count(b"\n")
        await sender.aclose()

    assert settled.confirmed == whole
    assert settled.confirmed <= settled.written


async def _answer(peer: socket.socket, tls: ServerTls) -> TlsLayer:
    """Do the consumer's side of a handshake."""
    loop = asyncio.get_running_loop()
    layer = TlsLayer(tls.context, server=True)
    while not layer.handshake():
        if data := layer.outgoing():
            await send(peer, data)
        layer.receive(await loop.sock_recv(peer, 65536))
    await send(peer, layer.outgoing())
    return layer


def _read(layer: TlsLayer) -> bytes:
    buffer = memoryview(bytearray(1 << 20))
    got = b""
    while size := layer.decrypt_into(buffer):
        got += bytes(buffer[:size])
    return got


async def test_consumer_that_talks(authority: Authority) -> None:
    """What it says is thrown away; its end is noticed."""
    here = identity(authority.issue())
    with Consumer() as consumer:
        sender = client(consumer.port, tls_ca=authority.file)
        signals = FakeSignals()
        sender.attach(signals)
        connecting = asyncio.ensure_future(sender.connect())
        peer = await consumer.accept()
        layer = await _answer(peer, here)
        await connecting
        await send(peer, layer.encrypt(b"blah" * 100_000))
        sender.start([Batch.of([b"one"])])
        await until(lambda: sender._heard)
        assert not signals.errors
        await send(peer, layer.close())
        await until(lambda: signals.errors)
        await sender.aclose()

    assert isinstance(signals.errors[0], SendError)
    assert "the consumer closed the connection" in str(signals.errors[0])
