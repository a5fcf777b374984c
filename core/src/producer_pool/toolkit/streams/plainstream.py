"""A connection without encryption as a stream, for who sends the same bytes to many."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from producer_pool.contract.stream import Stream
from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing
from producer_pool.toolkit.sockets.forks import keep_from_children
from producer_pool.toolkit.streams.ledger import Ledger
from producer_pool.toolkit.streams.progress import Progress

__all__ = ["POSSIBLE", "PlainStream"]

POSSIBLE: Final = hasattr(select, "epoll")
"""Whether one look can tell of many connections that one of them was ended."""


class PlainStream(Stream):
    """What is sent is counted by the client's ledger, once that is told."""

    def __init__(
        self,
        sock: socket.socket,
        framing: Framing,
        ledger: Ledger,
        progress: Progress | None,
        keep: Callable[[bytes, int], None],
        broke: Callable[[OSError], None],
    ) -> None:
        """
        Make the stream of a connection on which nothing is unsent.

        *keep* is called with what the kernel took in part, and how much, and *broke* with what it raised.
        """
        self.framing = framing
        self.lasting = progress is None or progress.lasting
        self.send = sock.send if progress is None else progress.noted(sock.send)
        # Kept: another thread may borrow the turn of the loop, and then watch on its behalf.
        self._ends = ends = _ends()
        self.ended = ends.any
        self._fd = sock.fileno()
        self._ledger = ledger
        self._progress = progress
        self._keep = keep
        self._broke = broke

    def watch(self, yes: bool) -> None:
        self._ends.watch(self._fd, yes)

    def has_ended(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLRDHUP)
        return bool(poller.poll(0))

    def unconfirmed(self) -> int:
        # Less than nothing is acknowledged of nothing: by so much as is not yet of what was sent.
        return 0 if self._progress is None else -self._progress.acknowledged(0)

    def passed(self, size: int, count: int) -> None:
        self._ledger.pass_by(size, count)

    def took(self, batch: Batch, sent: int) -> None:
        wire = batch.wire(self.framing)
        size = len(wire)
        self._ledger.take(batch, 0, size, size - sent)
        if sent < size:
            self._keep(wire, sent)

    def broke(self, error: OSError) -> None:
        self._broke(error)


class _Ends:
    """Tells whether any of many connections was ended by its other side. Open while there are any."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._epoll: select.epoll
        keep_from_children(self, poller=True)

    def fileno(self) -> int:
        return self._epoll.fileno() if self._watched else -1

    def watch(self, fd: int, yes: bool) -> None:
        if yes:
            if not self._watched:
                self._epoll = select.epoll()
            with suppress(FileExistsError):  # An interrupt came, and nobody has noted that it is watched.
                # That it hung up or broke is told without being asked for.
                self._epoll.register(fd, select.EPOLLRDHUP)
            self._watched.add(fd)
            return
        self._watched.discard(fd)
        if not self._watched:
            self._epoll.close()
            return
        with suppress(OSError):  # A forked child has an empty one in its place.
            self._epoll.unregister(fd)

    def any(self) -> bool:
        """Whether any was ended."""
        return len(self._watched) > 0 and len(self._epoll.poll(0, 1)) > 0


_threads: Final = threading.local()


def _ends() -> _Ends:
    """Return that of this thread: one for all clients of a loop."""
    try:
        return cast("_Ends", _threads.ends)
    except AttributeError:
        _threads.ends = _Ends()
        return cast("_Ends", _threads.ends)
