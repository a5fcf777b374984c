"""Both ends of a websocket for tests: raw ones, and those of the library."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import producer_pool_websocket
from producer_pool.contract.transport import Transport
from producer_pool_websocket.frames import FIN, apply_mask, head
from support.ends import make_listener
from support.streams import BOUND, FakeIntake, connect, receive, send

TRANSPORTS: dict[str, Transport] = {
    scheme: transport
    for transport in producer_pool_websocket.producer_pool_transports()
    for scheme in transport.schemes
}


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return any frame, good or bad."""
    first = (FIN if fin else 0) | rsv | opcode
    if not masked:
        return head(first, len(payload), 0) + payload
    key = b"\x5a\xc3\x0f\x96"  # always the same: frames stand in the names of tests
    return head(first, len(payload), 0x80) + key + apply_mask(payload, key)


REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)
"""What a client asks for: RFC 6455, 1.3."""


def request(path: str = "/", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return REQUEST.format(path=path, headers=lines).encode()


class Listening:
    """A listener that runs, and raw producers."""

    def __init__(self, url: str = "ws://127.0.0.1:0") -> None:
        self.listener = make_listener(url)
        self.intake = FakeIntake()
        self.stats = self.listener.stats
        self._sockets: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        self.endpoint = await self.listener.start(self.intake)
        self.url = f"{self.endpoint.without(self.endpoint.options)}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        for sock in self._sockets:
            sock.close()
        await self.listener.aclose()

    async def connect(self) -> socket.socket:
        """Return a connection that has said nothing yet."""
        sock = await connect(self.endpoint)
        self._sockets.append(sock)
        return sock

    async def ask(self, text: bytes) -> tuple[socket.socket, str]:
        """Send a request, and return the connection with the head of its answer."""
        sock = await self.connect()
        await send(sock, text)
        return sock, await read_head(sock)

    async def opened(self, path: str = "/", **headers: str) -> socket.socket:
        """Return a connection on which frames may follow."""
        sock, answer = await self.ask(request(path, **headers))
        assert answer.startswith("HTTP/1.1 101 "), answer
        return sock


async def read_head(sock: socket.socket) -> str:
    """Read the head of an HTTP message, or up to the end of the stream."""
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        byte = await receive(sock, 1)
        if not byte:
            break
        text += byte
    return text.decode()


class LibraryConsumer:
    """A consumer that the library serves, and that keeps what it gets."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.messages: list[str | bytes] = []
        self.connections: list[ServerConnection] = []
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await serve(self._take, "127.0.0.1", 0, **self._options)
        self.port: int = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        async with asyncio.timeout(BOUND):
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        scheme = "wss" if self._options.get("ssl") else "ws"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def _take(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            while True:
                self.messages.append(await connection.recv())
        except ConnectionClosed:
            return


def texts(messages: Iterable[str | bytes]) -> list[bytes]:
    """Return messages as bytes, whatever they came as."""
    return [message.encode() if isinstance(message, str) else message for message in messages]
