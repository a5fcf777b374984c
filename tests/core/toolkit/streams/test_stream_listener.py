"""The stream listener: what it passes on, what it counts, and whom it closes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from producer_pool.model.decoders import DelimitedDecoder
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ListenError
from producer_pool.model.framing import LENGTH4, LINES
from producer_pool.toolkit.sockets.binding import TcpBinding
from producer_pool.toolkit.streams import listener
from producer_pool.toolkit.streams.connection import Connection, FramedConnection, Tail
from producer_pool.toolkit.streams.listener import StreamListener
from support.consumers import reserved_port
from support.descriptors import OUT_OF_FILES, out_of_files
from support.listening import PLAIN, Running, lines_of
from support.streams import receive, reset, send, until


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with Running(PLAIN) as made:
        yield made


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


async def test_one_that_sends_beside_others(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is always the same one, nobody looks who it is. Others are served as ever."""
    busy, rare = await running.connect(), await running.connect()
    looks = 0
    poll = running.listener._ready.poll

    def look() -> Sequence[int]:
        nonlocal looks
        looks += 1
        return poll()

    monkeypatch.setattr(running.listener._ready, "poll", look)
    for turn in range(100):
        await send(busy, b"busy\n")
        await until(lambda turn=turn: len(running.intake.messages) == turn + 1)  # type: ignore[misc]
    asked, turns = looks, running.intake.messages.count(b"busy")
    await send(rare, b"rare\n")
    await until(lambda: running.intake.messages[-1] == b"rare")
    for size in (5000, 100_000, 5):
        await send(busy, b"x" * size + b"\n")
        await until(lambda size=size: len(running.intake.messages[-1]) == size)  # type: ignore[misc]

    assert asked < turns / 2
    assert looks - asked < 5


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


async def test_one_turn_is_one_batch_with_max_delay() -> None:
    """What is there of many connections goes on together, each one's messages in order."""
    async with Running(replace(PLAIN, max_delay=0.001)) as running:
        clients = [await running.connect() for _ in range(10)]
        await until(lambda: running.stats.connections == 10)
        running.intake.paused = True
        for number, client in enumerate(clients):
            await send(client, b"%d a\n%d b\n" % (number, number))
        await until(lambda: running.intake.asked)
        running.intake.resume()
        await until(lambda: running.intake.batches)
        (batch,) = running.intake.batches

        assert batch.origin == f"{running.endpoint}"
        assert sorted(batch.messages) == sorted(b"%d %c" % (n, c) for n in range(10) for c in b"ab")
        assert [m for m in batch.messages if m.startswith(b"7")] == [b"7 a", b"7 b"]


async def test_drain_within_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be read has arrived: it is passed on before the end, a message without its end, too."""
    async with Running(replace(PLAIN, max_delay=1.0, tail=Tail.DELIVER)) as running:
        gathering = running.listener._gathering
        assert gathering is not None
        end_turn = gathering.end_turn
        monkeypatch.setattr(gathering, "end_turn", lambda now: end_turn(now) or 3600.0)
        first, second = await running.connect(), await running.connect()
        await send(first, b"one\n")
        await until(lambda: running.intake.messages)
        await send(second, b"two\nrest")
        second.close()
        for _ in range(20):
            await asyncio.sleep(0)
        before = running.intake.messages
        await running.listener.drain()

        assert before == [b"one"]
        assert running.intake.messages == [b"one", b"two", b"rest"]


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


# -- the end of the listener -----------------------------------------------------------------------


async def test_stop_accepting() -> None:
    """New connections are refused; those that are open go on."""
    with reserved_port() as holder:  # or somebody else might listen there then
        async with Running(PLAIN, f"tcp://127.0.0.1:{holder.getsockname()[1]}") as running:
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


async def test_drain_reads_what_is_right_behind_it(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that had to wait has more behind what has arrived: that comes when there is room."""
    for name in ("_FOLLOWS", "_FOLLOWS_AT_MOST"):
        monkeypatch.setattr(
            listener, name, 3600.0
        )  # However late it is: the end of the stream ends the wait.
    client = await running.connect()
    await send(client, b"first\n")
    draining = asyncio.ensure_future(running.listener.drain())
    for number in range(5):
        await until(lambda: len(running.intake.messages) > number)  # noqa: B023 - asked at once
        client.sendall(b"behind it\n")
    client.close()
    await draining

    assert running.intake.messages == [b"first", *[b"behind it"] * 5]


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
        task = running.listener._turns.resuming
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


async def test_no_descriptors() -> None:
    """The error says what to do about that, and a later start goes well."""
    running = Running(PLAIN)
    with out_of_files(), pytest.raises(ListenError, match=OUT_OF_FILES):
        await running.listener.start(running.intake)
    async with running:
        await send(await running.connect(), b"one\n")
        await until(lambda: running.intake.messages)


# -- protocols with a decoder of their own ---------------------------------------------------------


class Confirming(StreamListener):
    """Answers each chunk with its size, or at length, and breaks on an x."""

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        connection = super()._connection(sock, origin)
        assert isinstance(connection, FramedConnection)
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
