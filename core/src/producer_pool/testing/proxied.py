"""A connection through a fault proxy: two sockets, and a pipe for each direction between them."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final

from producer_pool.testing.proxy_faults import Faults, Traffic
from producer_pool.testing.proxy_pipe import Pipe
from producer_pool.toolkit.sockets.tcp import reset

if TYPE_CHECKING:
    from producer_pool.testing.proxy import FaultProxy

__all__ = ["BACK", "FORTH", "Address", "ProxiedConnection"]

Address = tuple[int, "tuple[Any, ...] | str"]
"""Where a target may be: the family of a socket, and what it connects to."""

FORTH: Final = 0
BACK: Final = 1


class ProxiedConnection:
    """One connection through a FaultProxy."""

    def __init__(self, proxy: FaultProxy, number: int, client: socket.socket) -> None:
        self.number = number
        """Counted from 0, in the order in which they came."""
        self.closed = False
        self.reached = False
        """Whether the target was."""
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._target: socket.socket | None = None
        self._pipes: tuple[Pipe, ...] = ()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self.reached else "connecting"
        passed = f"{self.forth.passed} bytes forth and {self.back.passed} back"
        return f"<ProxiedConnection {self.number}, {state}, passed {passed}>"

    # -- from any thread -----------------------------------------------------------------------------

    @property
    def forth(self) -> Traffic:
        """What the one who connected sent."""
        return self._pipes[FORTH] if self._pipes else Traffic()

    @property
    def back(self) -> Traffic:
        """What the target answered."""
        return self._pipes[BACK] if self._pipes else Traffic()

    def reset(self) -> None:
        """Reset it now, on both sides."""
        self._proxy.order(self.reset_now)

    # -- on the loop ---------------------------------------------------------------------------------

    def reach(self, addresses: Sequence[Address]) -> None:
        """Connect to the first of *addresses* that answers; if none does, reset the client."""
        family, place = addresses[0]
        self._target = target = socket.socket(family, socket.SOCK_STREAM)
        target.setblocking(False)
        try:
            code = target.connect_ex(place)
        except OSError as error:  # The path of a unix socket may be too long.
            code = error.errno or errno.EINVAL
        if code == errno.EINPROGRESS:
            self._loop.add_writer(target, self._answered, target, addresses)
        else:
            self._connected(target, addresses, code)

    def _answered(self, target: socket.socket, addresses: Sequence[Address]) -> None:
        self._loop.remove_writer(target)
        self._connected(target, addresses, target.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _connected(self, target: socket.socket, addresses: Sequence[Address], code: int) -> None:
        tcp = target.family != socket.AF_UNIX
        # TCP connects to itself if the port that it gets is the one that it looks for.
        if code or (tcp and target.getsockname() == target.getpeername()):
            reset(target)
            self._target = None
            if len(addresses) > 1:
                self.reach(addresses[1:])
            else:
                self.reset_now()
            return
        for sock in (self._client, target):
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proxy = self._proxy
        # Each direction draws for itself: what happens elsewhere changes nothing about it.
        forth, back = (Random(f"{proxy.seed}/{self.number}/{direction}") for direction in (FORTH, BACK))
        self._pipes = (
            Pipe(self._client, target, self, total=proxy.forth, random=forth),
            Pipe(target, self._client, self, total=proxy.back, random=back),
        )
        self.reached = True
        self.suffer(FORTH, proxy.forth.faults)
        self.suffer(BACK, proxy.back.faults)

    def suffer(self, direction: int, faults: Faults) -> None:
        """Let these happen in one direction from now on."""
        if self._pipes and not self.closed:
            self._pipes[direction].suffer(faults)

    def half_close(self, direction: int) -> None:
        """End the stream in one direction."""
        if self._pipes and not self.closed:
            self._pipes[direction].half_close()

    def reset_now(self) -> None:
        """Reset it on both sides. Nothing happens if it is closed already."""
        self._close(reset)

    # -- what its pipes tell it ----------------------------------------------------------------------

    def lost(self, sock: socket.socket) -> None:
        """Throw away what goes to the other side of *sock*; what came from it arrives, and then a reset."""
        for pipe in self._pipes:
            if pipe.sink is sock and not self.closed:
                pipe.lose_sink()
        for pipe in self._pipes:
            if pipe.source is sock and not self.closed:
                pipe.lose_source()

    def look_over(self) -> None:
        """Close it in good order if both directions are over."""
        if self._pipes and all(pipe.over for pipe in self._pipes):
            self._close(socket.socket.close)

    def _close(self, close: Callable[[socket.socket], object]) -> None:
        if self.closed:
            return
        self.closed = True
        for pipe in self._pipes:
            pipe.close()
        if self._target is not None:
            self._loop.remove_writer(self._target)
            close(self._target)
        close(self._client)
        self._proxy.forget(self)
