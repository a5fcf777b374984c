"""The stream listener under protocols in which both sides talk: introductions, and ends by agreement."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import FramingError
from producer_pool.toolkit.sockets.binding import TcpBinding
from producer_pool.toolkit.streams import listener
from producer_pool.toolkit.streams.connection import Connection, StreamListenerOptions
from producer_pool.toolkit.streams.listener import StreamListener
from support.listening import Running, lines_of
from support.streams import BOUND, is_reset, receive, receive_all, reset, send, until


class PoliteConnection(Connection):
    """Lines: the first says hello, the last says bye, and one that shouts breaks a rule."""

    def __init__(self, sock: socket.socket, origin: str, since: float) -> None:
        super().__init__(sock, origin, since)
        self._begun = self._ended = self._said_bye = False
        self._error: FramingError | None = None

    def receive(self, data: bytearray, size: int, now: float) -> Batch | None:
        messages = []
        for line in bytes(data[:size]).splitlines():
            if line == b"hello":
                self._begun = True
                self.unsaid += b"welcome\n"
            elif line == b"bye":
                self._ended = True
                self.unsaid += self.farewell(evicted=False)
            elif line.isupper():
                self._error = FramingError("it shouts")
            else:
                messages.append(line)
        return Batch.of(messages) if messages else None

    @property
    def error(self) -> FramingError | None:
        return self._error

    @property
    def tail(self) -> int:
        return 0

    @property
    def established(self) -> bool:
        return super().established and self._begun

    @property
    def handshake(self) -> str:
        return "hello"

    @property
    def ended(self) -> bool:
        return self._ended

    def farewell(self, *, evicted: bool) -> bytes:
        if self._said_bye:
            return b""
        self._said_bye = True
        return b"go\n" if evicted else b"bye\n"


class PoliteListener(StreamListener):
    """The listener of that protocol, which waits a short time for hello."""

    def __init__(self, options: StreamListenerOptions, patience: float = 30.0) -> None:
        super().__init__(TcpBinding(Endpoint.parse("tcp://127.0.0.1:0"), allow_remote=False), options)
        self._handshake_timeout = patience

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        return PoliteConnection(sock, origin, self._loop.time())


def running(listener: StreamListener) -> Running:
    made = Running(StreamListenerOptions())
    made.listener = listener
    made.stats = listener.stats
    return made


@pytest.fixture
async def polite() -> AsyncIterator[Running]:
    async with running(PoliteListener(StreamListenerOptions())) as made:
        yield made


async def greeted(polite: Running) -> socket.socket:
    client = await polite.connect()
    await send(client, b"hello\n")
    assert await receive(client, 8) == b"welcome\n"
    return client


async def test_end_that_the_other_side_asks_for(polite: Running) -> None:
    """What came before is passed on, the farewell is answered, and the end is clean."""
    client = await greeted(polite)
    await send(client, b"one\nbye\n")

    assert await receive_all(client) == b"bye\n"
    assert polite.intake.messages == [b"one"]
    assert (polite.stats.evicted, polite.stats.tails) == (0, 0)
    client.close()
    await until(lambda: not polite.stats.connections)


@pytest.mark.usefixtures("unhurried")
async def test_close_is_heard_by_who_still_sends(polite: Running) -> None:
    """A farewell reaches the other side, which may send what it was at: its kernel says that it arrived."""
    client = await greeted(polite)
    closing = asyncio.ensure_future(polite.listener.aclose())

    assert await receive(client, 4) == b"bye\n"
    await send(client, b"two\nbye\n")
    assert await receive_all(client) == b""
    assert polite.intake.messages == [b"two"]
    client.close()
    await closing


async def test_close_while_nothing_is_read(polite: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody takes makes the end a reset, not to be taken for a good one; nothing is waited for."""
    monkeypatch.setattr(listener, "_LINGER", 3600.0)
    client = await greeted(polite)
    polite.intake.paused = True
    await send(client, b"one\n")
    async with asyncio.timeout(BOUND):
        await polite.listener.aclose()

    assert await is_reset(client)
    assert polite.intake.messages == []


async def test_control_close_without_a_farewell() -> None:
    """The control: where a protocol has no words, whoever still sends gets a reset at once."""
    async with running(StreamListener(binding(), StreamListenerOptions())) as plain:
        client = await plain.connect()
        await send(client, b"one\n")
        await until(lambda: plain.intake.messages)
        plain.intake.paused = True
        await send(client, b"two\n")
        await plain.listener.aclose()

        assert await is_reset(client)


def binding() -> TcpBinding:
    return TcpBinding(Endpoint.parse("tcp://127.0.0.1:0"), allow_remote=False)


@pytest.mark.usefixtures("unhurried")
async def test_draining_reads_on_until_the_other_side_ends(polite: Running) -> None:
    """Who is told to end may finish what it was at; nothing of it is lost."""
    client = await greeted(polite)
    draining = asyncio.ensure_future(polite.listener.drain())
    assert await receive(client, 4) == b"bye\n"
    await send(client, b"last\nbye\n")
    assert await receive_all(client) == b""
    client.close()
    await draining

    assert polite.intake.messages == [b"last"]


@pytest.mark.parametrize("way", ["drain", "aclose"])
async def test_ends_that_are_answered(polite: Running, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener closes first then: it need not wait for who keeps its own side open (RFC 6455, 7.1.1)."""
    monkeypatch.setattr(listener, "_LINGER", 3600.0)
    client = await greeted(polite)
    ending = asyncio.ensure_future(getattr(polite.listener, way)())
    assert await receive(client, 4) == b"bye\n"
    await send(client, b"last\nbye\n")
    async with asyncio.timeout(BOUND):
        await ending

    assert await receive_all(client) == b""
    assert polite.intake.messages == [b"last"]


async def test_ends_that_are_never_answered(polite: Running) -> None:
    """Draining and closing end all the same, soon."""
    client = await greeted(polite)
    await polite.listener.drain()
    await polite.listener.aclose()

    assert await receive_all(client) == b"bye\n"
    assert polite.stats.connections == 0


async def test_bites(polite: Running) -> None:
    """What makes much of little is read in small pieces, and others have their turns in between."""
    clients = [await greeted(polite) for _ in range(2)]
    reads: list[tuple[Connection, int]] = []
    for connection in polite.listener.everybody():
        connection.bite = 1000

        def noted(data: bytearray, size: int, now: float, who: Connection = connection) -> None:
            reads.append((who, size))

        connection.receive = noted  # type: ignore[method-assign]
    for client in clients:
        client.send(b"x" * 20_000)
    await until(lambda: sum(size for _, size in reads) == 40_000)

    assert {size for _, size in reads} == {1000}
    assert len({who for who, _ in reads[:4]}) == 2


@pytest.mark.usefixtures("unhurried")
async def test_rule_that_is_broken(polite: Running, caplog: pytest.LogCaptureFixture) -> None:
    """It is told so, and the connection is closed, counted, and logged."""
    client = await greeted(polite)
    await send(client, b"SHOUT\n")

    assert await receive_all(client) == b"go\n"
    assert polite.stats.evicted == 1
    assert "connection closed: it shouts" in lines_of(caplog)[0]
    assert polite.stats.connections == 1
    client.close()
    await until(lambda: not polite.stats.connections)


@pytest.mark.usefixtures("unhurried")
async def test_who_goes_on_after_that(polite: Running) -> None:
    """What it sends is thrown away, and after a moment the connection is closed anyway."""
    client = await greeted(polite)
    await send(client, b"SHOUT\n")
    assert await receive_all(client) == b"go\n"
    await send(client, b"and\nso\non\n")
    await until(lambda: not polite.stats.connections)

    assert polite.intake.messages == []


async def test_connection_that_is_gone_when_it_is_told(polite: Running) -> None:
    """A reset just before the farewell is no trouble."""
    client = await greeted(polite)
    reset(client)
    await polite.listener.aclose()

    assert polite.stats.connections == 0


@pytest.mark.usefixtures("unhurried")
async def test_who_never_says_hello(caplog: pytest.LogCaptureFixture) -> None:
    """It is closed after the time for that; who has said it may be quiet."""
    async with running(PoliteListener(StreamListenerOptions(), patience=0.05)) as made:
        good = await greeted(made)
        bad = await made.connect()

        assert await receive_all(bad) == b"go\n"
        assert "no hello within" in lines_of(caplog)[0]
        await send(good, b"still here\n")
        await until(lambda: made.intake.messages == [b"still here"])


async def test_silent_ones_keep_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    """When all places are taken, who is longest at its introduction gives way, and nobody else."""
    async with running(PoliteListener(StreamListenerOptions(max_connections=3))) as made:
        good = await greeted(made)
        silent = [await made.connect() for _ in range(2)]
        await until(lambda: made.stats.connections == 3)
        other = await greeted(made)

        assert await receive_all(silent[0]) == b""
        assert "closed inside its hello, to make room" in lines_of(caplog)[0]
        last = await greeted(made)
        assert await receive_all(silent[1]) == b""
        with contextlib.suppress(ConnectionResetError):
            assert await is_reset(await made.connect())
        await until(lambda: made.stats.refused == 1)
        for client in (good, other, last):
            await send(client, b"still here\n")
        await until(lambda: len(made.intake.messages) == 3)
