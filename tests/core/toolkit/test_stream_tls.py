"""Both ends of a stream over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from producer_pool.contract.options import coerce
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.binding import TcpBinding
from producer_pool.toolkit.connection import StreamListenerOptions, Tail
from producer_pool.toolkit.progress import TCP_ACKS
from producer_pool.toolkit.sockets import TcpDialer, TcpOptions
from producer_pool.toolkit.stream_client import StreamClient, StreamClientOptions
from producer_pool.toolkit.stream_listener import StreamListener
from producer_pool.toolkit.tls import (
    ServerTls,
    TlsClientOptions,
    TlsListenerOptions,
    client_tls,
    server_tls,
)
from producer_pool.toolkit.tls_layer import TlsLayer
from support.certificates import Authority, Identity
from support.streams import (
    Consumer,
    FakeIntake,
    FakeSignals,
    connect,
    receive,
    receive_all,
    reset,
    send,
    until,
)

WHERE = "tcp+tls://here:1"
LEVELS = sorted(TCP_ACKS)


def client(port: int, host: str = "127.0.0.1", **query: object) -> StreamClient:
    words = {name.replace("_", "-"): str(value) for name, value in query.items()}
    dialer = TcpDialer(Endpoint.parse(f"tcp+tls://{host}:{port}"), TcpOptions())
    tls = client_tls(coerce(TlsClientOptions, words, where=WHERE), dialer.name, where=WHERE)
    return StreamClient(dialer, StreamClientOptions(), protocol_name="tcp+tls", tls=tls)


def identity(identity: Identity, **query: object) -> ServerTls:
    words = {name.replace("_", "-"): str(value) for name, value in query.items()}
    words |= {"tls-cert": str(identity.cert), "tls-key": str(identity.key)}
    return server_tls(coerce(TlsListenerOptions, words, where=WHERE), where=WHERE)


@dataclass
class Running:
    listener: StreamListener
    intake: FakeIntake
    endpoint: Endpoint

    @property
    def port(self) -> int:
        return self.endpoint.port


@pytest.fixture
async def listen() -> AsyncIterator[Callable[..., Any]]:
    """Return what starts listeners, which are closed at the end."""
    running: list[Running] = []

    async def start(tls: ServerTls, options: StreamListenerOptions | None = None) -> Running:
        binding = TcpBinding(Endpoint.parse("tcp+tls://127.0.0.1:0"), allow_remote=True)
        listener = StreamListener(binding, options or StreamListenerOptions(), tls=tls)
        intake = FakeIntake()
        running.append(Running(listener, intake, await listener.start(intake)))
        return running[-1]

    yield start
    for one in running:
        await one.listener.aclose()


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
    assert not running.intake.messages or running.intake.asked
    running.intake.resume()
    await until(lambda: running.listener.stats.messages == count * 100)
    await sender.aclose()


# -- acknowledgement -------------------------------------------------------------------------------


@pytest.mark.skipif(Ack.KERNEL not in TCP_ACKS, reason="needs Linux: SIOCOUTQ")
@pytest.mark.parametrize("read", [0, 1, 5_000, 16_406, 16_407, 100_000, 300_000])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
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
        while any(sender.start([batch]) for batch in batches):
            pass
        data = bytearray(await receive(peer, read))
        sent = sender._ledger.position - len(sender._tail)
        progress = sender._progress
        assert progress is not None
        base = progress.acknowledged(sent)
        await until(lambda: base <= progress.acknowledged(sent))
        await asyncio.sleep(0.05)
        acknowledged = progress.acknowledged(sent)
        data += await receive(peer, max(0, acknowledged - len(data)))
        reset(peer)
        await until(lambda: signals.errors)
        settled = sender.settled()
        layer.receive(bytes(data[: progress.acknowledged(sent)]))
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


async def test_consumer_that_says_nothing() -> None:
    """The handshake has the time of an attempt, and leaves no descriptor behind."""
    with Consumer() as consumer:
        sender = client(consumer.port)
        sender.timeout = 0.1

        assert "TLS handshake: not done within 0.0" in await _refused(sender)


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
