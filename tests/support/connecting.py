"""Consumers over plain sockets that connect to us, as programs of others do."""

from __future__ import annotations

import socket

from producer_pool.model.endpoint import Endpoint
from support.waiting import BOUND

__all__ = ["Consumer"]


class Consumer:
    """A consumer that connects, and reads when it is told to."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        endpoint = Endpoint.parse(address)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(BOUND)
        self.socket.connect((endpoint.host, endpoint.port))
        self.lines: list[bytes] = []
        self._rest = b""

    def read(self, count: int) -> list[bytes]:
        """Return all lines as soon as there are *count*."""
        while len(self.lines) < count and self._read():
            pass
        return self.lines

    def read_all(self) -> list[bytes]:
        """Return all lines up to the end, which may be a reset."""
        try:
            while self._read():
                pass
        except ConnectionResetError:
            self._rest = b""
        assert not self._rest, "half a message, and a clean end"
        return self.lines

    def _read(self) -> bool:
        data = self.socket.recv(1 << 20)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += lines
        return bool(data)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()
