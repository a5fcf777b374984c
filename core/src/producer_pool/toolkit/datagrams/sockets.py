"""What datagram protocols differ in: how their sockets are made, and what these tell about lost datagrams."""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import Callable, Sequence

from producer_pool.toolkit.sockets.binding import Binding
from producer_pool.toolkit.sockets.tcp import Dialer

__all__ = ["Ancillary", "DatagramBinding", "DatagramDialer"]

Ancillary = Sequence[tuple[int, int, bytes]]
"""What recvmsg() returns besides the bytes: (level, type, data)."""


class DatagramDialer(Dialer):
    """
    Makes connected, non-blocking datagram sockets to one consumer.

    Of a protocol whose sends fail for their own datagram, as those of unix sockets do, dial() is all.

    WRITTEN is the only level: also where a kernel tells what was read of a datagram socket, it tells the
    same of what was thrown away when the consumer died.
    """

    max_message: int
    """Bytes of the longest datagram."""
    belated: bool = False
    """
    Whether an error may belong to a datagram that the kernel has taken before.

    Then it is asked for after each burst, and what returned() tells counts as not written.
    """

    def returned(self, sock: socket.socket) -> list[bytes] | None:
        """
        Return the beginnings of datagrams that are known not to have arrived, each once.

        None: this platform does not tell, and the last one is taken to be the one.
        """
        return []

    def another(self) -> socket.socket | None:
        """
        Return a socket to the next address of the consumer; None: there is none left.

        Asked for when the first datagram to an address came back: only then it is known that nobody
        is there. dial() begins with the next address, too.
        """
        return None

    def segmented(self, sock: socket.socket) -> Callable[[bytes, int], object] | None:
        """
        Return what sends (bytes, size) as datagrams of that size, the last one perhaps shorter, by one call.

        It raises OSError, without having sent anything, where that does not go. None: there is nothing.
        """
        return None


class DatagramBinding(Binding):
    """Makes bound, non-blocking datagram sockets, and knows who sent to them."""

    ancillary: int = 0
    """Bytes of ancillary data to ask for with each datagram."""
    holds_back: bool = False
    """Whether senders wait for room where nobody reads. Then nothing is read while the intake is paused."""

    def accompanied(self, peer: object, ancillary: Ancillary) -> tuple[object, int]:
        """
        Return who sent a datagram that came with *ancillary* data, as something hashable, and a size.

        The size is that of each of the messages which the kernel joined; 0: it is one message.
        """
        return peer, 0

    @abstractmethod
    def admit(self, sock: socket.socket, peer: object) -> str | None:
        """Return the origin of what *peer* sent, or None to refuse it. Asked once for each batch."""

    def lost(self, sock: socket.socket) -> int:
        """
        Return how many datagrams the kernel had no room for since the socket was made, modulo 2**32.

        At the least: what the kernel joined, it counts as one.
        """
        return 0
