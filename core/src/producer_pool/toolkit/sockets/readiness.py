"""One poller for all connections of a listener, which the event loop sees as a single file descriptor."""

from __future__ import annotations

import select
import selectors
import sys
from collections.abc import Iterable
from typing import Final

from producer_pool.toolkit.sockets.forks import keep_from_children

__all__ = ["Readiness"]

_MOST: Final = 256


class Readiness:
    """
    Tells which of many sockets are ready.

    Watching one descriptor in the loop instead of one for each connection makes an idle connection
    cheap, lets one turn serve all that are ready, and stops or resumes all of them by one call.
    """

    def __init__(self) -> None:
        self._poller: _Epoll | _Selector = _Epoll() if sys.platform == "linux" else _Selector()
        self.add = self._poller.add
        self.watch = self._poller.watch
        self.remove = self._poller.remove
        self.poll = self._poller.poll
        self.fileno = self._poller.fileno
        self.close = self._poller.close
        keep_from_children(self, poller=True)


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

    def poll(self) -> Iterable[int]:
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

    def poll(self) -> Iterable[int]:
        return [key.fd for key, _ in self._selector.select(0)]
