"""Datagram sockets of both ends: one datagram is one message, in order, and senders wait for room."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from producer_pool.plugin import ConnectError, DatagramBinding, DatagramDialer, Endpoint
from producer_pool_unix.address import read_address
from producer_pool_unix.credentials import CREDENTIALS_SIZE, Credentials, sender_of
from producer_pool_unix.place import Place, PlaceOptions
from producer_pool_unix.streams import why_unreachable

__all__ = ["UnixDatagramBinding", "UnixDatagramDialer", "longest_datagram"]

_OVERHEAD = 32
"""Bytes of a send buffer that a datagram cannot have: unix_dgram_sendmsg() in Linux."""


def longest_datagram() -> int:
    """Return the bytes of the longest datagram that this system sends with the send buffer it gives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _OVERHEAD


class UnixDatagramDialer(DatagramDialer):
    """
    Connects to a datagram socket of this machine.

    A datagram that was sent is in the consumer's queue, and an error is that of the send which raised
    it: nothing comes back later. A full queue makes us wait.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._address = read_address(endpoint)
        self.address = self._address.shown
        self.max_message = longest_datagram()

    async def dial(self, timeout: float) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if code := sock.connect_ex(self._address.name):
                raise ConnectError(f"{self.address}: {why_unreachable(code, self._address, 'unix')}")
        except BaseException:
            sock.close()
            raise
        return sock


class UnixDatagramBinding(DatagramBinding):
    """Receives at a datagram socket of this machine, and has the kernel say who sent each datagram."""

    ancillary = CREDENTIALS_SIZE
    holds_back = True

    def __init__(self, endpoint: Endpoint, options: PlaceOptions) -> None:
        self._place = Place(endpoint, options)
        self.address = self._place.address.shown
        self.lapses = self._place.lapses

    async def bind(self) -> Sequence[socket.socket]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if sys.platform == "linux":
                # Before there is anybody to send: what is in the queue without credentials gets none.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            await self._place.bind(sock, lambda: None)
        except BaseException:
            sock.close()
            raise
        return [sock]

    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        return self._place.endpoint

    def accompanied(
        self, peer: object, ancillary: Sequence[tuple[int, int, bytes]]
    ) -> tuple[Credentials | None, int]:
        return sender_of(ancillary), 0

    def admit(self, sock: socket.socket, peer: object) -> str | None:
        return self._place.origin(peer if isinstance(peer, Credentials) else None)

    def lapsed(self) -> str:
        return self._place.lapsed()

    def release(self) -> None:
        self._place.release()
