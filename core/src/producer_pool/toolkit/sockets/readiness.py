"""One poller for all connections of a listener, which the event loop sees as a single file descriptor."""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections.abc import Callable, Sequence
from typing import Final

from producer_pool.toolkit.sockets.forks import keep_from_children

__all__ = ["Readiness"]

_MOST: Final = 256
_SURE: Final = 32
"""So often in a row one was ready alone, before the loop watches it itself. To change that takes a while."""


class Readiness:
    """
    Tells which of many sockets are ready.

    Watching one descriptor in the loop instead of one for each connection makes an idle connection
    cheap, lets one turn serve all that are ready, and stops or resumes all of them by one call. The one
    that is ready most often is told of faster if the loop watches it: see attend().
    """

    def __init__(self) -> None:
        self._poller: _Epoll | _Selector = _Epoll() if sys.platform == "linux" else _Selector()
        self._odd: set[int] = set()
        """Those that are watched for anything else than reading."""
        self._alone: Sequence[int] = ()
        """What was ready when it was last asked."""
        self._times = 0
        """How often that was the same one alone."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._favourite: int | None = None
        """The one that the loop watches, and the poller does not."""
        self.add = self._poller.add
        self.fileno = self._poller.fileno
        self.close = self._poller.close
        keep_from_children(self, poller=True)

    def watch(self, fd: int, *, read: bool = True, write: bool) -> None:
        """Tell of *fd* when it can be read or written."""
        self._put_back(fd)
        (self._odd.discard if read and not write else self._odd.add)(fd)
        self._poller.watch(fd, read=read, write=write)

    def remove(self, fd: int) -> None:
        """Tell nothing more of *fd*."""
        self._put_back(fd)
        self._odd.discard(fd)
        self._poller.remove(fd)

    def poll(self) -> Sequence[int]:
        """Return the descriptors that are ready now, but for one of which a turn is told by itself."""
        ready = self._poller.poll()
        self._times = self._times + 1 if len(ready) == 1 and ready == self._alone else 0
        self._alone = ready
        if self._times >= _SURE:
            self._times = 0
            self._favour(ready[0])
        return ready

    # -- in a loop ---------------------------------------------------------------------------------

    def attend(self, loop: asyncio.AbstractEventLoop, turn: Callable[[int | None], None]) -> None:
        """
        Have *turn* called on *loop* whenever one is ready, until leave().

        It is called with the one if that is known, or with None: then poll() tells. A loop with a shorter
        way calls it on that: see DirectLoop.
        """
        self._loop = loop
        self._turn = turn
        self._add_reader = getattr(loop, "add_direct_reader", loop.add_reader)
        self._remove_reader = getattr(loop, "remove_direct_reader", loop.remove_reader)
        self._add_reader(self.fileno(), turn, None)

    def leave(self) -> None:
        """Have it called no more."""
        if self._loop is not None:
            self._put_back(self._favourite)
            self._remove_reader(self.fileno())
            self._loop = None

    def _favour(self, fd: int) -> None:
        """Have the loop watch *fd* itself: that saves both the kernel and us a look through two pollers."""
        if self._loop is not None and fd not in self._odd:
            self._put_back(self._favourite)
            self._add_reader(fd, self._turn, fd)
            self._poller.remove(fd)
            self._favourite = fd

    def _put_back(self, fd: int | None) -> None:
        """Have the poller watch *fd* again, if the loop does."""
        if fd is not None and fd == self._favourite:
            self._favourite = None
            self._remove_reader(fd)
            self._poller.add(fd)


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close

    def add(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def watch(self, fd: int, *, read: bool = True, write: bool) -> None:
        # That the other side is gone is told of those, too, that are watched for neither.
        self._epoll.modify(fd, (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0))

    def remove(self, fd: int) -> None:
        # Closing is not enough: a forked child may hold the same socket, and events would go on.
        self._epoll.unregister(fd)

    def poll(self) -> Sequence[int]:
        """Return the descriptors that are ready now."""
        return [fd for fd, _ in self._epoll.poll(0, _MOST)]


class _Selector:
    """The same for kqueue and its like."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.close = self._selector.close

    def fileno(self) -> int:
        return self._selector.fileno()

    def add(self, fd: int) -> None:
        self._selector.register(fd, selectors.EVENT_READ)

    def watch(self, fd: int, *, read: bool = True, write: bool) -> None:
        self.remove(fd)
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        if events:
            self._selector.register(fd, events)

    def remove(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self) -> Sequence[int]:
        return [key.fd for key, _ in self._selector.select(0)]
