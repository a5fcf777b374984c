"""The stream listener: what it passes on, what it counts, and whom it closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from producer_pool.model.decoders import DelimitedDecoder
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidOption, ListenError
from producer_pool.model.framing import LENGTH4, LINES, OCTET_COUNTING
from producer_pool.toolkit.binding import TcpBinding
from producer_pool.toolkit.connection import Connection, StreamListenerOptions, Tail
from producer_pool.toolkit.stream_listener import StreamListener
from support.streams import FakeIntake, connect, is_reset, receive, reset, send, until

PLAIN = StreamListenerOptions()


class Running:
    """A listener that runs, its intake, and its endpoint."""

    def __init__(self, options: StreamListenerOptions, url: str = "tcp://127.0.0.1:0") -> None:
        binding = TcpBinding(Endpoint.parse(url), allow_remote=False)
        self.listener = StreamListener(binding, options)
        self.intake = FakeIntake()
        self.stats = self.listener.stats
        self._clients: list[socket.socket] = []

    async def __aenter__(self) -> Running:
        self.endpoint = await self.listener.start(self.intake)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.listener.aclose()
        for client in self._clients:
            client.close()

    async def connect(self) -> socket.socket:
        client = await connect(self.endpoint)
        self._clients.append(client)
        return client


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with Running(PLAIN) as made:
        yield made


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# -- messages --------------------------------------------------------------------------------------


async def test_messages_arrive(running: Running) -> None:
    """In order, each as it was, empty ones, NUL bytes and bytes that are no text included."""
    client = await running.connect()
    await send(client, b"one\n\n\0\xff\xfe\nfour\r\n")
    await until(lambda: len(running.intake.messages) == 4)

    assert running.intake.messages == [b"one", b"", b"\0\xff\xfe", b"four\r"]
    assert running.stats.messages == 4
    assert running.stats.bytes == 15


async def test_one_read_is_one_batch(running: Running) -> None:
    """What arrived together goes on together, as the bytes that came, with time and origin."""
    client = await running.connect()
    wire = b"x\n" * 1000
    began = asyncio.get_running_loop().time()
    await send(client, wire)
    await until(lambda: running.intake.batches)
    (batch,) = running.intake.batches

    assert batch.wire(LINES) == wire
    assert batch.origin == f"tcp://127.0.0.1:{client.getsockname()[1]}"
    assert began <= batch.received <= asyncio.get_running_loop().time()


async def test_message_in_pieces(running: Running) -> None:
    """It is passed on when it is whole, and other connections do not wait for it."""
    slow, quick = await running.connect(), await running.connect()
    await send(slow, b"hal")
    await until(lambda: running.stats.bytes == 3)
    await send(quick, b"quick\n")
    await until(lambda: running.intake.messages)
    first = list(running.intake.messages)
    await send(slow, b"f\n")
    await until(lambda: len(running.intake.messages) == 2)

    assert first == [b"quick"]
    assert running.intake.messages[1] == b"half"


async def test_framing_of_the_url() -> None:
    """The stream is read in the framing that was asked for."""
    async with Running(replace(PLAIN, framing=LENGTH4)) as running:
        client = await running.connect()
        await send(client, b"\0\0\0\2a\n\0\0\0\0\0\0\0\1b")
        await until(lambda: len(running.intake.messages) == 3)

        assert running.intake.messages == [b"a\n", b"", b"b"]
        assert len(running.intake.batches[0]) == 3


async def test_much_from_many(running: Running) -> None:
    """Each connection's messages stay in order, whatever the others do."""
    clients = [await running.connect() for _ in range(20)]
    wires = [b"".join(b"%d %05d %s\n" % (n, m, b"x" * 200) for m in range(2000)) for n in range(20)]
    await asyncio.gather(*(send(client, wire) for client, wire in zip(clients, wires, strict=True)))
    await until(lambda: running.stats.messages == 40_000)
    got: dict[str, bytearray] = {}
    for batch in running.intake.batches:
        got.setdefault(batch.origin, bytearray()).extend(batch.wire(LINES))

    assert sorted(map(bytes, got.values())) == sorted(wires)


async def test_ipv6() -> None:
    """IPv6 works alike, and its origin is written in brackets."""
    async with Running(PLAIN, "tcp://[::1]:0") as running:
        client = await running.connect()
        await send(client, b"six\n")
        await until(lambda: running.intake.messages)

        assert running.intake.batches[0].origin == f"tcp://[::1]:{client.getsockname()[1]}"


# -- the end of a stream ---------------------------------------------------------------------------


async def test_end_of_a_stream(running: Running) -> None:
    """After the last whole message there is nothing to say."""
    client = await running.connect()
    await send(client, b"one\n")
    client.close()
    await until(lambda: running.stats.accepted == 1 and not running.stats.connections)

    assert running.intake.messages == [b"one"]
    assert running.stats.tails == 0


async def test_half_a_message_at_the_end(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """It is not passed on, it is counted, and the log says how to have it; it does not show it."""
    client = await running.connect()
    await send(client, b"one\nsecret")
    client.close()
    await until(lambda: running.stats.tails)

    assert running.intake.messages == [b"one"]
    (line,) = lines_of(caplog)
    assert "ended inside a message, 6 bytes of it discarded; tail=deliver passes it on" in line
    assert "secret" not in line


async def test_half_a_message_that_is_wanted() -> None:
    """With tail=deliver it is the last message of its stream."""
    async with Running(replace(PLAIN, tail=Tail.DELIVER)) as running:
        client = await running.connect()
        await send(client, b"one\ntwo")
        client.close()
        await until(lambda: len(running.intake.messages) == 2)

        assert running.intake.messages == [b"one", b"two"]
        assert running.intake.batches[1].origin
        assert (running.stats.messages, running.stats.tails) == (2, 0)


@pytest.mark.parametrize("tail", list(Tail))
async def test_reset_inside_a_message(tail: Tail, caplog: pytest.LogCaptureFixture) -> None:
    """What a sender broke off is never passed on, whatever was asked for; what came before is."""
    async with Running(replace(PLAIN, tail=tail)) as running:
        client = await running.connect()
        await send(client, b"one\nhal")
        await until(lambda: running.stats.bytes == 7)
        reset(client)
        await until(lambda: running.stats.tails)

        assert running.intake.messages == [b"one"]
        assert "broke off inside a message, 3 bytes of it discarded" in lines_of(caplog)[0]


async def test_sender_that_ends_its_side_only(running: Running) -> None:
    """A sender that shuts down writing gets the end of its stream, not a reset."""
    client = await running.connect()
    await send(client, b"one\n")
    client.shutdown(socket.SHUT_WR)

    assert await receive(client, 1) == b""
    assert running.intake.messages == [b"one"]


# -- rules -----------------------------------------------------------------------------------------


async def test_message_that_is_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """Its connection is closed, what came before it is passed on, and others go on."""
    async with Running(replace(PLAIN, max_message=10)) as running:
        bad, good = await running.connect(), await running.connect()
        await send(bad, b"0123456789\n0123456789a\nlost\n")
        await until(lambda: running.stats.evicted)
        await send(good, b"still here\n")
        await until(lambda: len(running.intake.messages) == 2)

        assert running.intake.messages == [b"0123456789", b"still here"]
        assert running.stats.connections == 1
        assert "connection closed: message longer than 10 bytes" in lines_of(caplog)[0]
        assert "0123456789a" not in caplog.text


async def test_line_without_an_end() -> None:
    """It is refused as soon as it is too long, and not kept."""
    async with Running(replace(PLAIN, max_message=100_000)) as running:
        client = await running.connect()
        with pytest.raises(ConnectionError):
            await send(client, bytes(50_000_000))

        assert running.stats.evicted == 1
        assert running.stats.bytes < 1_000_000


async def test_broken_frames() -> None:
    """What cannot be framing closes the connection; what came before is passed on."""
    async with Running(replace(PLAIN, framing=OCTET_COUNTING)) as running:
        client = await running.connect()
        await send(client, b"2 hiGET / HTTP/1.1")
        await until(lambda: running.stats.evicted)

        assert running.intake.messages == [b"hi"]


async def test_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """However many break a rule, the log gets one line in a second, and the counter has them all."""
    async with Running(replace(PLAIN, max_message=1)) as running:
        for _ in range(50):
            await send(await running.connect(), b"too long\n")
        await until(lambda: running.stats.evicted == 50)

        assert len(lines_of(caplog)) <= 2


async def test_too_many_connections(caplog: pytest.LogCaptureFixture) -> None:
    """One over the limit is refused at once and counted; when one leaves, there is room."""
    async with Running(replace(PLAIN, max_connections=2)) as running:
        first, _ = await running.connect(), await running.connect()
        await until(lambda: running.stats.connections == 2)
        third = socket.create_connection((running.endpoint.host, running.endpoint.port))
        third.setblocking(False)

        assert await is_reset(third)
        third.close()
        assert (running.stats.refused, running.stats.accepted) == (1, 2)
        assert "connection refused: 2 are open; see max-connections" in lines_of(caplog)[0]
        first.close()
        await until(lambda: running.stats.connections == 1)
        await send(await running.connect(), b"in\n")
        await until(lambda: running.intake.messages)


async def test_ten_thousand_connects(running: Running) -> None:
    """Ten thousand come and go, at most 500 at once; the listener serves all of them and keeps none."""
    gate = asyncio.Semaphore(500)

    async def visit(number: int) -> None:
        async with gate:
            client = await connect(running.endpoint)
            await send(client, b"%d\n" % number)
            client.close()

    await asyncio.gather(*(visit(number) for number in range(10_000)))
    await until(lambda: running.stats.messages == 10_000)
    await until(lambda: not running.stats.connections)

    assert sorted(map(int, running.intake.messages)) == list(range(10_000))
    assert running.stats.accepted == 10_000
    assert not running.listener._connections


async def test_too_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Who says nothing, or half a frame in small pieces, is closed; who completes messages is not."""
    async with Running(replace(PLAIN, idle_timeout=0.2)) as running:
        quiet, slow, busy = [await running.connect() for _ in range(3)]

        async def keep_busy() -> None:
            while True:
                await send(busy, b"here\n")
                await asyncio.sleep(0.02)

        async def drip() -> None:
            while True:
                await send(slow, b".")
                await asyncio.sleep(0.02)

        work = [asyncio.ensure_future(keep_busy()), asyncio.ensure_future(drip())]
        await until(lambda: running.stats.evicted == 2)

        assert await receive(quiet, 1) == b""
        assert running.stats.connections == 1
        assert "no message within" in lines_of(caplog)[0]
        assert "see idle-timeout" in lines_of(caplog)[0]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


# -- pausing ---------------------------------------------------------------------------------------


async def test_paused_intake() -> None:
    """Nothing is read while the intake is paused, so the senders have to wait; then all goes on in order."""
    async with Running(PLAIN) as running:
        running.intake.pause_after = 3
        clients = [await running.connect() for _ in range(5)]
        wire = b"".join(b"%06d%s\n" % (n, b"x" * 993) for n in range(20_000))
        sending = [asyncio.ensure_future(send(client, wire)) for client in clients]
        await until(lambda: running.intake.asked)
        read = running.stats.bytes
        for _ in range(20):
            await asyncio.sleep(0)

        assert len(running.intake.batches) == 3
        assert running.stats.bytes == read
        assert not any(task.done() for task in sending)
        assert running.intake.asked == 1
        running.intake.resume()
        await asyncio.gather(*sending)
        await until(lambda: running.stats.messages == 100_000)


async def test_nobody_is_too_quiet_while_paused() -> None:
    """Time in which we did not listen is not held against anybody."""
    async with Running(replace(PLAIN, idle_timeout=0.1)) as running:
        client = await running.connect()
        running.intake.pause_after = 1
        await send(client, b"one\n")
        await until(lambda: running.intake.asked)
        await send(client, b"two\n")
        await asyncio.sleep(0.3)
        running.intake.resume()
        await until(lambda: len(running.intake.messages) == 2)

        assert running.stats.evicted == 0


# -- the end of the listener -----------------------------------------------------------------------


async def test_stop_accepting(running: Running) -> None:
    """New connections are refused; those that are open go on."""
    client = await running.connect()
    await running.listener.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        await running.connect()
    await send(client, b"still\n")
    await until(lambda: running.intake.messages)
    await running.listener.stop_accepting()


async def test_drain_reads_what_has_arrived(running: Running) -> None:
    """Everything that was sent before the call is passed on, from connections nobody looked at yet, too."""
    clients = [socket.create_connection((running.endpoint.host, running.endpoint.port)) for _ in range(30)]
    for client in clients:
        client.sendall(b"x" * 999 + b"\n" + b"y" * 999 + b"\n")
    await running.listener.stop_accepting()
    await running.listener.drain()

    assert len(running.intake.messages) == 60
    await send_blocking(clients[0])
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(running.intake.messages) == 60
    for client in clients:
        client.close()


async def send_blocking(client: socket.socket) -> None:
    client.sendall(b"after the drain\n")


async def test_drain_waits_for_a_paused_intake(running: Running) -> None:
    """What has arrived stays where it is until there is room for it."""
    client = await running.connect()
    running.intake.paused = True
    await send(client, b"late\n")
    draining = asyncio.ensure_future(running.listener.drain())
    await until(lambda: running.intake.asked)
    waited = not draining.done()
    running.intake.resume()
    await draining

    assert waited
    assert running.intake.messages == [b"late"]


async def test_drain_of_a_sender_that_never_stops(running: Running) -> None:
    """The caller's bound ends it; nothing is read afterwards."""
    client = await running.connect()

    async def flood() -> None:
        while True:
            await send(client, b"x" * 999_999 + b"\n")

    flooding = asyncio.ensure_future(flood())
    await until(lambda: running.stats.bytes)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await running.listener.drain()
    read = running.stats.bytes
    for _ in range(10):
        await asyncio.sleep(0)

    assert running.stats.bytes == read
    flooding.cancel()
    await asyncio.wait([flooding])


async def test_close_lets_go_of_everything() -> None:
    """Twice is no trouble, nor is closing what never started."""
    running = Running(PLAIN)
    await running.listener.aclose()
    await running.listener.drain()
    async with running:
        client = await running.connect()
        await until(lambda: running.stats.connections)
        await running.listener.aclose()
        await running.listener.aclose()

        assert await receive(client, 1) == b""
        assert running.stats.connections == 0


async def test_close_while_paused() -> None:
    """The task that waits for the intake ends, too."""
    async with Running(PLAIN) as running:
        running.intake.pause_after = 1
        await send(await running.connect(), b"one\n")
        await until(lambda: running.intake.asked)
        task = running.listener._resuming
        await running.listener.aclose()

        assert task is not None
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_start_that_fails() -> None:
    """A port that is taken leaves nothing behind, and the listener can be closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = Running(PLAIN, f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ListenError, match="address already in use"):
            await running.listener.start(running.intake)
        await running.listener.aclose()


def test_options_that_make_no_sense() -> None:
    """They are refused before anything is opened."""
    with pytest.raises(InvalidOption, match=r"tcp://127\.0\.0\.1:0: max-connections"):
        Running(replace(PLAIN, max_connections=0))


# -- protocols with a decoder of their own ---------------------------------------------------------


class Confirming(StreamListener):
    """Answers each chunk with its size, or at length, and breaks on an x."""

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        connection = super()._connection(sock, origin)
        connection.decoder = _ConfirmingDecoder(connection)
        return connection


class _ConfirmingDecoder(DelimitedDecoder):
    def __init__(self, connection: Connection) -> None:
        super().__init__(b"\n", 1000)
        self._connection = connection

    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        if data[:1] == b"x":
            raise RuntimeError("a fault in a decoder")
        self._connection.unsaid += b"." * 50_000 if data[:1] == b"l" else b"%d;" % size
        return super().feed(data, size)


@pytest.fixture
async def confirming() -> AsyncIterator[Running]:
    made = Running(PLAIN)
    made.listener = Confirming(TcpBinding(Endpoint.parse("tcp://127.0.0.1:0"), allow_remote=False), PLAIN)
    made.stats = made.listener.stats
    async with made:
        yield made


async def test_decoder_that_answers(confirming: Running) -> None:
    """What it has to say is sent."""
    client = await confirming.connect()
    await send(client, b"one\ntw")

    assert await receive(client, 2) == b"6;"
    assert confirming.intake.messages == [b"one"]


async def test_sender_that_does_not_listen(confirming: Running) -> None:
    """Answers that nobody reads are kept within a bound, and then the connection is closed."""
    client = await confirming.connect()
    with contextlib.suppress(ConnectionError):
        while not confirming.stats.evicted:
            await send(client, b"long\n")
            await asyncio.sleep(0)

    assert confirming.stats.evicted == 1
    assert confirming.stats.connections == 0


async def test_decoder_with_a_fault(confirming: Running, caplog: pytest.LogCaptureFixture) -> None:
    """It closes its own connection, with a traceback in the log; the others go on."""
    bad, good = await confirming.connect(), await confirming.connect()
    await send(bad, b"x")
    await send(good, b"hello\n")
    await until(lambda: confirming.stats.evicted and confirming.intake.messages)

    assert confirming.intake.messages == [b"hello"]
    assert "RuntimeError while reading it" in lines_of(caplog)[0]
    assert caplog.records[0].exc_info
