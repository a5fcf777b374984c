"""A listener for protocols over stream sockets: one read and one batch for each connection that is ready."""
# Rule: a connection is a small object, and never a task. `intake.paused` is looked at before each read.

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from typing import Final

from producer_pool.contract.ports import Intake, Listener
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.stats import ListenerStats
from producer_pool.toolkit.binding import Binding
from producer_pool.toolkit.connection import Connection, StreamListenerOptions, Tail
from producer_pool.toolkit.readiness import Readiness
from producer_pool.toolkit.sockets import reset, why

__all__ = ["StreamListener"]

_log = logging.getLogger(__name__)

_READ: Final = 256 * 1024
_TURN: Final = 1024 * 1024
"""Bytes read in one turn of the loop, before others have theirs."""
_ACCEPTS: Final = 64
"""Connections taken in one turn of the loop."""
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 0.1
"""Seconds until the next try when the system has no more file descriptors."""


class StreamListener(Listener):
    """
    Receives framed messages over stream sockets.

    Reads into one buffer for all connections, and keeps of each only its unfinished message. While
    the intake is paused nothing is read, so that the senders have to wait. A connection that breaks
    a rule is closed alone; what it sent before that is passed on.
    """

    def __init__(self, binding: Binding, options: StreamListenerOptions) -> None:
        options.check(binding.address)
        self.stats = ListenerStats()
        self._binding = binding
        self._options = options
        self._framing = options.framing
        self._name = binding.address
        self._sockets: list[socket.socket] = []
        self._connections: dict[int, Connection] = {}
        self._waiting: deque[int] = deque()
        """Connections that are ready and were not served in this turn."""
        self._buffer = bytearray(_READ)
        self._limit = LogLimit()
        self._reading = False
        self._started = False
        self._resuming: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # -- start and end -----------------------------------------------------------------------------

    async def start(self, intake: Intake) -> Endpoint:
        self._loop = asyncio.get_running_loop()
        self._intake = intake
        self._sockets = list(await self._binding.bind())
        self._ready = Readiness()
        self._started = True
        endpoint = self._binding.endpoint(self._sockets)
        self._name = f"{endpoint.without(endpoint.options)}"
        self._accept_again()
        self._read_again()
        self._sweep_later()
        return endpoint

    async def stop_accepting(self) -> None:
        self._cancel("accept")
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            self._loop.remove_reader(sock)
            # Who waits here has connected already, as far as it knows, and may have sent something.
            while self._accept(sock, _ACCEPTS):
                pass
            sock.close()
        if sockets:
            self._binding.release()

    async def drain(self) -> None:
        if not self._started:
            return
        self._stop_reading()
        while not await self._is_quiet():
            self._serve()
            await asyncio.sleep(0)

    async def _is_quiet(self) -> bool:
        while self._intake.paused:
            await self._intake.resumed()
        if not self._waiting:
            self._waiting.extend(self._ready.poll())
        return not self._waiting

    async def aclose(self) -> None:
        if not self._started:
            return
        await self.stop_accepting()
        self._stop_reading()
        self._started = False
        self._cancel("sweep")
        for connection in list(self._connections.values()):
            self._close(connection)
        self._ready.close()

    # -- taking connections ------------------------------------------------------------------------

    def _accept_again(self) -> None:
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock, _ACCEPTS)

    def _accept(self, listening: socket.socket, most: int) -> bool:
        """Take up to *most* connections; False: there are no more for now."""
        for _ in range(most):
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    self._accept_later(error)
                    return False
                continue  # it went away before we took it: accept(2), "Error handling"
            self._admit(sock, peer)
        return True

    def _accept_later(self, error: OSError) -> None:
        """Leave new connections waiting for a while; asking again at once would only burn time."""
        self._say("files", "no new connections for now: %s; raise `ulimit -n`", why(error))
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        if self._sockets:
            self._timers["accept"] = self._loop.call_later(_PAUSE, self._accept_again)

    def _admit(self, sock: socket.socket, peer: object) -> None:
        origin = None
        if len(self._connections) >= self._options.max_connections:
            self._say("full", "connection refused: %d are open; see max-connections", len(self._connections))
        else:
            origin = self._binding.admit(sock, peer)
        if origin is None:
            self.stats.refused += 1
            reset(sock)
            return
        sock.setblocking(False)
        connection = self._connection(sock, origin)
        self._connections[sock.fileno()] = connection
        self._ready.add(sock.fileno())
        self.stats.accepted += 1
        self.stats.connections = len(self._connections)

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        return Connection(sock, origin, self._framing.decoder(self._options.max_message), self._loop.time())

    def _close(self, connection: Connection) -> None:
        fd = connection.socket.fileno()
        if self._connections.pop(fd, None) is None:
            return
        self.stats.connections = len(self._connections)
        self._ready.remove(fd)
        connection.socket.close()

    def _evict(self, connection: Connection, reason: object) -> None:
        self.stats.evicted += 1
        self._say("evicted", "%s: connection closed: %s", connection.origin, reason)
        self._close(connection)

    # -- reading -----------------------------------------------------------------------------------

    def _read_again(self) -> None:
        self._reading = True
        self._loop.add_reader(self._ready.fileno(), self._turn)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._ready.fileno())
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None

    def _turn(self) -> None:
        if not self._intake.paused:
            if not self._waiting:
                self._waiting.extend(self._ready.poll())
            self._serve()
        if self._intake.paused and self._reading:
            self._stop_reading()
            self._resuming = self._loop.create_task(self._resume())

    async def _resume(self) -> None:
        while self._intake.paused:
            await self._intake.resumed()
        self._resuming = None
        # Nobody was quiet or slow while we did not listen.
        now = self._loop.time()
        for connection in self._connections.values():
            connection.since = now
        self._read_again()

    def _serve(self) -> None:
        """Read once from each connection that is ready, until the turn is over or the intake is full."""
        waiting = self._waiting
        left = _TURN
        while waiting and left > 0 and not self._intake.paused:
            connection = self._connections.get(waiting.popleft())
            if connection is not None:
                left -= self._read(connection)

    def _read(self, connection: Connection) -> int:
        """Read what there is, up to a buffer full, and pass on what is whole. Return the bytes read."""
        try:
            size = connection.socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._end(connection, clean=False)
            return 0
        if size:
            self.stats.bytes += size
            self._decode(connection, size)
        else:
            self._end(connection, clean=True)
        return size

    def _decode(self, connection: Connection, size: int) -> None:
        decoder = connection.decoder
        wire = decoder.feed(self._buffer, size)
        if wire:
            now = self._loop.time()
            connection.since = now
            batch = Batch.from_wire(wire, self._framing, received=now, origin=connection.origin)
            self.stats.messages += len(batch)
            self._intake.feed(batch)
        if decoder.error is not None:
            self._evict(connection, decoder.error)

    def _end(self, connection: Connection, *, clean: bool) -> None:
        """Close a connection that the sender ended: half a message is not passed on, unless asked for."""
        size = connection.decoder.tail
        tail = connection.decoder.finish()
        if clean and tail is not None and self._options.tail is Tail.DELIVER:
            self.stats.messages += 1
            self._intake.feed(Batch.of([tail], received=self._loop.time(), origin=connection.origin))
        elif size:
            self.stats.tails += 1
            how = "ended" if clean else "was reset"
            hint = "; tail=deliver passes it on" if clean else ""
            text = "%s: the stream %s inside a message, of which %d bytes were discarded%s"
            self._say("tail", text, connection.origin, how, size, hint)
        self._close(connection)

    # -- time, and what is said --------------------------------------------------------------------

    def _sweep_later(self) -> None:
        idle = self._options.idle_timeout
        if idle:
            self._timers["sweep"] = self._loop.call_later(idle / 4, self._sweep)

    def _sweep(self) -> None:
        idle = self._options.idle_timeout
        if self._reading and idle:
            now = self._loop.time()
            for connection in [c for c in self._connections.values() if now - c.since > idle]:
                self._evict(connection, f"no message for {now - connection.since:.3g} s; see idle-timeout")
        self._sweep_later()

    def _cancel(self, timer: str) -> None:
        handle = self._timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

    def _say(self, cause: str, text: str, *args: object) -> None:
        left_out = self._limit.allow(cause, self._loop.time())
        if left_out is not None:
            more = f" (and {left_out} more like this)" if left_out else ""
            _log.warning(f"%s: {text}%s", self._name, *args, more)
