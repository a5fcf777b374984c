"""Peers over TLS: the protocol is the same, and who does not speak it gets nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

import pytest

from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.serving.options import ServingOptions
from support.certificates import Authority
from support.greeting import greeting
from support.listening import lines_of
from support.secure import identity
from support.sending import needs_kernel
from support.serving import Served, serving
from support.streams import receive_all, send, until

BIG = 64 * 1024 * 1024


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("ack", [Ack.WRITTEN, Ack.PEER], ids=lambda level: level.label)
async def test_protocol_over_tls(authority: Authority, version: str, ack: Ack) -> None:
    """The greeting comes after TLS's own; words and messages keep their order, and answers their meaning."""
    tls = identity(authority.issue())
    context = ssl.create_default_context(cafile=str(authority.file))
    context.maximum_version = ssl.TLSVersion[version]
    lines: list[bytes] = []
    async with Served(greeting(ServingOptions(peer_buffer=BIG), tls=tls), ack) as served:
        where = (served.endpoint.host, served.endpoint.port)
        reader, writer = await asyncio.open_connection(*where, ssl=context, limit=1 << 20)
        writer.write(b"hello\n")

        async def answer() -> None:
            while text := await reader.readline():
                lines.append(text)
                if text.startswith(b"?"):
                    writer.write(text.replace(b"?", b"!"))

        answering = asyncio.ensure_future(answer())
        await until(lambda: served.client.peers == 1)
        for number in range(50):
            await served.send(b"%d " % number + b"x" * (5000 * number))
        await until(lambda: served.confirmed == 50)
        closing = asyncio.ensure_future(served.client.aclose())
        await answering
        writer.close()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
        await closing

    messages = [b"%d " % number + b"x" * (5000 * number) + b"\n" for number in range(50)]
    assert (lines[0], lines[-1]) == (b"welcome\n", b"bye\n")
    assert [text for text in lines[1:-1] if not text.startswith(b"?")] == messages


@needs_kernel
async def test_acknowledged_over_tls(authority: Authority) -> None:
    """A message counts when the other kernel has all of what it was encrypted to, and not before."""
    tls = identity(authority.issue())
    context = ssl.create_default_context(cafile=str(authority.file))
    async with Served(serving(ServingOptions(peer_buffer=BIG), tls=tls), Ack.KERNEL) as served:
        endpoint = served.endpoint

        def connect() -> ssl.SSLSocket:
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect((endpoint.host, endpoint.port))
            return context.wrap_socket(plain, server_hostname="localhost")

        loop = asyncio.get_running_loop()
        peer = await loop.run_in_executor(None, connect)
        with peer:
            await until(lambda: served.client.peers == 1)
            await served.send(*[b"%05d" % number + b"x" * 1000 for number in range(10_000)])
            await asyncio.sleep(0.05)
            served.client._audience.note_reached()
            before = served.client.settled()

            def read() -> bytes:
                data = bytearray()
                while len(data) < 10_000 * 1006:
                    data += peer.recv(1 << 20)
                return bytes(data)

            data = await loop.run_in_executor(None, read)
            await until(lambda: served.client.settled() == (10_000, 10_000))

    assert before.confirmed <= before.written < 10_000
    assert data == b"".join(b"%05d" % number + b"x" * 1000 + b"\n" for number in range(10_000))


async def test_peer_that_does_not_speak_tls(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """It is cut off, with the reason in the log, and never gets a message in plain text."""
    async with Served(serving(tls=identity(authority.issue()))) as served:
        plain = served.dial()
        await send(plain, b"hello\n")
        seen = await receive_all(plain)
        await served.send(b"secret")

        assert b"secret" not in seen
        assert served.client.stats.joined == 0
        assert [text for text in lines_of(caplog) if "TLS" in text]


async def test_peer_that_never_begins_tls(authority: Authority) -> None:
    """It has handshake-timeout, as with a listener."""
    tls = identity(authority.issue(), handshake_timeout="100ms")
    async with Served(serving(tls=tls)) as served:
        silent = served.dial()

        assert await receive_all(silent) == b""
        assert served.client.stats.evicted == 1
