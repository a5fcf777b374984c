"""Consumers that connect: who is let in, what they get, and what counts as delivered."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
import ssl
import struct
from pathlib import Path
from typing import Self

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from producer_pool.aio import AsyncProducerPool
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, ConnectError, InvalidOption, Rejected
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy
from producer_pool_websocket.frames import BINARY, CLOSE, PING, PONG, TEXT
from producer_pool_websocket.reading import FrameReader
from support.certificates import Authority
from support.ends import make_client
from support.serving import ServingSignals
from support.streams import is_reset, receive, receive_all, reset, send, until
from support.webs import TRANSPORTS, frame, read_head, request, texts

# Both ends are on one loop: when this machine stands still, neither of them is late.
pytestmark = pytest.mark.usefixtures("unhurried")

LEVELS = sorted(TRANSPORTS["ws+serve"].acks)
each_level = pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)
MESSAGES = [b"one", "zwö".encode(), b"", b"new\nline and \0", b"x" * 65536, b"y" * (1 << 20)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class Serving:
    """A client that consumers connect to, what it said, and raw consumers."""

    def __init__(self, query: str = "", ack: Ack = Ack.WRITTEN, scheme: str = "ws+serve") -> None:
        self.client = make_client(f"{scheme}://127.0.0.1:0/live?{query}")
        self.signals = ServingSignals(ack)
        self._sockets: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        self.client.attach(self.signals)
        await self.client.connect()
        self.port = Endpoint.parse(self.client.address).port
        self.url = f"ws://127.0.0.1:{self.port}/live"
        return self

    async def __aexit__(self, *exc: object) -> None:
        for sock in self._sockets:
            sock.close()
        await self.client.aclose()

    def dial(self, receive_buffer: int | None = None) -> socket.socket:
        sock = socket.socket()
        self._sockets.append(sock)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", self.port))
        sock.setblocking(False)
        return sock

    async def ask(self, path: str = "/live", **headers: str) -> tuple[socket.socket, str]:
        sock = self.dial()
        await send(sock, request(path, **headers))
        return sock, await read_head(sock)

    async def join(self, receive_buffer: int | None = None) -> socket.socket:
        """Connect a raw consumer, and return it when it is served."""
        sock = self.dial(receive_buffer)
        await send(sock, request("/live"))
        assert (await read_head(sock)).startswith("HTTP/1.1 101 ")
        return sock

    async def start(self, *messages: bytes) -> None:
        batch = Batch.of(messages)
        while not self.client.start((batch,)):
            await asyncio.sleep(0)

    @property
    def settled(self) -> tuple[int, int]:
        written, confirmed = self.client.settled()
        return written, confirmed


async def got(sock: socket.socket, count: int, *, answers: bool = True) -> list[bytes]:
    """Read *count* messages as a raw consumer, and answer pings, or not."""
    reader = FrameReader(1 << 30, masked=False)
    messages: list[bytes] = []
    async with asyncio.timeout(20):
        while len(messages) < count:
            data = await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
            assert data
            messages += reader.feed(data, len(data))
            if answers and reader.ping is not None:
                payload, reader.ping = reader.ping, None
                await send(sock, frame(PONG, payload))
    return messages


async def pong(sock: socket.socket) -> None:
    """Read up to the next ping, and answer it."""
    reader = FrameReader(None, masked=False)
    async with asyncio.timeout(20):
        while reader.ping is None:
            data = await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
            reader.feed(data, len(data))
    await send(sock, frame(PONG, reader.ping))


# -- consumers of another make ----------------------------------------------------------------------


@each_level
@pytest.mark.parametrize("query", ["", "frames=binary"])
async def test_two_consumers(ack: Ack, query: str) -> None:
    """Each gets every message that is sent while it is connected, and each level is reached."""
    async with (
        Serving(query, ack) as serving,
        connect(serving.url, max_size=1 << 21) as first,
        connect(serving.url, max_size=1 << 21) as second,
    ):
        assert serving.client.peers == 2
        await serving.start(*MESSAGES)
        received = [[await consumer.recv() for _ in MESSAGES] for consumer in (first, second)]

        assert [texts(messages) for messages in received] == [MESSAGES, MESSAGES]
        assert type(received[0][0]) is (bytes if query else str)
        await until(lambda: serving.settled == (len(MESSAGES), len(MESSAGES)))
        assert serving.client.acks == set(LEVELS)


async def test_consumer_over_tls(authority: Authority) -> None:
    """The same, encrypted."""
    here = authority.issue()
    context = ssl.create_default_context(cafile=str(authority.file))
    async with Serving(here.query, Ack.PEER, "wss+serve") as serving:
        async with connect(serving.url.replace("ws:", "wss:"), ssl=context, max_size=1 << 21) as consumer:
            await serving.start(*MESSAGES)
            received = [await consumer.recv() for _ in MESSAGES]
            await until(lambda: serving.settled == (len(MESSAGES), len(MESSAGES)))

        assert texts(received) == MESSAGES
        assert consumer.close_code == 1000


async def test_late_consumer() -> None:
    """It gets what is sent after it came; what was sent before, it never gets."""
    async with Serving() as serving, connect(serving.url) as early:
        await serving.start(b"one")
        async with connect(serving.url) as late:
            await serving.start(b"two")
            assert await late.recv() == "two"

        assert [await early.recv(), await early.recv()] == ["one", "two"]


async def test_end_of_the_client() -> None:
    """Every consumer has what was written, and is told that we go away."""
    async with Serving() as serving:
        consumer = await connect(serving.url)
        await serving.start(b"last")
        closing = asyncio.ensure_future(serving.client.aclose())
        assert await consumer.recv() == "last"
        with pytest.raises(ConnectionClosed):
            await consumer.recv()
        await closing
        await consumer.close()

        assert consumer.close_code == 1001


async def test_many_batches_to_many_consumers() -> None:
    """All of it, in order, with the highest level, while consumers come and go."""
    async with Serving("", Ack.PEER) as serving:
        count = 400

        async def consume(consumer: ClientConnection) -> list[str | bytes]:
            async with consumer:
                return [await consumer.recv() for _ in range(count * 2)]

        consumers = [asyncio.ensure_future(consume(await connect(serving.url))) for _ in range(5)]
        for number in range(count):
            await serving.start(b"%d" % number, b"x" * 2000)
            if number % 50 == 0:
                async with connect(serving.url) as guest:
                    await (await guest.ping())
            await asyncio.sleep(0)
        received = await asyncio.gather(*consumers)

        expected = [message for number in range(count) for message in (f"{number}", "x" * 2000)]
        assert received == [expected] * 5
        await until(lambda: serving.settled == (2 * count, 2 * count))


# -- who is let in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query,path,headers,status",
    [
        ("", "/live", {}, 101),
        ("", "/other", {}, 404),
        ("", "/live", {"Origin": "https://page.example"}, 403),
        ("origin=https://page.example", "/live", {"Origin": "https://page.example"}, 101),
        ("require-origin=yes", "/live", {}, 403),
        ("subprotocol=chat", "/live", {}, 400),
        ("subprotocol=chat", "/live", {"Sec_WebSocket_Protocol": "chat"}, 101),
    ],
)
async def test_rules_of_the_handshake(
    query: str, path: str, headers: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They are those of a listener; who is refused is told why, gets nothing, and is counted."""
    async with Serving(query) as serving:
        sock, answer = await serving.ask(path, **headers)

        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert serving.client.peers == (status == 101)
        if status != 101:
            assert len(await receive_all(sock)) > 10
            assert serving.client.stats.evicted == 1
            assert f"cut off: {status}" in caplog.text


async def test_token(tmp_path: Path) -> None:
    """A page, which can send no header, has it in the address; it is not shown."""
    path = tmp_path / "token"
    path.write_text("a-secret-token\n")
    async with Serving(f"token-file={path}") as serving:
        for given, status in (("/live", 401), ("/live?access_token=a-secret-token", 101)):
            assert (await serving.ask(given))[1].startswith(f"HTTP/1.1 {status} ")


async def test_remote_consumers_without_a_word() -> None:
    """Where others can connect there has to be TLS, a token, or the word."""
    for client, opens in (
        ("ws+serve://0.0.0.0:0", False),
        ("ws+serve://0.0.0.0:0?allow-remote=yes", True),
    ):
        if opens:
            made = make_client(client)
            await made.connect()
            await made.aclose()
        else:
            with pytest.raises((ConfigurationError, ConnectError), match="allow-remote=yes"):
                await make_client(client).connect()


async def test_handshake_that_never_ends(caplog: pytest.LogCaptureFixture) -> None:
    """It holds up nobody, and is given up in time."""
    async with Serving("handshake-timeout=100ms&min-peers=0") as serving:
        sock = serving.dial()
        await send(sock, request("/live")[:-3])
        await serving.start(b"one")

        assert serving.settled == (1, 1)
        assert await receive_all(sock) == b""
        assert "no handshake within 100ms (handshake-timeout=)" in caplog.text


async def test_request_that_never_ends() -> None:
    """Its head is bounded."""
    async with Serving() as serving:
        sock = serving.dial()
        await send(sock, b"GET /live HTTP/1.1\r\nX: " + b"x" * 17_000)

        assert (await read_head(sock)).startswith("HTTP/1.1 431 ")


async def test_request_byte_by_byte() -> None:
    """However slowly it comes; and what stands right behind it is heard."""
    async with Serving() as serving:
        sock = serving.dial()
        for byte in request("/live") + frame(PING, b"there?"):
            await send(sock, bytes([byte]))
            await asyncio.sleep(0)
        assert (await read_head(sock)).startswith("HTTP/1.1 101 ")

        assert await receive(sock, 8) == frame(PONG, b"there?", masked=False)


# -- what counts as delivered -----------------------------------------------------------------------


async def test_nobody_is_there() -> None:
    """A consumer whose handshake is not done is not there yet: the message fails, and says so."""
    async with Serving() as serving:
        serving.dial()
        await serving.start(b"one")
        await until(lambda: serving.signals.refused)

        assert "nobody is connected" in serving.signals.refused[0][1]


async def test_peer_level_waits_for_each_consumer() -> None:
    """It is reached when all who were connected have answered, and those who leave hold back nothing."""
    async with Serving("", Ack.PEER) as serving:
        first, second, third = [await serving.join() for _ in range(3)]
        await serving.start(b"one", b"two")
        assert serving.settled == (2, 0)
        await pong(first)
        await pong(second)
        assert await got(third, 2, answers=False) == [b"one", b"two"]
        assert serving.settled == (2, 0)
        reset(third)

        await until(lambda: serving.settled == (2, 2))
        assert serving.client.stats.missed == 2


async def test_pongs_are_cumulative() -> None:
    """What is sent while a ping is on its way is asked after when that is back, though nothing follows."""
    async with Serving("", Ack.PEER) as serving:
        sock = await serving.join()
        await serving.start(b"one")
        await serving.start(b"two")
        await serving.start(b"three")
        await pong(sock)
        await until(lambda: serving.settled[1])
        assert serving.settled == (3, 1)
        await pong(sock)

        await until(lambda: serving.settled == (3, 3))


async def test_through_a_producer() -> None:
    """A forward with ack=peer is done when every consumer has answered; without one, it fails."""
    client = make_client("ws+serve://127.0.0.1:0/live")
    async with AsyncProducerPool() as pool:
        policy = dataclasses.replace(DeliveryPolicy.direct(), ack=Ack.PEER)
        await pool.add_producer("pages", client, policy=policy)
        failed = await pool.forward_to("pages", "nobody")
        url = f"ws://127.0.0.1:{Endpoint.parse(client.address).port}/live"
        async with connect(url) as first, connect(url) as second:
            result = await pool.forward_to("pages", "hello")
            assert result.outcome is Outcome.DELIVERED
            assert result.ack is Ack.PEER
            assert [await first.recv(), await second.recv()] == ["hello", "hello"]
            assert (await pool.stats()).producers["pages"].peers == 2

        assert isinstance(failed.error, Rejected)


# -- consumers that misbehave -----------------------------------------------------------------------


async def test_slow_consumer_hurts_nobody() -> None:
    """One that does not read is cut off when its buffer is full, by a reset; the other one gets all."""
    async with Serving("peer-buffer=64KiB&max-message=32MiB") as serving:
        slow, quick = await serving.join(8192), await serving.join()
        # More than kernels take: the slow one is inside of it from now on.
        large = b"x" * 20_000_000
        await serving.start(large)
        assert await got(quick, 1) == [large]
        numbers = []
        for number in range(500):
            # Before the next one is sent, the quick one has it: its buffer must not fill, too.
            await serving.start(b"%03d" % number + b"x" * 50_000)
            numbers += [message[:3] for message in await got(quick, 1)]
        await until(lambda: serving.client.peers == 1)

        assert numbers == [b"%03d" % number for number in range(500)]
        assert await is_reset(slow)
        await until(lambda: serving.settled == (501, 501))


async def test_slow_consumer_that_misses_some() -> None:
    """With drop-oldest it stays, and misses whole messages; what it reads, it confirms, however slowly."""
    async with Serving("peer-buffer=256KiB&peer-overflow=drop-oldest", Ack.PEER) as serving:
        slow = await serving.join(8192)
        for number in range(300):
            await serving.start(b"%03d" % number + b"x" * 50_000)
            await asyncio.sleep(0)
        missed = serving.client.stats.missed
        assert missed > 0
        messages = await got(slow, 300 - missed)
        await until(lambda: serving.settled == (300, 300))

        numbers = [int(message[:3]) for message in messages]
        assert numbers == sorted(numbers)
        assert all(len(message) == 50_003 for message in messages)
        assert serving.client.peers == 1


@pytest.mark.parametrize(
    "said,answer,evicted",
    [
        (frame(TEXT, b"unmasked", masked=False), 1002, 1),
        (frame(CLOSE, struct.pack("!H", 1000)), 1000, 0),
        (frame(CLOSE, b""), None, 0),
    ],
)
async def test_ends_of_consumers(said: bytes, answer: int | None, evicted: int) -> None:
    """Each gets the close code that belongs to it; only a broken rule is counted as one."""
    async with Serving() as serving:
        sock = await serving.join()
        await send(sock, said)
        rest = await receive_all(sock)

        payload = b"" if answer is None else struct.pack("!H", answer)
        assert rest == frame(CLOSE, payload, masked=False)
        assert serving.client.peers == 0
        assert serving.client.stats.evicted == evicted


async def test_consumer_that_talks() -> None:
    """Its messages are skipped, whatever their size, and its pings are answered between ours."""
    async with Serving() as serving:
        sock = await serving.join()
        await send(sock, frame(TEXT, b"hello") + frame(BINARY, bytes(2_000_000)) + frame(PING, b"there?"))
        assert await receive(sock, 8) == frame(PONG, b"there?", masked=False)
        await serving.start(b"one")

        assert await got(sock, 1) == [b"one"]


async def test_quiet_consumer_is_asked() -> None:
    """As long as it answers pings it stays; one that does not is cut off, and told so."""
    async with Serving("ping-interval=20ms&ping-timeout=20s") as serving:
        sock = await serving.join()
        for _ in range(3):
            await pong(sock)
        assert serving.client.peers == 1
    async with Serving("ping-interval=20ms&ping-timeout=50ms") as serving:
        sock = await serving.join()
        rest = await receive_all(sock)

        assert rest.endswith(frame(CLOSE, struct.pack("!H", 1008), masked=False))
        assert serving.client.stats.evicted == 1


async def test_one_consumer_too_many() -> None:
    """It is refused at once."""
    async with Serving("max-peers=1") as serving:
        await serving.join()
        with contextlib.suppress(ConnectionResetError):
            assert await is_reset(serving.dial())

        await until(lambda: serving.client.stats.refused == 1)


async def test_messages_that_are_no_text() -> None:
    """Each is rejected alone, for all."""
    async with Serving() as serving:
        misfits = serving.client.misfits(Batch.of([b"good", b"\xff"]))

        assert list(misfits) == [1]
        assert "use frames=binary" in str(misfits[1])


def test_secrets_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Neither by us nor by the library, whatever is logged."""
    caplog.set_level(logging.DEBUG)

    async def story() -> None:
        async with Serving() as serving:
            await serving.ask("/x?access_token=a-secret-token", Authorization="Bearer a-secret-token")

    asyncio.run(story())
    assert "404" in caplog.text
    assert "a-secret-token" not in caplog.text


@pytest.mark.parametrize(
    "query,wrong",
    [
        ("ping-timeout=0", "ping-timeout must be above 0"),
        ("handshake-timeout=0", "handshake-timeout must be above 0"),
        ("max-peers=0", "max-peers must be at least 1"),
        ("compression=deflate", "has no option compression"),
        ("idle-timeout=5s", "has no option idle-timeout"),
    ],
)
def test_options_that_make_no_sense(query: str, wrong: str) -> None:
    """Each is an error that names it."""
    with pytest.raises(InvalidOption, match=wrong):
        make_client(f"ws+serve://127.0.0.1:0?{query}")
