"""One poller for all connections of a listener, which the event loop sees as a single file descriptor."""

from __future__ import annotations

import select
import selectors
import sys
from collections.abc import Sequence
from typing import Final

from producer_pool.toolkit.sockets.forks import keep_from_children

__all__ = ["Readiness"]

_MOST: Final = 256
_SURE: Final = 4
"""So often one was ready alone, before it is guessed that it is the one."""
_GUESSES: Final = 8
"""So often that is guessed, before it is asked again."""


class Readiness:
    """
    Tells which of many sockets are ready.

    Watching one descriptor in the loop instead of one for each connection makes an idle connection
    cheap, lets one turn serve all that are ready, and stops or resumes all of them by one call.
    """

    def __init__(self) -> None:
        self._poller: _Epoll | _Selector = _Epoll() if sys.platform == "linux" else _Selector()
        self._alone: Sequence[int] = ()
        """What was ready when it was last asked."""
        self._times = self._guesses = 0
        """How often that was the same one alone, and how often that is believed without asking."""
        self.add = self._poller.add
        self.poll = self._poller.poll
        self.fileno = self._poller.fileno
        self.close = self._poller.close
        keep_from_children(self, poller=True)

    def watch(self, fd: int, *, read: bool = True, write: bool) -> None:
        """Tell of *fd* when it can be read or written."""
        self.doubt()
        self._poller.watch(fd, read=read, write=write)

    def remove(self, fd: int) -> None:
        """Tell nothing more of *fd*."""
        self.doubt()
        self._poller.remove(fd)

    def guess(self) -> Sequence[int]:
        """
        Return the descriptors that are ready, when it is known that one is: mostly without asking which.

        If one alone was, again and again, then it is that one. If it turns out that it was not, or if there
        is much to do for it, others may be waiting: then doubt() has to follow.
        """
        if self._guesses:
            self._guesses -= 1
            return self._alone
        ready = self.poll()
        self._times = self._times + 1 if len(ready) == 1 and ready == self._alone else 0
        self._alone = ready
        if self._times >= _SURE:
            self._guesses = _GUESSES
        return ready

    def doubt(self) -> None:
        """Ask the next time."""
        self._times = self._guesses = 0


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
