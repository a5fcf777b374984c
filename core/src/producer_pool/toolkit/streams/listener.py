"""A listener for protocols over stream sockets: one read and one batch for each connection that is ready."""
# Rule: a connection is a small object, and never a task. `intake.paused` is looked at before each read.

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Final

from producer_pool.contract.ports import Intake, Listener
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.framing import Framing
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.stats import ListenerStats
from producer_pool.toolkit.acknowledging.answering import Silence, acknowledging
from producer_pool.toolkit.sockets.binding import Binding, as_listen_error
from producer_pool.toolkit.sockets.readiness import Readiness
from producer_pool.toolkit.sockets.tcp import reset, wait_readable
from producer_pool.toolkit.streams.acceptor import Acceptor
from producer_pool.toolkit.streams.connection import Connection, FramedConnection, StreamListenerOptions, Tail
from producer_pool.toolkit.streams.gathering import Gathering
from producer_pool.toolkit.streams.readbuffer import BITE_COST, COST, HANDSHAKE_COST, ReadBuffer
from producer_pool.toolkit.streams.tls_records import TlsError
from producer_pool.toolkit.streams.turns import Turns

if TYPE_CHECKING:
    from producer_pool.toolkit.streams.tls import ServerTls
    from producer_pool.toolkit.streams.tls_layer import TlsLayer

__all__ = ["StreamListener"]

_log = logging.getLogger(__name__)

_MOST_UNSENT: Final = 64 * 1024
"""Bytes of answers that a connection may leave unread."""
_LINGER: Final = 1.0
"""Seconds that the other side has to close, once it was told that we do."""
_FOLLOWS: Final = 0.02
"""Seconds in which nothing must have come any more, where something did at the end."""
_FOLLOWS_AT_MOST: Final = 0.5
"""Seconds until it is over, though more comes all the time."""
_LEAST_SWEEP: Final = 0.01
"""Seconds, at the least, between two looks for who takes too long: else a tiny limit would take all time."""


class StreamListener(Listener):
    """
    Receives framed messages over stream sockets.

    Reads into one buffer for all connections, and keeps of each only its unfinished message. While
    the intake is paused nothing is read, so that the senders have to wait. A connection that breaks
    a rule is closed alone; what it sent before that is passed on.

    With ``ack-after`` it answers, in the framing of a connection, how many of its messages it has. A
    protocol that is no framing has options without that.
    """

    def __init__(
        self, binding: Binding, options: StreamListenerOptions, *, tls: ServerTls | None = None
    ) -> None:
        options.check(binding.address)
        self.stats = ListenerStats()
        self._binding = binding
        self._options = options
        self._framing = options.framing
        self._tls = tls
        self._handshake_timeout = tls.timeout if tls is not None else None
        self._acceptor = Acceptor(binding, self._admit, self._say)
        self._name = binding.address
        self._connections: dict[int, Connection] = {}
        self._newcomers: dict[int, Connection] = {}
        """Those that are not established yet, the oldest first."""
        self._buffer = ReadBuffer()
        self._limit = LogLimit()
        self._answers = Silence()
        self._gathering: Gathering | None = None
        self._started = self._dismissed = False
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def plain(self) -> tuple[Binding, Framing] | None:
        """Where it listens, and its framing, for who reads it in his own way; None: there is more to it."""
        more = self._tls is not None or self._options.ack_after is not None
        return None if more or type(self) is not StreamListener else (self._binding, self._framing)

    # -- start and end -----------------------------------------------------------------------------

    async def start(self, intake: Intake) -> Endpoint:
        self._loop = asyncio.get_running_loop()
        self._intake = intake
        self._answers = acknowledging(self._options, intake, self, where=self._name)
        self._silent = self._options.ack_after is None
        with as_listen_error(self._name):
            self._ready = Readiness()
        try:
            endpoint = await self._acceptor.open()
        except BaseException:
            self._ready.close()
            raise
        self._started = True
        self._answers.begin()
        self._name = f"{endpoint.without(endpoint.options)}"
        self._pour = intake.feed
        if self._options.max_delay is not None:
            self._gathering = self._gather(self._options.max_delay)
            self._pour = self._gathering.take
        self._turns = Turns(
            self._ready, intake, visit=self._visit, resumed=self._resumed, gathering=self._gathering
        )
        self._turns.start()
        self._sweep_later()
        return endpoint

    async def stop_accepting(self) -> None:
        self._acceptor.close()

    async def drain(self) -> None:
        if not self._started:
            return
        self._turns.stop()
        told = self._dismiss()
        self._answers.hurry()
        await self._read_out()
        await self._wait_for(told)
        if self._answers.owes:
            for connection in self.everybody():
                self.listen_to(connection, connection.parting)
            self._turns.start()  # of those that are not listened to it tells what becomes of the answers
            await self._answers.settle()
            self._turns.stop()

    def _dismiss(self) -> list[Connection]:
        """Tell the other sides that we end; return the connections of protocols in which they answer that."""
        self._dismissed = True
        return [one for one in self.everybody() if self._say_farewell(one, evicted=False)]

    async def _read_out(self) -> None:
        """Read what has come, and what is right behind it."""
        # A sender that had to wait may have closed, and gone, with more in its kernel than ours had room for:
        # that comes as soon as there is room, and a busy machine takes some milliseconds for it.
        found = await self._turns.read_out()
        over = self._loop.time() + _FOLLOWS_AT_MOST
        while found and self._connections and self._loop.time() < over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FOLLOWS):
                    await wait_readable(self._ready)
            found = await self._turns.read_out()

    async def _wait_for(self, told: list[Connection]) -> None:
        """Read on until those have ended who were told to, and not for long."""
        # They may send what they were at before their own farewell. If they are told that it was
        # acknowledged, as by their kernel, it must not be thrown away.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while any(connection.socket.fileno() >= 0 for connection in told):
                    await wait_readable(self._ready)
                    await self._turns.read_out()

    async def aclose(self) -> None:
        if not self._started:
            return
        self._started = False
        self._acceptor.close()
        self._turns.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
        try:
            if not self._dismissed:
                told = self._dismiss()
                # What they say before they end is not waited for while there is nobody to take it.
                if not self._intake.paused:
                    await self._wait_for(told)
        finally:
            for connection in self.everybody():
                self._answers.say(connection)
                self._close(connection)
            self._answers.close()
            self._ready.close()

    # -- connections -------------------------------------------------------------------------------

    def _admit(self, sock: socket.socket, peer: object) -> None:
        origin = None
        if len(self._connections) >= self._options.max_connections and not self._make_room():
            self._say("full", f"connection refused: {len(self._connections)} are open; see max-connections")
        else:
            origin = self._binding.admit(sock, peer)
        if origin is None:
            self.stats.refused += 1
            reset(sock)
            return
        fd = sock.fileno()
        self._connections[fd] = connection = self._connection(sock, origin)
        if self._tls is not None:
            connection.layer = self._tls.layer()
        if not connection.established:
            self._newcomers[fd] = connection
        self._ready.add(fd)
        self.stats.accepted += 1
        self.stats.connections = len(self._connections)

    def _make_room(self) -> bool:
        """Close who is longest at its handshake; False: all that are open are done with theirs."""
        # Else whoever connects and says nothing could keep everybody else out.
        for connection in self._newcomers.values():
            self.stats.evicted += 1
            where = f"{connection.origin}: closed inside its {connection.handshake}"
            self._say("room", f"{where}, to make room; see max-connections")
            self._close(connection)
            return True
        return False

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        """Make what is kept of one connection. Protocols that are no framing override it."""
        decoder = self._framing.decoder(self._options.max_message)
        return FramedConnection(sock, origin, self._loop.time(), framing=self._framing, decoder=decoder)

    def everybody(self) -> list[Connection]:
        """Return the connections now: a list, because some may be closed while it is gone through."""
        return list(self._connections.values())

    def _let_go(self, connection: Connection, *, evicted: bool) -> None:
        """End a connection in the way of its protocol: by a word and a moment to hear it, or at once."""
        if connection.parting:
            self._close(connection)
        elif self._say_farewell(connection, evicted=evicted):
            self._part(connection)
        elif not self._answers.end(connection):
            self._close(connection)

    def _say_farewell(self, connection: Connection, *, evicted: bool) -> bool:
        """Tell the other side that we end, if the protocol has words for it; False: it has none."""
        words = connection.farewell(evicted=evicted)
        if words:
            connection.unsaid += words
            self._say_back(connection)
        return words is not None and connection.socket.fileno() >= 0

    def _part(self, connection: Connection) -> None:
        """Read no more from a connection, and close it when the other side has, or soon."""
        # To close at once could make the kernel answer what still comes in by a reset, which may
        # destroy our last words on their way (RFC 2525, 2.17).
        connection.parting = True
        if not connection.unsent:
            self._shut(connection)
        self._loop.call_later(_LINGER, self._close, connection)

    def _shut(self, connection: Connection) -> None:
        """End our side of a connection, after all that was said."""
        try:
            if connection.layer is not None:
                connection.answer(connection.layer.close())
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone already
            self._close(connection)

    def _throw_away(self, connection: Connection) -> None:
        """Read what comes in on a connection that is parting, for nobody."""
        try:
            if connection.unsent and not connection.answer(b""):
                self._ready.watch(connection.socket.fileno(), write=False)
                self._shut(connection)
            if connection.socket.fileno() >= 0 and not connection.socket.recv_into(self._buffer.data):
                self._close(connection)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        sock = connection.socket
        if self._connections.pop(sock.fileno(), None) is None:
            return
        self._newcomers.pop(sock.fileno(), None)
        self.stats.connections = len(self._connections)
        self._ready.remove(sock.fileno())
        self._answers.forget(connection)
        if connection.layer is not None and not connection.parting:
            with contextlib.suppress(OSError):  # it is gone already
                connection.answer(connection.layer.close())
        sock.close()

    def _evict(self, connection: Connection, reason: object, fault: Exception | None = None) -> None:
        self.stats.evicted += 1
        self._say("evicted", f"{connection.origin}: connection closed: {reason}", fault)
        self._let_go(connection, evicted=True)

    def _gather(self, delay: float) -> Gathering:
        feed, now = self._intake.feed, self._loop.time()
        return Gathering(delay, self._framing, origin=self._name, feed=feed, now=now)

    # -- reading -----------------------------------------------------------------------------------

    def _resumed(self) -> None:
        """Be told that turns are taken again: nobody was quiet or slow meanwhile."""
        for connection in self._connections.values():
            connection.heard(self._loop.time())

    def _visit(self, fd: int) -> int:
        """Read from the connection with *fd*, whatever comes of that, and return what it cost."""
        connection = self._connections.get(fd)
        if connection is None:
            return 0
        try:
            return self._read(fd, connection)
        except Exception as error:
            self._evict(connection, f"{type(error).__name__} while reading it", error)
            return COST

    def _read(self, fd: int, connection: Connection) -> int:
        """Read what there is, up to a buffer full, and pass on what is whole. Return what it cost."""
        if connection.parting or connection.deaf:
            (self._throw_away if connection.parting else self._answers.look_after)(connection)
            return COST
        newcomer = fd in self._newcomers
        try:
            if connection.unsent and not self._answers.flush(connection):
                self._answer(connection, b"")
            size = connection.socket.recv_into(self._buffer.data, connection.bite)
        except (BlockingIOError, InterruptedError):
            return COST
        except OSError:
            self._end(connection, clean=False)
            return COST
        if not size:
            self._end(connection, clean=connection.layer is None)
            return COST
        if connection.layer is None:
            self._decode(connection, size)
        else:
            self._decrypt(connection, connection.layer, size)
        if size > COST:
            self._buffer.fit(size, self._intake)
        if newcomer:
            if connection.established:
                self._newcomers.pop(fd, None)
            return max(size, HANDSHAKE_COST)
        cost = size * BITE_COST // connection.bite if connection.bite else size
        return cost if cost > COST else COST

    def _decrypt(self, connection: Connection, layer: TlsLayer, size: int) -> None:
        established = connection.established
        layer.receive(self._buffer.view[:size])
        try:
            if layer.ready or layer.handshake():
                if not established and connection.established:
                    connection.heard(self._loop.time())
                while size := layer.decrypt_into(self._buffer.view):
                    self._decode(connection, size)
                    if connection.error is not None or connection.parting or connection.socket.fileno() < 0:
                        return
            self._answer(connection, layer.outgoing())
        except TlsError as error:
            self._evict(connection, f"TLS: {error}")
        except OSError:
            self._end(connection, clean=False)
        else:
            if layer.ended:
                self._end(connection, clean=True)

    def _decode(self, connection: Connection, size: int) -> None:
        """Pass on what is whole now."""
        self.stats.bytes += size
        batch = connection.receive(self._buffer.data, size, self._loop.time())
        if batch is not None:
            self.stats.messages += batch.count
            if self._silent or not self._answers.take(connection, batch):
                self._pour(batch)
        if connection.unsaid:
            self._say_back(connection)
        if connection.error is not None:
            self._evict(connection, connection.error)
        elif connection.ended and connection.socket.fileno() >= 0:
            self._finish(connection, clean=True)
            # It answers our own farewell: both have said all, and so we may close first.
            if self._dismissed and not connection.unsent:
                self._close(connection)
            else:
                self._let_go(connection, evicted=False)

    def _answer(self, connection: Connection, data: bytes) -> None:
        """Send what the protocol has to say, as far as the other side takes it."""
        waited = bool(connection.unsent)
        waits = connection.answer(data)
        if waits != waited:
            self._ready.watch(connection.socket.fileno(), read=not connection.deaf, write=waits)
        if len(connection.unsent) > _MOST_UNSENT:
            connection.parting = True  # it would not read a farewell either
            self._evict(connection, "it does not read what it asks for")

    def _say_back(self, connection: Connection) -> None:
        """Send what the connection has to answer."""
        data, connection.unsaid = connection.unsaid, b""
        layer = connection.layer
        try:
            self._answer(connection, data if layer is None else layer.outgoing() + layer.encrypt(data))
        except OSError:
            self._end(connection, clean=False)

    def _end(self, connection: Connection, *, clean: bool) -> None:
        """Close a connection that the sender ended."""
        if connection.socket.fileno() >= 0:
            self._finish(connection, clean=clean)
            if not (clean and self._answers.end(connection)):
                self._close(connection)

    def _finish(self, connection: Connection, *, clean: bool) -> None:
        """Look at what is left at the end: half a message is not passed on, unless asked for."""
        size = connection.tail
        tail = connection.finish()
        if clean and tail is not None and self._options.tail is Tail.DELIVER:
            self.stats.messages += 1
            last = Batch.of([tail], received=self._loop.time(), origin=connection.origin)
            if not self._answers.take(connection, last):
                self._pour(last)
        elif size:
            self.stats.tails += 1
            how = "ended" if clean else "broke off"
            hint = "; tail=deliver passes it on" if clean and tail is not None else ""
            self._say(
                "tail", f"{connection.origin}: {how} inside a message, {size} bytes of it discarded{hint}"
            )

    # -- what acknowledging asks for ---------------------------------------------------------------

    def tell(self, connection: Connection, data: bytes) -> bool:
        """Send *data* on a connection; False: it is gone, though what it sent may not be read yet."""
        layer = connection.layer
        try:
            self._answer(connection, data if layer is None else layer.outgoing() + layer.encrypt(data))
        except OSError:
            connection.unsent = b""
            self.listen_to(connection, not connection.deaf)
            return False
        return True

    def listen_to(self, connection: Connection, yes: bool) -> None:
        """Read from a connection, or leave waiting what comes."""
        connection.deaf = not yes
        connection.heard(self._loop.time())
        self._ready.watch(connection.socket.fileno(), read=yes, write=bool(connection.unsent))

    def discharge(self, connection: Connection, fault: str) -> None:
        """Close a connection: nothing is owed to it, or nothing more can be given, because of a *fault*."""
        if fault:
            self._say("owed", f"{connection.origin}: not acknowledged, and the connection closed: {fault}")
        self._close(connection)

    # -- time, and what is said --------------------------------------------------------------------

    def _limits(self) -> list[float | None]:
        """Return the times, in seconds, that _check_time() looks at."""
        return [self._options.idle_timeout, self._handshake_timeout]

    def _sweep_later(self) -> None:
        shortest = min((limit for limit in self._limits() if limit), default=None)
        if shortest is not None:
            self._sweeping = self._loop.call_later(max(shortest / 4, _LEAST_SWEEP), self._sweep)

    def _sweep(self) -> None:
        if self._turns.reading:
            for connection in self.everybody():
                if not connection.parting:
                    self._check_time(connection, self._loop.time() - connection.since)
        self._sweep_later()

    def _check_time(self, connection: Connection, passed: float) -> None:
        """Evict who takes too long; *passed* are the seconds since its last message, or its beginning."""
        idle = self._options.idle_timeout
        if not connection.established:
            limit = self._handshake_timeout
            if limit is not None and passed > limit:
                what = connection.handshake
                self._evict(connection, f"no {what} within {passed:.3g} s; see handshake-timeout")
        elif idle is not None and passed > idle and not self._answers.owes_to(connection):
            self._evict(connection, f"no message within {passed:.3g} s; see idle-timeout")

    def _say(self, cause: str, text: str, fault: Exception | None = None) -> None:
        left_out = self._limit.allow(cause, self._loop.time())
        if left_out is not None:
            more = f" (and {left_out} more like this)" if left_out else ""
            _log.warning("%s: %s%s", self._name, text, more, exc_info=fault)
