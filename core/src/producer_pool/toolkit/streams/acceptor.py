"""Taking connections: in bounded numbers, and without spinning when the system has no more descriptors."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

from producer_pool.model.endpoint import Endpoint
from producer_pool.toolkit.sockets.binding import Binding, as_listen_error
from producer_pool.toolkit.sockets.forks import keep_from_children
from producer_pool.toolkit.sockets.renewal import Renewal
from producer_pool.toolkit.sockets.tcp import why

__all__ = ["Acceptor"]

_IN_A_TURN: Final = 64
"""Connections taken in one turn of the loop."""
_TURNS_AT_THE_END: Final = 17
"""Turns' worth of them, at the most, before closing: more than the 1,025 that a backlog of 1,024 holds."""
_PAUSE: Final = 0.1
"""Seconds until the next try when the system has no more file descriptors."""


class Acceptor:
    """
    Listens at one endpoint and hands over each connection, as a non-blocking socket, with its origin.

    *admit* gets the socket and the peer's address and has to close what it does not want. *complain*
    gets a cause, and a text for the log.
    """

    def __init__(
        self,
        binding: Binding,
        admit: Callable[[socket.socket, object], None],
        complain: Callable[[str, str], None],
    ) -> None:
        self._binding = binding
        self._admit = admit
        self._complain = complain
        self._sockets: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._renewal = Renewal(binding, self._replace, complain)

    async def open(self) -> Endpoint:
        """
        Start, and return the endpoint with the address it really has.

        Raises:
            ListenError: it cannot be listened at.
        """
        self._loop = asyncio.get_running_loop()
        with as_listen_error(self._binding.address):
            self._sockets = list(await self._binding.bind())
        keep_from_children(*self._sockets)
        self._watch()
        self._renewal.start()
        return self._binding.endpoint(self._sockets)

    def close(self) -> None:
        """Take those who have connected already, as far as they know, then no more. May be called twice."""
        self._renewal.stop()
        if self._timer is not None:
            self._timer.cancel()
        sockets, self._sockets = self._sockets, []
        if sockets:
            self._binding.release()
        self._close(sockets)

    def _replace(self, sockets: Sequence[socket.socket]) -> None:
        """Listen at others from now on."""
        old, self._sockets = self._sockets, list(sockets)
        keep_from_children(*sockets)
        self._close(old)
        if self._timer is None:
            self._watch()

    def _close(self, sockets: Sequence[socket.socket]) -> None:
        for sock in sockets:
            self._loop.remove_reader(sock)
            for _ in range(_TURNS_AT_THE_END):
                if not self._accept(sock):
                    break
            sock.close()

    def take_waiting(self) -> None:
        """Take a turn's worth of those who have connected already, before the loop says so."""
        for sock in self._sockets:
            self._accept(sock)

    def _watch(self) -> None:
        self._timer = None
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def _accept(self, listening: socket.socket) -> bool:
        """Take a turn's worth of connections; False: there are no more for now."""
        for _ in range(_IN_A_TURN):
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue  # it went away before we took it
                self._wait(error)
                return False
            sock.setblocking(False)
            keep_from_children(sock)
            self._admit(sock, peer)
        return True

    def _wait(self, error: OSError) -> None:
        """Leave new connections waiting for a while: they stay ready, so asking again at once would spin."""
        self._complain("accept", f"no new connections for now: {why(error)}")
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        if self._sockets and self._timer is None:
            self._timer = self._loop.call_later(_PAUSE, self._watch)
