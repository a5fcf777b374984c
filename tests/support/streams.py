"""Both ends of a stream for tests: raw consumers and producers, and fakes of what core hands a protocol."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import DeliveryError, Rejected
from producer_pool.model.outcomes import Ack
from support import waiting

BOUND = waiting.BOUND
"""Seconds after which a condition that never comes true fails its test."""


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until *condition* holds, looking again in each turn of the loop."""
    try:
        async with asyncio.timeout(BOUND):
            while not condition():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"never came true: {what or condition}") from None


class FakeReceipt:
    """A receipt of which a test says what becomes of its batch."""

    def __init__(self, *, stores: bool) -> None:
        self.stored = False if stores else None
        self.done = self.delivered = False
        self._when_stored: list[Callable[[], None]] = []
        self._when_done: list[Callable[[], None]] = []

    def when_stored(self, callback: Callable[[], None], /) -> None:
        self._when_stored.append(callback)
        if self.stored:
            self.store()

    def when_done(self, callback: Callable[[], None], /) -> None:
        self._when_done.append(callback)
        if self.done:
            self.finish(self.delivered)

    def store(self, yes: bool = True) -> None:
        """Let it be stored, or let it be known that it will not be."""
        self.stored = yes
        while self._when_stored:
            self._when_stored.pop()()

    def finish(self, delivered: bool = True) -> None:
        """Let it come to an outcome at all producers."""
        self.done, self.delivered = True, delivered
        while self._when_done:
            self._when_done.pop()()


@dataclass
class FakeIntake:
    """An intake that keeps everything, and is paused when a test says so."""

    batches: list[Batch] = field(default_factory=list)
    paused: bool = False
    pause_after: int | None = None
    """Pause by itself after so many batches."""
    asked: int = 0
    """Calls of resumed() that had to wait."""
    stores: bool = False
    receipts: list[FakeReceipt] = field(default_factory=list)
    """One for each batch that is to be acknowledged."""

    def __post_init__(self) -> None:
        self._resumed = asyncio.Event()

    def feed(self, batch: Batch) -> None:
        self.batches.append(batch)
        if self.pause_after is not None and len(self.batches) >= self.pause_after:
            self.paused = True

    def accept(self, batch: Batch) -> FakeReceipt:
        self.feed(batch)
        self.receipts.append(FakeReceipt(stores=self.stores))
        return self.receipts[-1]

    async def resumed(self) -> None:
        if self.paused:
            self.asked += 1
            await self._resumed.wait()

    def resume(self) -> None:
        self.pause_after = None
        self.paused = False
        self._resumed.set()
        self._resumed = asyncio.Event()

    @property
    def messages(self) -> list[bytes]:
        return [message for batch in self.batches for message in batch.messages]


@dataclass
class FakeSignals:
    """Notes what a client says, and whether it says it at the wrong moment."""

    ack: Ack = Ack.WRITTEN
    writes: int = 0
    errors: list[DeliveryError] = field(default_factory=list)
    starting: bool = False
    """Set by a test around start()."""

    def writable(self) -> None:
        assert not self.starting, "a signal inside start()"
        assert not self.errors, "a signal after broken()"
        self.writes += 1

    def broken(self, error: DeliveryError) -> None:
        assert not self.starting, "a signal inside start()"
        self.errors.append(error)

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        raise AssertionError("streams reject nothing")


class Consumer:
    """A consumer over a plain socket, which reads only what a test tells it to."""

    def __init__(self, family: int = socket.AF_INET, *, receive_buffer: int | None = None) -> None:
        self.listening = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.listening.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.listening.listen()
        self.listening.setblocking(False)
        self.port: int = self.listening.getsockname()[1]
        self.taken: list[socket.socket] = []

    @property
    def url(self) -> str:
        host = "[::1]" if self.listening.family == socket.AF_INET6 else "127.0.0.1"
        return f"tcp://{host}:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.parse(self.url)

    async def accept(self) -> socket.socket:
        async with asyncio.timeout(BOUND):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.listening)
        self.taken.append(sock)
        return sock

    def close(self) -> None:
        for sock in (self.listening, *self.taken):
            sock.close()

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def connect(endpoint: Endpoint) -> socket.socket:
    """Connect a raw producer to a listener."""
    sock = socket.socket(socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(BOUND):
            await asyncio.get_running_loop().sock_connect(sock, (endpoint.host, endpoint.port))
    except BaseException:
        sock.close()
        raise
    return sock


async def send(sock: socket.socket, data: bytes) -> None:
    """Send all of *data*."""
    async with asyncio.timeout(BOUND):
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def receive(sock: socket.socket, size: int) -> bytes:
    """Read *size* bytes, or up to the end of the stream."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    async with asyncio.timeout(BOUND):
        while len(data) < size:
            part = await loop.sock_recv(sock, min(size - len(data), 1 << 20))
            if not part:
                break
            data += part
    return bytes(data)


async def receive_all(sock: socket.socket) -> bytes:
    """Read up to the end of the stream."""
    return await receive(sock, 1 << 62)


def reset(sock: socket.socket) -> None:
    """Close by a reset, as a killed process does that has not read everything."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def is_reset(sock: socket.socket) -> bool:
    """Whether the stream ends by a reset, and not in good order."""
    try:
        await receive_all(sock)
    except ConnectionResetError:
        return True
    return False
