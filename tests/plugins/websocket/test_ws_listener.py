"""The websocket listener: what becomes of frames, ends, breaks and silence."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from producer_pool.model.errors import InvalidOption
from producer_pool_websocket.answering import House
from producer_pool_websocket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT
from producer_pool_websocket.listener import WebSocketConnection
from producer_pool_websocket.options import ServerOptions
from support.ends import make_listener
from support.listening import lines_of
from support.streams import is_reset, receive, receive_all, reset, send, until
from support.webs import Listening, frame, request

# Both ends are on one loop: when this machine stands still, neither of them is late.
pytestmark = pytest.mark.usefixtures("unhurried")

CLOSED = frame(CLOSE, struct.pack("!H", 1000), masked=False)


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    async with Listening() as made:
        yield made


def closing(code: int) -> bytes:
    """Return how a close frame of this code begins, after the length."""
    return struct.pack("!H", code)


# -- messages ---------------------------------------------------------------------------------------


async def test_messages_of_both_kinds(listening: Listening) -> None:
    """Text, binary, empty ones, with any bytes in them, and in fragments: each is one message."""
    sock = await listening.opened()
    await send(
        sock,
        frame(TEXT, "grün".encode())
        + frame(BINARY, b"\xff\x00\n")
        + frame(TEXT, b"")
        + frame(TEXT, b"in ", fin=False)
        + frame(CONTINUATION, b"three ", fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, b"parts")
        + frame(BINARY, b"x" * (1 << 20)),
    )
    await until(lambda: len(listening.intake.messages) == 5)

    assert listening.intake.messages == [
        "grün".encode(), b"\xff\x00\n", b"", b"in three parts", b"x" * (1 << 20),
    ]  # fmt: skip
    assert await receive(sock, 9) == frame(PONG, b"between", masked=False)
    assert listening.stats.messages == 5


async def test_one_read_is_one_batch(listening: Listening) -> None:
    """All frames that came together go on together, with where they came from."""
    sock = await listening.opened()
    await send(sock, b"".join(frame(TEXT, b"%d" % number) for number in range(500)))
    await until(lambda: len(listening.intake.messages) == 500)

    assert len(listening.intake.batches) == 1
    port = sock.getsockname()[1]
    assert listening.intake.batches[0].origin == f"ws://127.0.0.1:{port}"
    assert listening.intake.batches[0].received > 0


async def test_frames_right_behind_the_request(listening: Listening) -> None:
    """Who does not wait for the answer loses nothing."""
    sock, answer = await listening.ask(request() + frame(TEXT, b"early"))
    await until(lambda: listening.intake.messages == [b"early"])

    assert answer.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    sock.close()


async def test_byte_by_byte(listening: Listening) -> None:
    """However slowly it comes, it is the same."""
    sock = await listening.connect()
    for byte in request() + frame(TEXT, b"slow"):
        await send(sock, bytes([byte]))
        await asyncio.sleep(0)
    await until(lambda: listening.intake.messages == [b"slow"])


async def test_last_of_several_pings_is_answered(listening: Listening) -> None:
    """One pong stands for all of them (RFC 6455, 5.5.3), and goes out behind the messages before it."""
    sock = await listening.opened()
    await send(sock, b"".join(frame(PING, b"%d" % number) for number in range(100)) + frame(TEXT, b"x"))
    await until(lambda: listening.intake.messages)
    answer = b""
    while not answer.endswith(frame(PONG, b"99", masked=False)):
        answer += await receive(sock, 1)

    assert len(answer) <= 390


async def test_paused_intake_leaves_them_waiting(listening: Listening) -> None:
    """Nothing is read, and nothing is lost."""
    sock = await listening.opened()
    listening.intake.paused = True
    await send(sock, frame(TEXT, b"later"))
    await until(lambda: listening.intake.asked)
    assert listening.intake.messages == []
    listening.intake.resume()

    await until(lambda: listening.intake.messages == [b"later"])


async def test_little_that_becomes_much() -> None:
    """However small messages get by compression, not all that came are decompressed at once."""
    async with Listening("ws://127.0.0.1:0?compression=deflate") as inflating:
        encoder = zlib.compressobj(wbits=-15)
        deflated = (encoder.compress(bytes(100_000)) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]
        stream = request(Sec_WebSocket_Extensions="permessage-deflate")
        stream += frame(BINARY, deflated, rsv=RSV1) * 400
        await send(await inflating.connect(), stream)
        await until(lambda: inflating.stats.messages == 400)

        assert len(stream) < 60_000
        assert max(batch.nbytes for batch in inflating.intake.batches) < 20_000_000


@pytest.mark.parametrize(
    "small", [frame(PING, b""), frame(PONG, b""), frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"")]
)
async def test_flood_of_small_frames(listening: Listening, small: bytes) -> None:
    """Who sends little else is read in small pieces, so that others have their turns in between."""
    flood, good = await listening.opened(), await listening.opened()
    await send(good, b"".join(frame(TEXT, b"%d" % number) for number in range(3000)))
    await send(flood, small * 10_000 + frame(TEXT, b"through"))
    await until(lambda: b"through" in listening.intake.messages and len(listening.intake.messages) > 3000)
    bites = {one.socket.getpeername(): one.bite for one in listening.listener.everybody()}

    assert 0 < bites[flood.getsockname()] < 64 * 1024
    assert bites[good.getsockname()] == 0


async def test_reads_no_more_than_is_soon_copied(listening: Listening) -> None:
    """However much a connection has, it is read in pieces whose copies stay close to the processor."""
    buffer = listening.listener._buffer
    for _ in range(8):
        buffer.fit(len(buffer.data), listening.intake)  # a read filled it

    assert len(buffer.data) == 256 * 1024


# -- ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", struct.pack("!H", 1001) + b"bye", struct.pack("!H", 4321)])
async def test_end_that_the_other_side_asks_for(listening: Listening, payload: bytes) -> None:
    """It is answered with the same code, and the connection is closed in good order."""
    sock = await listening.opened()
    await send(sock, frame(TEXT, b"last") + frame(CLOSE, payload))

    assert await receive_all(sock) == frame(CLOSE, payload[:2], masked=False)
    assert listening.intake.messages == [b"last"]
    assert (listening.stats.evicted, listening.stats.tails) == (0, 0)
    sock.close()
    await until(lambda: not listening.stats.connections)


@pytest.mark.parametrize(
    "stream,code",
    [
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(TEXT, b"x", rsv=RSV1), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (b"\x82\xff" + struct.pack("!Q", 1 << 30), 1009),
    ],
)
async def test_rule_that_is_broken(
    listening: Listening, stream: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its close code says so; what came before is passed on, and the other connections go on."""
    good, bad = await listening.opened(), await listening.opened()
    await send(bad, frame(TEXT, b"before") + stream)
    answer = await receive_all(bad)

    assert answer[0] == 0x80 | CLOSE
    assert answer[2:4] == closing(code)
    assert listening.intake.messages == [b"before"]
    assert listening.stats.evicted == 1
    assert len(lines_of(caplog)) == 1
    await send(good, frame(TEXT, b"after"))
    await until(lambda: listening.intake.messages == [b"before", b"after"])


async def test_who_breaks_a_rule_and_goes_on(listening: Listening) -> None:
    """It still hears why: what it sends after that does not turn the end into a reset."""
    sock = await listening.opened()
    await send(sock, frame(TEXT, b"\xff") + bytes(400_000))

    assert (await receive_all(sock))[2:4] == closing(1007)


@pytest.mark.parametrize("cut", [3, 8])
async def test_break_inside_a_message(
    listening: Listening, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a message is not passed on, and counted; neither a clean end nor a reset makes it whole."""
    for end in (lambda sock: sock.close(), reset):
        sock = await listening.opened()
        await send(sock, frame(TEXT, b"whole") + frame(TEXT, b"half")[:cut])
        await until(lambda: listening.intake.messages)
        end(sock)
        await until(lambda: not listening.stats.connections)
        assert listening.intake.messages == [b"whole"]
        listening.intake.batches.clear()

    assert listening.stats.tails == 2
    assert "inside a message" in lines_of(caplog)[0]
    assert "tail=" not in lines_of(caplog)[0]


async def test_break_inside_fragments(listening: Listening) -> None:
    """Fragments that came are no message without their last."""
    sock = await listening.opened()
    await send(sock, frame(TEXT, b"half", fin=False))
    sock.close()
    await until(lambda: listening.stats.tails)

    assert listening.intake.messages == []


async def test_end_between_fragments(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    """Who gives up a message, and says so, is answered; its half a message is counted, and is no fault."""
    sock = await listening.opened()
    await send(sock, frame(TEXT, b"half", fin=False) + frame(CLOSE, closing(1011) + b"I failed"))

    assert await receive_all(sock) == frame(CLOSE, closing(1011), masked=False)
    assert listening.intake.messages == []
    assert (listening.stats.evicted, listening.stats.tails) == (0, 1)
    assert "ended inside a message, 4 bytes of it discarded" in lines_of(caplog)[0]


async def test_end_without_a_word(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    """Between two messages it takes nothing with it, and is no fault."""
    sock = await listening.opened()
    await send(sock, frame(TEXT, b"whole"))
    sock.close()
    await until(lambda: listening.intake.messages and not listening.stats.connections)

    assert lines_of(caplog) == []


async def test_closing_says_goodbye(listening: Listening) -> None:
    """The other side is told that we go away, and waited for a moment."""
    sock = await listening.opened()
    closing_down = asyncio.ensure_future(listening.listener.aclose())

    assert (await receive(sock, 4))[2:] == closing(1001)
    await send(sock, frame(TEXT, b"too late") + frame(CLOSE, closing(1001)))
    assert await receive_all(sock) == b""
    sock.close()
    await closing_down


async def test_draining_loses_nothing(listening: Listening) -> None:
    """What a producer sends until it has answered our goodbye arrives."""
    sock = await listening.opened()
    draining = asyncio.ensure_future(listening.listener.drain())
    assert (await receive(sock, 4))[2:] == closing(1001)
    await send(sock, frame(TEXT, b"on its way") + frame(CLOSE, closing(1001)))

    assert await receive_all(sock) == b""
    assert listening.intake.messages == [b"on its way"]
    sock.close()
    await draining


# -- time -------------------------------------------------------------------------------------------


async def test_half_a_handshake(caplog: pytest.LogCaptureFixture) -> None:
    """Who does not finish its request is told so, and let go; in TLS's way, if it got no further."""
    async with Listening("ws://127.0.0.1:0?handshake-timeout=100ms") as listening:
        good = await listening.opened()
        slow = await listening.connect()
        await send(slow, request()[:-3])

        assert (await receive_all(slow)).startswith(b"HTTP/1.1 408 ")
        assert "no websocket handshake within" in lines_of(caplog)[0]
        await send(good, frame(TEXT, b"still here"))
        await until(lambda: listening.intake.messages)


async def test_handshake_that_trickles() -> None:
    """A byte now and then wins no time: the whole request has one limit."""
    async with Listening("ws://127.0.0.1:0?handshake-timeout=100ms") as listening:
        slow = await listening.connect()
        with contextlib.suppress(ConnectionError):
            while not listening.stats.evicted:
                await send(slow, b"G")
                await asyncio.sleep(0.01)

        assert listening.stats.evicted == 1


async def test_quiet_producer_is_asked() -> None:
    """It gets a ping; as long as it answers, it may be quiet."""
    async with Listening("ws://127.0.0.1:0?ping-interval=20ms&ping-timeout=20s") as listening:
        sock = await listening.opened()
        for _ in range(3):
            assert await receive(sock, 2) == frame(PING, b"", masked=False)
            await send(sock, frame(PONG, b""))

        assert listening.stats.connections == 1


async def test_producer_that_answers_no_ping(caplog: pytest.LogCaptureFixture) -> None:
    """It is gone, though its connection is not; it is told, should it hear that."""
    async with Listening("ws://127.0.0.1:0?ping-interval=20ms&ping-timeout=50ms") as listening:
        sock = await listening.opened()
        heard = await receive_all(sock)

        assert heard[:2] == frame(PING, b"", masked=False)
        assert heard[4:] == closing(1008)
        assert "no answer to a ping within 0.05 s; see ping-timeout" in lines_of(caplog)[0]


async def test_control_producer_that_is_never_asked() -> None:
    """The control: without pings a dead connection is taken for a quiet one."""
    async with Listening("ws://127.0.0.1:0?ping-interval=0&ping-timeout=50ms") as listening:
        sock = await listening.opened()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await receive(sock, 1)

        assert listening.stats.connections == 1


async def test_nobody_is_quiet_while_we_do_not_read() -> None:
    """A paused intake is no fault of who waits for it."""
    async with Listening("ws://127.0.0.1:0?ping-interval=20ms&ping-timeout=50ms") as listening:
        sock = await listening.opened()
        assert await receive(sock, 2) == frame(PING, b"", masked=False)
        listening.intake.paused = True
        await send(sock, frame(PONG, b""))
        await until(lambda: listening.intake.asked)
        await asyncio.sleep(0.2)
        listening.intake.resume()
        assert await receive(sock, 2) == frame(PING, b"", masked=False)

        assert listening.stats.evicted == 0


async def test_producer_without_messages() -> None:
    """Pings are no messages: idle-timeout asks for those."""
    async with Listening("ws://127.0.0.1:0?idle-timeout=100ms") as listening:
        sock = await listening.opened()
        with contextlib.suppress(ConnectionError):
            while not listening.stats.evicted:
                await send(sock, frame(PING, b""))
                await asyncio.sleep(0.01)

        assert listening.stats.evicted == 1


# -- many -------------------------------------------------------------------------------------------


async def test_one_connection_too_many() -> None:
    """It is refused at once, and those that are open do not notice."""
    async with Listening("ws://127.0.0.1:0?max-connections=2") as listening:
        open_ones = [await listening.opened(), await listening.opened()]
        with contextlib.suppress(ConnectionResetError):
            assert await is_reset(await listening.connect())
        await until(lambda: listening.stats.refused)

        for sock in open_ones:
            await send(sock, frame(TEXT, b"hello"))
        await until(lambda: len(listening.intake.messages) == 2)


async def test_many_who_never_finish_their_handshake() -> None:
    """They keep nobody out, and delay nobody who is there."""
    async with Listening("ws://127.0.0.1:0?max-connections=20") as listening:
        good = await listening.opened()
        for number in range(60):
            slow = await listening.connect()
            await send(slow, request()[: number * 2])
        late = await listening.opened()
        for sock in (good, late):
            await send(sock, frame(TEXT, b"hello"))
        await until(lambda: len(listening.intake.messages) == 2)

        assert listening.stats.connections == 20


def test_quiet_connection_is_small() -> None:
    """A thousand producers that say nothing take a megabyte or little more, besides what the kernel keeps."""
    pairs = [socket.socketpair() for _ in range(100)]
    house = House("/", ServerOptions(), None)

    def made(ours: socket.socket) -> WebSocketConnection:
        connection = WebSocketConnection(ours, "ws://127.0.0.1:50000", 0.0, house=house, limit=1 << 20)
        text = bytearray(request())
        connection.receive(text, len(text), 0.0)
        connection.unsaid = b""
        return connection

    made(pairs[0][0])
    tracemalloc.start()
    kept = [made(ours) for ours, _ in pairs]
    gc.collect()
    size = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()

    assert all(connection.established for connection in kept)
    assert size < 1536
    for one in (sock for pair in pairs for sock in pair):
        one.close()


async def test_producer_that_speaks_tls(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused at its first byte, and the log says what may be meant."""
    sock = await listening.connect()
    await send(sock, b"\x16\x03\x01")

    assert (await receive_all(sock)).startswith(b"HTTP/1.1 400 ")
    assert "is wss:// meant?" in lines_of(caplog)[0]


@pytest.mark.parametrize(
    "query,wrong",
    [
        ("ping-timeout=0", "ping-timeout must be above 0 seconds"),
        ("handshake-timeout=0", "handshake-timeout must be above 0 seconds"),
        ("max-message=0", "max-message must be at least 1 byte"),
    ],
)
def test_numbers_that_make_no_sense(query: str, wrong: str) -> None:
    """Such an option is an error that names it."""
    with pytest.raises(InvalidOption, match=wrong):
        make_listener(f"ws://127.0.0.1:0?{query}")
