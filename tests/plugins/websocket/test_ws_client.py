"""The websocket client: what it sends, what it hears, and what it says when the connection ends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, Rejected, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.streams.progress import TCP_ACKS
from producer_pool_websocket.answering import House
from producer_pool_websocket.frames import BINARY, CLOSE, PING, PONG, TEXT
from producer_pool_websocket.options import ServerOptions
from producer_pool_websocket.reading import FrameReader
from support.ends import make_client
from support.streams import Consumer, FakeSignals, is_reset, receive, receive_all, reset, send, until
from support.webs import frame, read_head

# Both ends are on one loop: when this machine stands still, neither of them is late.
pytestmark = pytest.mark.usefixtures("unhurried")

LEVELS = [*sorted(TCP_ACKS), Ack.PEER]
each_level = pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)


class Connected:
    """A client, the raw other side, and what the client said."""

    def __init__(self, consumer: Consumer, query: str = "", ack: Ack = Ack.WRITTEN) -> None:
        self.client = make_client(f"ws://127.0.0.1:{consumer.port}/{query}")
        self.signals = FakeSignals(ack)
        self.messages: list[bytes] = []
        """What answer() has read."""
        self._consumer = consumer
        self._reader = FrameReader(1 << 30, masked=True)

    async def __aenter__(self) -> Connected:
        self.client.attach(self.signals)
        connecting = asyncio.ensure_future(self.client.connect())
        self.peer = await self._consumer.accept()
        asked = await read_head(self.peer)
        await send(self.peer, House("/", ServerOptions(), None).answer(asked.encode()).data)
        await connecting
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.peer.close()
        await self.client.aclose()

    def start(self, *batches: Batch, offset: int = 0) -> int:
        self.signals.starting = True
        taken: int = self.client.start(batches, offset)
        self.signals.starting = False
        return taken

    async def read(self, count: int) -> list[bytes]:
        """Read frames until there are *count* messages, and answer no ping."""
        messages: list[bytes] = []
        while len(messages) < count and not self._reader.is_over():
            data = await receive_some(self.peer)
            messages += self._reader.feed(data, len(data))
        return messages

    async def ping(self) -> bytes:
        """Read until a ping has come, and return what it carries."""
        while self._reader.ping is None:
            data = await receive_some(self.peer)
            self._reader.feed(data, len(data))
        payload, self._reader.ping = self._reader.ping, None
        return payload

    async def answer(self) -> None:
        """Read on, and answer each ping."""
        while True:
            data = await receive_some(self.peer)
            self.messages += self._reader.feed(data, len(data))
            if self._reader.ping is not None:
                payload, self._reader.ping = self._reader.ping, None
                await self.say(PONG, payload)

    async def say(self, opcode: int, payload: bytes = b"") -> None:
        await send(self.peer, frame(opcode, payload, masked=False))


async def receive_some(sock: Any) -> bytes:
    async with asyncio.timeout(20):
        data: bytes = await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
    return data


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    with Consumer() as made:
        yield made


@pytest.fixture
async def link(consumer: Consumer) -> AsyncIterator[Connected]:
    async with Connected(consumer) as made:
        yield made


# -- messages ---------------------------------------------------------------------------------------


@each_level
async def test_levels(consumer: Consumer, ack: Ack) -> None:
    """Each is reached; PEER only when the consumer has answered a ping behind the messages."""
    async with Connected(consumer, ack=ack) as link:
        assert link.start(Batch.of([b"one", b"two"])) == 1
        assert link.client.settled().written == 2
        assert await link.read(2) == [b"one", b"two"]
        if ack is Ack.PEER:
            assert link.client.settled() == (2, 0)
            await link.say(PONG, await link.ping())

        await until(lambda: link.client.settled() == (2, 2))
        assert link.client.acks == {*TCP_ACKS, Ack.PEER}


async def test_text_and_binary(consumer: Consumer) -> None:
    """Text by default; frames=binary for any bytes."""
    for query, opcode in (("", TEXT), ("?frames=binary", BINARY)):
        async with Connected(consumer, query) as link:
            link.start(Batch.of([b"one"]))

            assert (await receive(link.peer, 9))[0] == 0x80 | opcode


async def test_messages_that_are_no_text(consumer: Consumer) -> None:
    """Each is rejected alone, with the way out; binary frames take them."""
    batch = Batch.of([b"good", b"\xff", "grün".encode(), b"\n\0"])
    misfits = make_client(f"ws://127.0.0.1:{consumer.port}").misfits(batch)

    assert list(misfits) == [1]
    assert isinstance(misfits[1], Rejected)
    assert "use frames=binary" in str(misfits[1])
    assert make_client(f"ws://127.0.0.1:{consumer.port}?frames=binary").misfits(batch) == {}


async def test_connection_that_is_made_again(consumer: Consumer) -> None:
    """Counting starts anew, and so does what is known of the consumer."""
    async with Connected(consumer, ack=Ack.PEER) as link:
        link.start(Batch.of([b"one"]))
        old = await link.ping()
        await link.client.aclose()
        again = Connected(consumer, ack=Ack.PEER)
        again.client = link.client
        async with again:
            again.start(Batch.of([b"two"] * 2), offset=1)
            await again.say(PONG, old + b"x")
            assert await again.read(1) == [b"two"]
            assert again.client.settled() == (1, 0)
            await again.say(PONG, await again.ping())
            await until(lambda: again.client.settled() == (1, 1))


# -- the level of a pong ----------------------------------------------------------------------------


async def test_pongs_are_cumulative(consumer: Consumer) -> None:
    """One pong confirms all messages before its ping, and none after it; and the pool hears of it at once."""
    async with Connected(consumer, ack=Ack.PEER) as link:
        link.start(Batch.of([b"one"]))
        first = await link.ping()
        link.start(Batch.of([b"two"]))
        link.start(Batch.of([b"three"]))
        assert await link.read(2) == [b"two", b"three"]
        assert link._reader.ping is None
        writes = link.signals.writes
        await link.say(PONG, first)
        await until(lambda: link.signals.writes > writes)

        assert link.client.settled() == (3, 1)
        link.start(Batch.of([b"four"]))
        answering = asyncio.ensure_future(link.answer())
        await until(lambda: link.client.settled() == (4, 4))
        answering.cancel()


async def test_last_messages_are_asked_after(consumer: Consumer) -> None:
    """What was sent while a ping was on its way gets its own when that is back, though nothing follows."""
    async with Connected(consumer, ack=Ack.PEER) as link:
        link.start(Batch.of([b"one"]))
        first = await link.ping()
        link.start(Batch.of([b"two"]))
        await link.say(PONG, first)
        await link.say(PONG, await link.ping())

        await until(lambda: link.client.settled() == (2, 2))


async def test_pongs_that_answer_nothing(consumer: Consumer) -> None:
    """They confirm nothing: a consumer may send them unasked (RFC 6455, 5.5.3)."""
    async with Connected(consumer, ack=Ack.PEER) as link:
        link.start(Batch.of([b"one"]))
        payload = await link.ping()
        for nonsense in (b"", b"hello", struct.pack("!Q", 1 << 40), payload[::-1]):
            await link.say(PONG, nonsense)
        await link.say(PING, b"done?")
        answering = asyncio.ensure_future(link.answer())
        await until(lambda: b"done?" in link._reader.pongs)
        answering.cancel()

        assert link.client.settled() == (1, 0)


async def test_large_batch_is_asked_after_in_parts() -> None:
    """A consumer that needs long for megabytes is seen to read them, and nobody takes slow for dead."""
    batch = Batch.of([b"%07d" % number * 100 for number in range(20_000)])
    # Its kernel takes little at once, so that it has many turns in between, whatever others take.
    with Consumer(receive_buffer=256 * 1024) as consumer:
        async with Connected(consumer, ack=Ack.PEER) as link:
            assert link.start(batch) == 1
            answering = asyncio.ensure_future(link.answer())
            seen = set()
            while link.client.settled().confirmed < 20_000:
                seen.add(link.client.settled().confirmed)
                await asyncio.sleep(0)
            answering.cancel()

            assert len(seen) > 5
            assert link.messages == list(batch.messages)


async def test_break_inside_a_large_batch(consumer: Consumer) -> None:
    """What the pongs had confirmed until then counts, and the rest is sent again from a whole message."""
    batch = Batch.of([b"%07d" % number * 100 for number in range(20_000)])
    async with Connected(consumer, ack=Ack.PEER) as link:
        link.start(batch)
        await link.read(1000)
        await link.say(PONG, await link.ping())
        await until(lambda: link.client.settled().confirmed)
        confirmed = link.client.settled().confirmed
        reset(link.peer)
        await until(lambda: link.signals.errors)

        assert link.client.settled().confirmed == confirmed
        assert 0 < confirmed < 20_000
        assert link.start(Batch.of([b"next"])) == 0


async def test_no_ping_is_needed_for_less(consumer: Consumer) -> None:
    """Who asks for WRITTEN or KERNEL costs the consumer nothing."""
    for ack in sorted(TCP_ACKS):
        async with Connected(consumer, ack=ack) as link:
            link.start(*[Batch.of([b"x" * 60_000])] * 5)
            await link.read(5)
            await until(lambda: link.client.settled() == (5, 5))
            assert link._reader.ping is None


# -- what the consumer says -------------------------------------------------------------------------


async def test_messages_of_the_consumer_are_skipped(link: Connected) -> None:
    """Whatever their size, and its pings between them are answered: the last of those that came together."""
    await link.say(TEXT, b"hello")
    await link.say(BINARY, bytes(1_000_000))
    await link.say(PING, b"there?")
    while b"there?" not in link._reader.pongs:
        data = await receive_some(link.peer)
        link._reader.feed(data, len(data))

    assert link.start(Batch.of([b"one"])) == 1
    assert await link.read(1) == [b"one"]


async def test_flood_of_small_frames(link: Connected) -> None:
    """A consumer that talks without end is heard a little in each turn, so that it delays no other."""
    sizes: list[int] = []
    feed = link.client._reader.feed

    def noted(data: memoryview, size: int) -> list[bytes]:
        sizes.append(size)
        messages: list[bytes] = feed(data, size)
        return messages

    link.client._reader.feed = noted
    flood = frame(TEXT, b"", masked=False) * 50_000 + frame(PONG, b"", masked=False) * 50_000
    await send(link.peer, flood)
    await until(lambda: sum(sizes) == len(flood))

    assert max(sizes) <= 16 * 1024
    assert max(sizes[-10:]) <= 2 * 1024
    assert link.signals.errors == []


async def test_pings_while_nothing_can_go_out() -> None:
    """A consumer that asks and does not read fills nothing: one answer waits, to the last of its pings."""
    with Consumer(receive_buffer=8192) as consumer:
        async with Connected(consumer, "?max-message=20MiB") as link:
            link.start(Batch.of([b"x" * 9_999_999]))
            for number in range(1000):
                await link.say(PING, b"%d" % number)
            await until(lambda: link.client._ping == b"999")
            assert len(await link.read(1)) == 1
            while not link._reader.pongs:
                data = await receive_some(link.peer)
                link._reader.feed(data, len(data))

            assert link._reader.pongs == [b"999"]


@pytest.mark.parametrize(
    "payload,shown",
    [
        (struct.pack("!H", 1001), "1001 (it is going away)"),
        (struct.pack("!H", 1009), "1009 (a message is longer than it takes; max-message= rejects such"),
        (struct.pack("!H", 4001) + b"because\n", r"4001: 'because\n'"),
        (b"", "1005 (without a reason)"),
    ],
)
async def test_end_that_the_consumer_asks_for(link: Connected, payload: bytes, shown: str) -> None:
    """It is answered, and the error says what the consumer said; what was in flight may have arrived."""
    link.start(Batch.of([b"one"]))
    await link.say(CLOSE, payload)
    await until(lambda: link.signals.errors)

    assert isinstance(link.signals.errors[0], SendError)
    assert f"the consumer closed the connection: {shown}" in str(link.signals.errors[0])
    assert link.start(Batch.of([b"two"])) == 0
    await link.client.aclose()
    assert await link.read(2) == [b"one"]
    assert link._reader.closed is not None
    assert link._reader.closed.code == (struct.unpack("!H", payload[:2])[0] if payload else 1005)


async def test_consumer_that_breaks_a_rule(link: Connected) -> None:
    """It is told by its code, and the connection is over."""
    await send(link.peer, frame(TEXT, b"x", masked=True))
    await until(lambda: link.signals.errors)

    assert "broke a rule of websocket: a frame with a mask" in str(link.signals.errors[0])
    await link.client.aclose()
    await link.read(1)
    assert link._reader.closed is not None
    assert link._reader.closed.code == 1002


async def test_end_without_a_word(link: Connected) -> None:
    """A connection that just ends is an error, too."""
    link.peer.close()
    await until(lambda: link.signals.errors)

    assert "the consumer closed the connection" in str(link.signals.errors[0])


# -- our own end ------------------------------------------------------------------------------------


@each_level
async def test_farewell(consumer: Consumer, ack: Ack) -> None:
    """We say that we are done, wait for the answer, and end in good order; nothing of it is a reset."""
    async with Connected(consumer, ack=ack) as link:
        link.start(Batch.of([b"one"]))
        closing = asyncio.ensure_future(link.client.aclose())
        assert await link.read(2) == [b"one"]

        assert link._reader.closed == (1000, "")
        assert not closing.done()
        await link.say(CLOSE, struct.pack("!H", 1000))
        assert await receive_all(link.peer) == b""
        link.peer.close()
        await closing


async def test_farewell_that_is_not_answered(link: Connected) -> None:
    """It is waited for, and not for long."""
    async with asyncio.timeout(10):
        await link.client.aclose()


async def test_end_inside_a_message() -> None:
    """A client that has to stop inside a frame resets the connection: half a message is nobody's message."""
    with Consumer(receive_buffer=8192) as consumer:
        async with Connected(consumer, "?max-message=20MiB") as link:
            link.start(Batch.of([b"x" * 9_999_999]))
            await link.client.aclose()

            assert await is_reset(link.peer)


# -- time -------------------------------------------------------------------------------------------


async def test_quiet_consumer_is_asked(consumer: Consumer) -> None:
    """It gets a ping; as long as it answers, it may be quiet."""
    async with Connected(consumer, "?ping-interval=20ms") as link:
        for _ in range(3):
            await link.say(PONG, await link.ping())

        assert link.signals.errors == []


async def test_pong_that_never_comes(consumer: Consumer) -> None:
    """The connection is given up, though TCP has nothing against it."""
    async with Connected(consumer, "?ping-interval=20ms&ping-timeout=50ms") as link:
        await until(lambda: link.signals.errors)

        assert "no answer to a ping within 0.05 s; see ping-timeout" in str(link.signals.errors[0])


async def test_control_consumer_that_is_never_asked(consumer: Consumer) -> None:
    """The control: without pings, a consumer that is gone is taken for a quiet one."""
    async with Connected(consumer, "?ping-interval=0&ping-timeout=50ms") as link:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await receive(link.peer, 1)

        assert link.signals.errors == []


async def test_consumer_that_talks_is_there(consumer: Consumer) -> None:
    """Whatever it says, it lives: a pong may have to wait behind more."""
    async with Connected(consumer, "?ping-interval=10ms&ping-timeout=100ms") as link:
        await link.ping()
        for _ in range(20):
            await link.say(TEXT, b"busy")
            await asyncio.sleep(0.01)

        assert link.signals.errors == []


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Switching Protocols\r\n"])
async def test_half_a_handshake(consumer: Consumer, said: bytes) -> None:
    """A consumer that does not finish it takes no longer than one attempt may."""
    client = make_client(f"ws://127.0.0.1:{consumer.port}")
    client.timeout = 0.1
    connecting = asyncio.ensure_future(client.connect())
    await send(await consumer.accept(), said)
    with pytest.raises(ConnectError, match=r"handshake: not done within .* does it speak websocket\?$"):
        await connecting


async def test_consumer_that_is_no_websocket(consumer: Consumer) -> None:
    """Its answer is an error that says so, and after which nothing can have arrived."""
    client = make_client(f"ws://127.0.0.1:{consumer.port}")
    connecting = asyncio.ensure_future(client.connect())
    await send(await consumer.accept(), b"hello\r\n\r\n")
    with pytest.raises(ConnectError, match="what it answers is not HTTP"):
        await connecting
