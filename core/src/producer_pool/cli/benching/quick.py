"""Consumers of a bench, where a protocol is nothing but framed streams: compared in place."""
# It is what a listener does that pours into a ledger, for half the price. So the load is the limit less often
# where a machine has two cores only.

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from producer_pool.cli.benching.verifying import Ledger
from producer_pool.model.batch import Batch
from producer_pool.model.framing import Decoder, Framing

__all__ = ["Connection", "Quick"]

_READ: Final = 256 * 1024
_LONGEST: Final = 64 * 1024 * 1024
"""Bytes of a message that was damaged so that it has no end."""


class Connection:
    """What comes to one consumer on one connection."""

    def __init__(self, sock: socket.socket, ledger: Ledger, framing: Framing) -> None:
        self.socket = sock
        self.ledger = ledger
        self._framing = framing
        self._frame = ledger.frame(framing)
        self._buffer = memoryview(bytearray(_READ + self._frame))
        self._kept = 0
        """Bytes of an unfinished frame, at the beginning of the buffer."""
        self._decoder: Decoder | None = None
        """Finds the frames once there was one that differs: from then on they may have any length."""

    def read(self) -> bool:
        """Read what there is, and enter it; False: there will be no more."""
        buffer, kept = self._buffer, self._kept
        try:
            size = self.socket.recv_into(buffer[kept:])
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not size:
            return False
        now = time.monotonic_ns()
        size += kept
        start = 0
        if self._decoder is None:
            whole = size - size % self._frame
            start = self.ledger.match(self._framing, buffer[:whole], now) if whole else 0
            if start == whole:
                self._kept = size - whole
                buffer[: self._kept] = buffer[whole:size]
                return True
            self._decoder = self._framing.decoder(_LONGEST)
        self._kept = 0
        rest = bytes(buffer[start:size])
        if wire := self._decoder.feed(rest, len(rest)):
            self.ledger.enter(Batch.from_wire(wire, self._framing), now)
        return True


class Quick:
    """Reads for some consumers, and hears what is asked."""

    def __init__(self, orders: int, ring: Callable[[], None], often: int) -> None:
        """*orders* is read for lines; *ring* is called whenever a consumer has got *often* messages on."""
        self._orders = orders
        self._ring = ring
        self._often = often
        self._rung: dict[Ledger, int] = {}
        self._epoll = select.epoll()
        self._epoll.register(orders, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._listening: dict[int, tuple[socket.socket, Callable[[socket.socket], Connection]]] = {}

    def listen(self, sock: socket.socket, connect: Callable[[socket.socket], Connection]) -> None:
        """Take connections of *sock*; *connect* makes what reads from one."""
        self._listening[sock.fileno()] = (sock, connect)
        self._epoll.register(sock, select.EPOLLIN)

    def serve(self, obey: Callable[[bytes], None]) -> None:
        """Read until nobody asks any more, and call *obey* with each line that is."""
        asked = b""
        while True:
            for fd, _ in self._epoll.poll():
                if fd in self._connections:
                    self._read(fd, self._connections[fd])
                elif fd in self._listening:
                    self._accept(*self._listening[fd])
                elif said := os.read(self._orders, _READ):
                    *lines, asked = (asked + said).split(b"\n")
                    for line in lines:
                        self._rung.clear()
                        obey(line)
                else:
                    return

    def _accept(self, listening: socket.socket, connect: Callable[[socket.socket], Connection]) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock, _ = listening.accept()
            sock.setblocking(False)
            self._connections[sock.fileno()] = connect(sock)
            self._epoll.register(sock, select.EPOLLIN)

    def _read(self, fd: int, connection: Connection) -> None:
        if not connection.read():
            self._epoll.unregister(fd)
            self._connections.pop(fd).socket.close()
        ledger = connection.ledger
        if ledger.received - self._rung.get(ledger, 0) >= self._often:
            self._rung[ledger] = ledger.received
            self._ring()

    def close(self) -> None:
        """Let go of everything."""
        for connection in self._connections.values():
            connection.socket.close()
        for sock, _ in self._listening.values():
            sock.close()
        self._epoll.close()
