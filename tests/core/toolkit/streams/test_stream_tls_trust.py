"""Both ends of a stream over TLS: who is trusted, and handshakes that fail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from producer_pool.model.errors import ConnectError
from producer_pool.toolkit.sockets import tcp as sockets
from producer_pool.toolkit.streams import handshake
from producer_pool.toolkit.streams.client import StreamClient
from producer_pool.toolkit.streams.tls import (
    ServerTls,
)
from support.certificates import Authority
from support.secure import client, identity
from support.streams import (
    Consumer,
    connect,
    receive,
    receive_all,
    reset,
    send,
    until,
)

# -- trust -----------------------------------------------------------------------------------------


@pytest.fixture
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a CA that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


async def _refused(sender: StreamClient) -> str:
    with pytest.raises(ConnectError) as caught:
        await sender.connect()
    await sender.aclose()
    return str(caught.value)


async def test_certificate_for_another_name(listen: Callable[..., Any], authority: Authority) -> None:
    """The error names the name; tls-name is the way to expect another one."""
    running = await listen(identity(authority.issue("other.test")))

    said = await _refused(client(running.port, tls_ca=authority.file))
    assert said == (
        f"tcp+tls://127.0.0.1:{running.port}: TLS handshake: its certificate is not for 127.0.0.1; "
        "tls-name says which name to expect"
    )
    sender = client(running.port, tls_ca=authority.file, tls_name="other.test")
    await sender.connect()
    await sender.aclose()


async def test_expired_certificate(listen: Callable[..., Any], authority: Authority) -> None:
    """The error says so."""
    running = await listen(identity(authority.issue("127.0.0.1", expired=True)))

    assert "its certificate has expired" in await _refused(client(running.port, tls_ca=authority.file))


async def test_unknown_authority(
    listen: Callable[..., Any], authority: Authority, stranger: Authority
) -> None:
    """The error says what to name; tls-verify=no sends all the same."""
    running = await listen(identity(stranger.issue()))

    for sender in (client(running.port, tls_ca=authority.file), client(running.port)):
        said = await _refused(sender)
        assert "comes from a CA that is not trusted here; name the CA's file with tls-ca" in said
    sender = client(running.port, tls_verify="no")
    await sender.send(b"whoever you are")
    await sender.aclose()


async def test_listener_says_who_was_refused(
    listen: Callable[..., Any], authority: Authority, stranger: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Its log has the cause, as far as the client gave one."""
    running = await listen(identity(stranger.issue()))
    await _refused(client(running.port, tls_ca=authority.file))
    await until(lambda: running.listener.stats.evicted)

    assert "TLS: it does not trust the CA of our certificate" in caplog.text


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_missing_client_certificate(
    listen: Callable[..., Any], authority: Authority, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """connect() fails, though in TLS 1.3 the client is done with its handshake before it is refused."""
    running = await listen(identity(authority.issue(), tls_ca=authority.file))
    sender = client(running.port, tls_ca=authority.file)
    assert sender._tls is not None
    sender._tls.context.maximum_version = ssl.TLSVersion[version]
    said = await _refused(sender)
    await until(lambda: running.listener.stats.evicted)

    assert "client certificate" in said
    assert "it has no certificate, and tls-ca asks for one" in caplog.text


@pytest.mark.usefixtures("unhurried")
async def test_refusal_that_is_seen_late(
    listen: Callable[..., Any], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for it is over, and it lies there: this machine stood still meanwhile."""
    running = await listen(identity(authority.issue(), tls_ca=authority.file))
    late = []

    async def wait_readable(sock: socket.socket) -> None:
        await sockets.wait_readable(sock)
        if running.listener.stats.evicted:
            late.append(True)
            raise TimeoutError

    monkeypatch.setattr(handshake, "wait_readable", wait_readable)
    said = await _refused(client(running.port, tls_ca=authority.file))

    assert late
    assert "client certificate" in said


@pytest.mark.usefixtures("unhurried")
async def test_client_certificate(
    listen: Callable[..., Any], authority: Authority, stranger: Authority
) -> None:
    """One of the CA's gets in, one of another CA's does not."""
    running = await listen(identity(authority.issue(), tls_ca=authority.file))
    mine, others = authority.issue("me.test"), stranger.issue("me.test")
    sender = client(running.port, tls_ca=authority.file, tls_cert=mine.cert, tls_key=mine.key)
    await sender.send(b"it is me")
    await sender.aclose()
    said = await _refused(
        client(running.port, tls_ca=authority.file, tls_cert=others.cert, tls_key=others.key)
    )

    assert "it does not trust the CA of our certificate" in said
    await until(lambda: running.intake.messages == [b"it is me"])


async def test_old_protocol(listen: Callable[..., Any], authority: Authority) -> None:
    """Nothing below TLS 1.2 is spoken."""
    running = await listen(identity(authority.issue()))
    context = ssl.create_default_context(cafile=str(authority.file))
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")

    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", running.port, ssl=context)


# -- handshakes that do not happen -----------------------------------------------------------------


async def test_consumer_without_tls() -> None:
    """The error says what is wrong with the other side."""
    with Consumer() as consumer:
        connecting = asyncio.ensure_future(_refused(client(consumer.port)))
        peer = await consumer.accept()
        await send(peer, b"220 hello, who are you?\r\n")

        assert "TLS handshake: it does not speak TLS" in await connecting


async def test_consumer_that_closes_at_once() -> None:
    """So does this one."""
    with Consumer() as consumer:
        connecting = asyncio.ensure_future(_refused(client(consumer.port)))
        (await consumer.accept()).shutdown(socket.SHUT_WR)

        assert "it closed the connection without a word" in await connecting


@pytest.mark.usefixtures("unhurried")
async def test_consumer_that_says_nothing() -> None:
    """The handshake has the time of an attempt, and leaves no descriptor behind."""
    with Consumer() as consumer:
        sender = client(consumer.port)
        sender.timeout = 0.1

        text = await _refused(sender)
        assert "TLS handshake: not done within 0.0" in text
        assert text.endswith("; does it speak TLS?")


async def test_cancelled_handshake() -> None:
    """Given up, it closes its socket."""
    with Consumer() as consumer:
        connecting = asyncio.ensure_future(client(consumer.port).connect())
        peer = await consumer.accept()
        await receive(peer, 1)
        connecting.cancel()
        await asyncio.wait([connecting])
        with contextlib.suppress(ConnectionResetError):
            assert await receive_all(peer) is not None


async def test_client_without_tls(
    listen: Callable[..., Any], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """It is closed, counted and logged; others are served."""
    running = await listen(identity(authority.issue()))
    raw = await connect(running.endpoint)
    await send(raw, b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: running.listener.stats.evicted)
    raw.close()

    assert "it does not speak TLS, but HTTP" in caplog.text
    assert not running.intake.messages


@pytest.mark.usefixtures("unhurried")
async def test_client_that_says_nothing(
    listen: Callable[..., Any], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """It is closed when its time is up; one that has shaken hands may be quiet."""
    tls = identity(authority.issue())
    running = await listen(replace_timeout(tls, 0.2))
    raw = await connect(running.endpoint)
    quiet = client(running.port, tls_ca=authority.file)
    await quiet.connect()
    await until(lambda: running.listener.stats.evicted)
    await asyncio.sleep(0.3)
    raw.close()

    assert running.listener.stats.connections == 1
    assert "no TLS handshake within" in caplog.text
    assert "see handshake-timeout" in caplog.text
    await quiet.aclose()


def replace_timeout(tls: ServerTls, timeout: float) -> ServerTls:
    return tls._replace(timeout=timeout)


async def test_scanner_that_leaves(
    listen: Callable[..., Any], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """One that connects and goes is no event."""
    running = await listen(identity(authority.issue()))
    for end in (reset, socket.socket.close):
        end(await connect(running.endpoint))
    await until(lambda: running.listener.stats.accepted == 2 and not running.listener.stats.connections)

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert running.listener.stats == replace(running.listener.stats, evicted=0, tails=0, refused=0)
