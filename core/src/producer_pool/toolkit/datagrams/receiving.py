"""Receiving datagrams: what came in a turn, and the way to it that Python has, one by one."""
# Rule: nothing is handed on cut. What is longer than the room for it is only counted.

from __future__ import annotations

import socket
from typing import Final, Protocol

from producer_pool.toolkit.datagrams.sockets import DatagramBinding

__all__ = ["READS", "TURN", "Arrivals", "OneByOne", "Receiver"]

READS: Final = 256
"""Datagrams read in one turn of the loop, before others have theirs, and"""
TURN: Final = 1024 * 1024
"""bytes, where the kernel joins datagrams."""
# As a number: to ask an enum takes half as long as the system call that reads a datagram.
_TRUNCATED: Final = int(socket.MSG_TRUNC)


class Arrivals:
    """What came in one turn: of each sender its messages, in their order."""

    __slots__ = ("by_peer", "datagrams", "nbytes", "too_long")

    def __init__(self) -> None:
        self.by_peer: dict[object, list[bytes]] = {}
        self.datagrams = 0
        """All that were read, and"""
        self.nbytes = 0
        """their bytes, as far as they were read."""
        self.too_long = 0
        """Those for which there was no room."""

    @property
    def enough(self) -> bool:
        """Whether it is a turn's worth."""
        return self.datagrams >= READS or self.nbytes >= TURN

    def add(self, peer: object, size: int, datagrams: list[bytes]) -> None:
        """Add what *peer* sent: a message each, or several of *size* bytes, the last one perhaps shorter."""
        if size:
            datagrams = [data[at : at + size] for data in datagrams for at in range(0, len(data) or 1, size)]
        messages = self.by_peer.setdefault(peer, datagrams)
        if messages is not datagrams:
            messages += datagrams


class Receiver(Protocol):
    """Reads the sockets of one binding."""

    def receive(self, sock: socket.socket, arrivals: Arrivals) -> None:
        """
        Read what there is, up to a turn's worth, into *arrivals*.

        Raises:
            OSError: it cannot be read any further; what came before that is in *arrivals*.
        """


class OneByOne:
    """Makes a system call for each datagram, and one more that says that there is none."""

    def __init__(self, binding: DatagramBinding, room: int) -> None:
        """Prepare to read datagrams of up to *room* bytes."""
        self._binding = binding
        self._room = room

    def receive(self, sock: socket.socket, arrivals: Arrivals) -> None:
        binding = self._binding
        while not arrivals.enough:
            try:
                data, ancillary, flags, peer = sock.recvmsg(self._room, binding.ancillary)
            except (BlockingIOError, InterruptedError):
                return
            arrivals.datagrams += 1
            arrivals.nbytes += len(data)
            if flags & _TRUNCATED:
                # It would be found out by its length, but not if it is several in one.
                arrivals.too_long += 1
            else:
                peer, size = binding.accompanied(peer, ancillary) if ancillary else (peer, 0)
                arrivals.add(peer, size, [data])
