"""A listener for protocols over datagram sockets: many receives a turn, one batch for each sender in it."""
# Rule: what cannot be passed on, and what the kernel had no room for, is counted. Nothing is passed on cut.

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from producer_pool.contract.options import Size, option
from producer_pool.contract.ports import Intake, Listener
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidOption
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.stats import ListenerStats
from producer_pool.toolkit.datagrams.receiving import Arrivals, OneByOne, Receiver
from producer_pool.toolkit.datagrams.sockets import DatagramBinding
from producer_pool.toolkit.sockets.binding import as_listen_error
from producer_pool.toolkit.sockets.forks import keep_from_children
from producer_pool.toolkit.sockets.renewal import Renewal
from producer_pool.toolkit.sockets.tcp import why

__all__ = ["DatagramListener", "DatagramListenerOptions"]

_log = logging.getLogger(__name__)

_JOINED: Final = 64 * 1024
"""Bytes of what the kernel joins."""
_LONGEST: Final = 8 * 1024 * 1024
"""Bytes that no system's datagrams have: Linux sends 4 MiB of them. There is room for as much at the most."""
_LEAST_MEMORY: Final = 256
"""Bytes of a receive buffer that a datagram takes at the least."""
_NO_ROOM: Final = (
    "the kernel had no room for them, and counts those that it joined as one; raise it with ?receive-buffer="
)
_PAUSE: Final = 0.1
"""Seconds until the next try when a socket cannot be read."""


@dataclass(frozen=True)
class DatagramListenerOptions:
    """The options of every listener that takes each datagram for a message."""

    max_message: Size = option(64 * 1024, "a longer datagram is thrown away, and counted")
    strip: bool = option(True, "take one newline off the end of a message, so that it can go out as a line")


def receiver(binding: DatagramBinding, room: int) -> Receiver:
    """Return what reads datagrams of up to *room* bytes in the fastest way that there is."""
    if sys.platform == "linux":
        try:
            # Here, because not every Python has ctypes, nor every system what it needs.
            from producer_pool.toolkit.datagrams.recvmmsg import ManyAtOnce
        except (ImportError, AttributeError, MemoryError):
            return OneByOne(binding, room)
        if ManyAtOnce.works():
            return ManyAtOnce(binding, room)
    return OneByOne(binding, room)


class _Port:
    """One socket that is read, and what was known of it last."""

    __slots__ = ("lost", "socket")

    def __init__(self, sock: socket.socket, lost: int) -> None:
        self.socket = sock
        self.lost = lost

    @property
    def most(self) -> int:
        """How many datagrams may be there now: those that come meanwhile nobody waits for."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // _LEAST_MEMORY


class DatagramListener(Listener):
    """
    Receives a message in each datagram.

    While the intake is paused it goes on reading, and counts what it throws away: nobody can be made to
    wait. What the kernel had no room for is counted as well. Where senders can be made to wait, nothing
    is read meanwhile, and nothing thrown away.
    """

    def __init__(self, binding: DatagramBinding, options: DatagramListenerOptions) -> None:
        if options.max_message < 1:
            raise InvalidOption(f"{binding.address}: max-message must be at least 1 byte")
        self.stats = ListenerStats()
        self._binding = binding
        self._longest = options.max_message
        self._strip = options.strip
        # One byte more for what is stripped, and one to see that there is more.
        self._room = max(min(options.max_message, _LONGEST) + 2, _JOINED)
        self._name = binding.address
        self._ports: list[_Port] = []
        self._reading = False
        self._resuming: asyncio.Task[None] | None = None
        self._limit = LogLimit()
        self._renewal = Renewal(binding, self._replace, self._say)

    # -- start and end -----------------------------------------------------------------------------

    async def start(self, intake: Intake) -> Endpoint:
        self._loop = asyncio.get_running_loop()
        self._intake = intake
        with as_listen_error(self._binding.address):
            sockets = await self._binding.bind()
        keep_from_children(*sockets)
        endpoint = self._binding.endpoint(sockets)
        self._name = f"{endpoint.without(endpoint.options)}"
        self._ports = [_Port(sock, self._binding.lost(sock)) for sock in sockets]
        self._receiver = receiver(self._binding, self._room)
        self._reading = True
        for port in self._ports:
            self._watch(port)
        self._renewal.start()
        return endpoint

    async def stop_accepting(self) -> None:
        """Do nothing: there are no connections, and what has arrived is told from what has not by drain()."""

    async def drain(self) -> None:
        self._stop_reading()
        for port in self._ports:
            most = port.most
            while most > 0:
                while self._intake.paused:
                    await self._intake.resumed()
                read = self._read(port)
                if not read:
                    break
                most -= read
                await asyncio.sleep(0)

    async def aclose(self) -> None:
        self._stop_reading()
        ports, self._ports = self._ports, []
        if ports:
            self._binding.release()
        for port in ports:
            port.socket.close()

    def _replace(self, sockets: Sequence[socket.socket]) -> None:
        """Receive at others from now on, and pass on what has come to the old ones."""
        keep_from_children(*sockets)
        old, self._ports = self._ports, [_Port(sock, self._binding.lost(sock)) for sock in sockets]
        for port in old:
            self._loop.remove_reader(port.socket)
            most = port.most
            while most > 0 and (read := self._read(port)):
                most -= read
            port.socket.close()
        for port in self._ports:
            self._watch(port)

    def _watch(self, port: _Port) -> None:
        if self._reading and self._resuming is None and port in self._ports:
            self._loop.add_reader(port.socket, self._turn, port)

    def _stop_reading(self) -> None:
        self._renewal.stop()
        if self._reading:
            self._reading = False
            for port in self._ports:
                self._loop.remove_reader(port.socket)
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None

    async def _resume(self) -> None:
        while self._intake.paused:
            await self._intake.resumed()
        self._resuming = None
        for port in self._ports:
            self._watch(port)

    # -- reading -----------------------------------------------------------------------------------

    def _turn(self, port: _Port) -> None:
        if not self._intake.paused or not self._binding.holds_back:
            self._read(port)
        elif self._resuming is None:
            for one in self._ports:
                self._loop.remove_reader(one.socket)
            self._resuming = self._loop.create_task(self._resume())

    def _read(self, port: _Port) -> int:
        """Read a turn's worth, pass it on, and return how many datagrams it was."""
        # What is read is passed on, however full the intake is after the first of it.
        paused = self._intake.paused and not self._binding.holds_back
        arrivals = Arrivals()
        try:
            self._receiver.receive(port.socket, arrivals)
        except OSError as error:
            self._wait(port, error)
        if arrivals.too_long:
            self._too_long(arrivals.too_long)
        for peer, messages in arrivals.by_peer.items():
            self.stats.bytes += sum(map(len, messages))
            if paused:
                self._drop(len(messages), "paused", "the pool takes nothing for now")
                continue
            try:
                self._pass_on(port.socket, peer, messages)
            except Exception as error:
                self._drop(len(messages), "fault", f"{type(error).__name__} while passing it on", error)
        self._count_lost(port)
        return arrivals.datagrams

    def _pass_on(self, sock: socket.socket, peer: object, messages: list[bytes]) -> None:
        """Pass on what one sender sent."""
        if self._strip:
            messages = [message[:-1] if message.endswith(b"\n") else message for message in messages]
        if max(map(len, messages)) > self._longest:
            fitting = [message for message in messages if len(message) <= self._longest]
            self._too_long(len(messages) - len(fitting))
            messages = fitting
        origin = self._binding.admit(sock, peer)
        if origin is None:
            self.stats.refused += len(messages)
            self._say("refused", f"{len(messages):,} datagrams refused: their sender is not allowed")
        elif messages:
            self._intake.feed(Batch.owning(messages, received=self._loop.time(), origin=origin))
            self.stats.messages += len(messages)

    # -- what is not passed on ---------------------------------------------------------------------

    def _too_long(self, count: int) -> None:
        self._drop(count, "too long", f"longer than {self._longest} bytes; raise it with ?max-message=")

    def _count_lost(self, port: _Port) -> None:
        before, port.lost = port.lost, self._binding.lost(port.socket)
        lost = (port.lost - before) % 2**32
        if lost:
            self._drop(lost, "lost", _NO_ROOM)

    def _drop(self, count: int, cause: str, why_not: str, fault: Exception | None = None) -> None:
        self.stats.dropped += count
        self._say(cause, f"{count:,} datagrams dropped: {why_not}", fault)

    def _wait(self, port: _Port, error: OSError) -> None:
        """Leave a socket alone for a while: it stays ready, so asking again at once would spin."""
        self._say("read", f"cannot be read for now: {why(error)}")
        if self._reading:
            self._loop.remove_reader(port.socket)
            self._loop.call_later(_PAUSE, self._watch, port)

    def _say(self, cause: str, text: str, fault: Exception | None = None) -> None:
        left_out = self._limit.allow(cause, self._loop.time())
        if left_out is not None:
            more = f" (and {left_out:,} more like this)" if left_out else ""
            _log.warning("%s: %s%s", self._name, text, more, exc_info=fault)
