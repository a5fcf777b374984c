"""Plain sockets that send to a listener, as programs of others do."""

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from support.ledger import Ledger
from support.waiting import BOUND, eventually

__all__ = ["Feed", "connected", "send_lines"]

CLOSED: Final = 7
"""The state of a connection that was reset, as TCP_INFO tells it."""


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Connect to a port of 127.0.0.1, and close in good order at the end."""
    with socket.create_connection(("127.0.0.1", port), BOUND) as sock:
        yield sock


def send_lines(port: int, messages: Iterable[bytes]) -> None:
    """Send *messages*, a line each, over one connection of their own."""
    with connected(port) as sock:
        sock.sendall(b"".join(message + b"\n" for message in messages))


class Feed:
    """
    A producer on a thread of its own that sends messages of a ledger, over one connection, all the time.

    About *rate* messages a second, as long as the other side takes them; as many as it takes, with 0.
    It sends *chunk* of them at once.
    """

    CHUNK: Final = 50

    def __init__(
        self, port: int, ledger: Ledger, *, size: int = 256, rate: float = 20_000, chunk: int = CHUNK
    ) -> None:
        self.broken = False
        """Whether the receiver ended the connection: then nobody knows what it has of the last messages."""
        self._ledger = ledger
        self._size = size
        self._chunk = chunk
        self._pause = chunk / rate if rate else 0
        self._sock = socket.create_connection(("127.0.0.1", port), BOUND)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, name=f"feed of {port}", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        began = time.monotonic()
        for turn in range(1, 1 << 62):
            messages = self._ledger.write_many(self._chunk, size=self._size)
            try:
                self._sock.sendall(b"".join(message + b"\n" for message in messages))
            except OSError:
                self.broken = True
                return
            if self._stopped.wait(max(0.0, began + turn * self._pause - time.monotonic())):
                return

    def stop(self) -> None:
        """
        Send no more; the receiver's kernel has all that was written, unless it is broken.

        What lies in our own has not arrived: who is asked to end does not know of it. May be called twice.
        """
        self._stopped.set()
        self._thread.join(BOUND)
        try:
            if self._thread.is_alive():
                raise AssertionError(f"the receiver does not take what it is sent within {BOUND:g} s")
            if self._sock.fileno() >= 0:
                eventually(self._is_taken, "the receiver's kernel takes what it is sent")
        finally:
            self._sock.close()

    def _is_taken(self) -> bool:
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        self.broken = self.broken or state == CLOSED
        return self.broken or struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4))) == (0,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
