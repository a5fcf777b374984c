"""A client for protocols over datagram sockets: a datagram for each message, and what is known to be lost."""
# Rule: what the kernel did not take keeps its place. An error that belongs to an earlier datagram does not
# settle the message whose send raised it.

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from producer_pool.contract.options import Size, option
from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, InvalidOption, Rejected
from producer_pool.toolkit.datagrams.sockets import DatagramDialer
from producer_pool.toolkit.sockets.forks import keep_from_children
from producer_pool.toolkit.sockets.tcp import why

__all__ = ["DatagramClient", "DatagramClientOptions", "came_back"]

_TURN: Final = 1024
"""Datagrams sent in one turn of the loop, before others have theirs."""
_SEGMENTS: Final = 128
"""Datagrams that one call sends as segments,"""
_FIRST_SEGMENTS: Final = 64
"""those that the first kernels take that can do it, before Linux 6.9, and"""
_SEGMENTED: Final = 65_000
"""the bytes of them, for all kernels."""
_WATCHED: Final = 0.1
"""Seconds in which the first datagram would have come back, after others did."""
_NO_ROOM: Final = 0.005
"""Seconds until the next try when a network device, or the system, has no room: nothing tells when it has."""
_READS: Final = 64
"""Datagrams of the consumer that are thrown away in one turn of the loop."""
_OF_TIMEOUT: Final = 0.95
"""Of the time for an attempt: so that this client says what took too long, before its Producer does."""

_NO_MEMORY: Final = (errno.ENOBUFS, errno.ENOMEM)
_STOPS: Final = (0, errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, *_NO_MEMORY)
"""What sending ends with when nothing is wrong."""
_NO_SEGMENTS: Final = (errno.EINVAL, errno.EIO, errno.EMSGSIZE)
"""What a call says whose segments are longer than the path takes, or whose device cannot cut them."""
_HINTS: Final = {
    errno.ECONNREFUSED: "; is it running?",
    errno.EMSGSIZE: "; a network on the way takes shorter datagrams only, and the next ones are cut for it",
    errno.EPERM: "; does a firewall of this machine forbid it?",
}


@dataclass(frozen=True)
class DatagramClientOptions:
    """The options of every client that sends a datagram for each message."""

    max_message: Size | None = option(
        None, "longer messages are rejected; none: as long as the protocol's datagrams may be"
    )


class DatagramClient(PipelinedClient):
    """
    Sends each message as one datagram over a connected socket.

    What the kernel does not take of a batch is kept, with the place in it. Messages of equal size go out
    together where the kernel can cut them.

    That nobody listens is told by datagrams that come back. Those are not counted as written, and the
    connection is broken, so that they are sent again on the next one. There the first message goes
    alone, and counts when it has not come back for a while: a queue is not poured out into the void.

    What a consumer says is thrown away.
    """

    def __init__(self, dialer: DatagramDialer, options: DatagramClientOptions, *, protocol_name: str) -> None:
        longest = dialer.max_message
        limit = longest if options.max_message is None else options.max_message
        if not 1 <= limit <= longest:
            raise InvalidOption(
                f"{dialer.address}: max-message must be from 1 byte to {longest}, the longest datagram"
            )
        self.protocol_name = protocol_name
        self.address = dialer.address
        self.max_message = limit
        self._dialer = dialer
        self._signals: ClientSignals | None = None
        self._socket: socket.socket | None = None
        self._segments = _SEGMENTS
        """Datagrams that the kernel takes by one call, as far as it is known."""
        self._doubtful = False
        """Whether the last connection ended because datagrams came back."""
        self._last_settled = Settled(0, 0)

    # -- connecting --------------------------------------------------------------------------------

    def attach(self, signals: ClientSignals) -> None:
        self._signals = signals

    async def connect(self) -> None:
        await self.aclose()
        self._last_settled = Settled(0, 0)
        self._loop = asyncio.get_running_loop()
        try:
            sock = await self._dialer.dial(self.timeout * _OF_TIMEOUT)
        except OSError as error:
            raise ConnectError(f"{self.address}: {why(error)}") from None
        self._tail: Sequence[bytes] = ()
        self._at = 0
        """Messages of the tail that the kernel has."""
        self._before = 0
        """Messages that the kernel has from before the tail, since connect()."""
        self._withheld = 0
        """Messages at the end of what the kernel has that do not count as written."""
        self._refused: list[tuple[int, Rejected]] = []
        """Messages that the kernel will never take, of which nobody was told yet."""
        self._error = 0
        """What broke the connection."""
        self._fresh = True
        """Whether this address took no message yet."""
        self._watched, self._doubtful = self._doubtful, False
        """Whether the next message goes alone, or did so just now."""
        self._longest_segment = _SEGMENTED
        self._again: asyncio.Handle | None = None
        self._telling: asyncio.Handle | None = None
        self._use(sock)
        self._open = True
        """Whether start() may send: not broken, and nothing waits."""

    def _use(self, sock: socket.socket) -> None:
        keep_from_children(sock)
        self._socket = sock
        self._send: Callable[[bytes], object] = sock.send
        self._send_segments = self._dialer.segmented(sock)
        # Asked for nothing, it tells errors only.
        poller = select.poll()
        poller.register(sock, 0)
        self._has_error = poller.poll
        self._loop.add_reader(sock, self._readable)

    # -- sending -----------------------------------------------------------------------------------

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        if self._socket is None or not self._open:
            return 0
        whole = batches[0]
        if len(batches) > 1:
            whole = Batch.owning([message for batch in batches for message in batch.messages])
        self._tail = whole.messages
        self._at = offset
        self._before -= offset
        self._push(self._socket, whole)
        return self._take(batches, offset)

    def _take(self, batches: Sequence[Batch], offset: int) -> int:
        """Keep of the tail the batches of which the kernel has a part, and return how many there are."""
        if self._at == len(self._tail):
            taken, end = len(batches), self._at
        elif self._at == offset:
            taken, end = 0, offset
        else:
            taken = end = 0
            while end < self._at:
                end += len(batches[taken])
                taken += 1
        if end < len(self._tail):
            self._tail = self._tail[:end]
        self._let_go()
        return taken

    def _let_go(self) -> None:
        """Let go of the tail if the kernel has all of it."""
        if self._at == len(self._tail):
            self._before += self._at
            self._tail, self._at = (), 0

    def _push(self, sock: socket.socket, whole: Batch | None = None) -> None:
        """
        Send the tail from its place on, as far as it goes. What stops it sees to it that it goes on.

        *whole* is a batch of the whole tail, which may go to other consumers, too.
        """
        first = self._at
        while True:
            stop = self._send_up_to(min(len(self._tail), first + (1 if self._watched else _TURN)), whole)
            error, returned = self._error_of(sock, stop)
            if not error:
                break
            if stop == errno.EMSGSIZE and not returned:
                self._refuse()
                continue
            lost = came_back(self._tail, first, self._at, returned)
            # Nobody listens at this address; who listens at another one of the same name?
            other = self._dialer.another() if self._fresh and 0 < lost == self._at - first else None
            if other is None:
                self._break(error, lost, returned)
                return
            self._loop.remove_reader(sock)
            sock.close()
            sock = other
            self._use(sock)
            self._at = first
        self._fresh = self._fresh and self._at == first
        if stop in _NO_MEMORY:
            self._later(_NO_ROOM)
        elif stop:
            self._open = False
            self._loop.add_writer(sock, self._writable, sock)
        elif self._watched and self._at > first:
            self._suspect = self._tail[first]
            self._withheld = 1
            self._later(_WATCHED)
        elif self._at < len(self._tail):
            self._later(0)

    def _send_up_to(self, end: int, whole: Batch | None) -> int:
        """Send the tail up to *end*, and return the error that it stopped with, or 0."""
        try:
            if self._send_segments is None or not self._longest_segment or end - self._at < 2:
                self._send_each(self._tail[self._at : end])
                return 0
            if whole is None or self._at or end < len(whole):
                whole = Batch.owning([*self._tail[self._at : end]])
            for joined, size, count in whole.runs(self._segments, _SEGMENTED):
                if count < 2 or not self._send_joined(joined, size, count):
                    self._send_each(self._tail[self._at : self._at + count])
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _send_each(self, messages: Sequence[bytes]) -> None:
        send = self._send
        for message in messages:
            send(message)
            self._at += 1

    def _send_joined(self, joined: bytes, size: int, count: int) -> bool:
        """Send *count* messages of one size by one call; False: nothing was sent: that does not go."""
        if not 0 < size <= self._longest_segment or self._send_segments is None:
            return False
        try:
            self._send_segments(joined, size)
        except OSError as error:
            if error.errno not in _NO_SEGMENTS:
                raise
            if error.errno == errno.EINVAL and count > _FIRST_SEGMENTS:
                # Too many, or too long: with fewer, the next call tells.
                self._segments = _FIRST_SEGMENTS
            else:
                self._longest_segment = 0 if error.errno == errno.EIO else size - 1
            return False
        self._at += count
        return True

    def _later(self, seconds: float) -> None:
        self._open = False
        self._again = self._loop.call_later(seconds, self._go_on)

    def _writable(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)
        self._go_on()

    def _go_on(self) -> None:
        sock = self._socket
        if sock is None or self._error:
            return
        if self._withheld:
            self._withheld = 0
            self._watched = False
        self._open = True
        if self._tail:
            self._push(sock)
            self._let_go()
        if self._signals is not None and self._error == 0:
            self._signals.writable()

    def settled(self) -> Settled:
        if self._socket is None:
            return self._last_settled
        written = self._before + self._at - self._withheld
        if self._refused:
            written = min(written, self._refused[0][0])
        return Settled(written, written)

    # -- what goes wrong ---------------------------------------------------------------------------

    def _error_of(self, sock: socket.socket, stop: int) -> tuple[int, Sequence[bytes] | None]:
        """Return the error behind *stop*, or 0, and the beginnings of datagrams that came back."""
        error = stop
        if stop in _STOPS:
            if not self._dialer.belated or not self._has_error(0):
                return 0, ()
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        returned = self._dialer.returned(sock)
        if returned and not error:
            error = errno.ECONNREFUSED
        return error, returned

    def _refuse(self) -> None:
        """Leave out the next message: it is longer than the system takes."""
        size = len(self._tail[self._at])
        error = Rejected(
            f"message of {size} bytes, and the system sends no {self.protocol_name} datagram of it"
        )
        self._refused.append((self._before + self._at, error))
        self._at += 1
        self._tell_soon()

    def _readable(self) -> None:
        sock = self._socket
        if sock is None:
            return
        stop = 0
        try:
            for _ in range(_READS):
                sock.recv(1)  # the rest of the datagram is thrown away with it
        except OSError as caught:
            stop = caught.errno or errno.EIO
        error, returned = self._error_of(sock, stop)
        if error and (error != errno.EMSGSIZE or returned):
            suspects = (self._suspect,) if self._withheld else ()
            self._break(error, came_back(suspects, 0, len(suspects), returned), returned)

    def _break(self, error: int, lost: int, returned: Sequence[bytes] | None) -> None:
        """Send no more; the last *lost* messages do not count as written."""
        self._error = error
        self._withheld = lost
        self._doubtful = returned is None or len(returned) > 0
        self._stop()
        self._tell_soon()

    def _stop(self) -> None:
        self._open = False
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        if self._again is not None:
            self._again.cancel()

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = None
        refused, self._refused = self._refused, []
        signals = self._signals
        if signals is None:
            return
        for number, error in refused:
            signals.rejected(number, error)
        if self._error:
            # What is not settled came back, or was not sent: it cannot be there.
            reason = f"{why(self._error)}{_HINTS.get(self._error, '')}"
            signals.broken(ConnectError(f"{self.address}: {reason}"))
        elif refused:
            signals.writable()

    async def aclose(self) -> None:
        sock = self._socket
        if sock is None:
            return
        self._last_settled = self.settled()
        self._stop()
        if self._telling is not None:
            self._telling.cancel()
        self._socket = None
        self._tail = ()
        sock.close()


def came_back(messages: Sequence[bytes], first: int, stop: int, returned: Sequence[bytes] | None) -> int:
    """
    Return how many of the messages from *first* up to *stop*, counted from the end, may be lost.

    That is all from the first on of which the beginning came back. A datagram that was cut on this
    machine comes back in one piece with those behind it. None: the last one is taken to be the one.
    """
    if returned is None:
        return min(1, stop - first)
    for index in range(first, stop):
        message = messages[index]
        for start in returned:
            if message.startswith(start) or (message != b"" and start.startswith(message)):
                return stop - index
    return 0
