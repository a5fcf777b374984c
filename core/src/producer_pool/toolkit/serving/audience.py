"""All peers of one serving client: taking them in, giving them what is sent, and letting them go in time."""
# Rule: no peer makes another one wait. What one does not take is its own, bounded, and given up in time.

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.framing import Framing
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.outcomes import Ack
from producer_pool.model.text import format_count, format_duration
from producer_pool.toolkit.serving.backlog import Range
from producer_pool.toolkit.serving.coverage import Coverage
from producer_pool.toolkit.serving.options import ServingOptions, ServingStats
from producer_pool.toolkit.serving.peer import Peer
from producer_pool.toolkit.sockets.binding import Binding, as_listen_error
from producer_pool.toolkit.sockets.readiness import Readiness
from producer_pool.toolkit.sockets.tcp import reset
from producer_pool.toolkit.streams.acceptor import Acceptor
from producer_pool.toolkit.streams.progress import Progress

if TYPE_CHECKING:
    from producer_pool.toolkit.streams.tls import ServerTls

__all__ = ["Audience", "AudienceEvents"]

_log = logging.getLogger(__name__)

_LINGER: Final = 0.5
"""Seconds that closing waits for the end of peers that talk."""
_LEAST_SWEEP: Final = 0.01
"""Seconds, at the least, between two looks for who takes too long: else a tiny limit would take all time."""
_HANDSHAKES: Final = 8
"""Steps of handshakes in one turn of the loop: with TLS, each may take a millisecond."""
_TURN: Final = 64 * 1024
"""Bytes read from all peers together, before others have their turn. Counted are at least"""
_COST: Final = 64
"""so many for each."""
_SCRATCH: Final = 16 * 1024


class AudienceEvents(Protocol):
    """Who is told what becomes of an audience. Often while messages are being handed to it."""

    def peer(self, sock: socket.socket, origin: str) -> Peer:
        """Make what is kept of one connection."""

    def moved(self) -> None:
        """Be told that messages may have got further."""

    def lost(self, messages: Range) -> None:
        """Be told which messages nobody gets, of those that were sent to somebody."""


class Audience:
    """
    Every peer of one client, and which messages all of them have.

    Messages are counted from open() on. A peer that left, or that its own overflow made miss a message,
    does not hold it back; a message that nobody gets for that reason is reported.
    """

    def __init__(
        self,
        binding: Binding,
        options: ServingOptions,
        events: AudienceEvents,
        *,
        framing: Framing,
        tls: ServerTls | None,
    ) -> None:
        self.options = options
        self.framing = framing
        self.tls = tls
        self.confirms = False
        self.stats = ServingStats()
        self.members: tuple[Peer, ...] = ()
        """Those who get messages."""
        self.sent = 0
        """Messages since open(), those that were for nobody among them."""
        self._name = binding.address
        self._binding = binding
        self._events = events
        self._acceptor = Acceptor(binding, self._admit, self._warn)
        self._peers: dict[int, Peer] = {}
        """All connections, by descriptor: also of those who are not ready yet, or only have to end."""
        self._behind: set[Peer] = set()
        """Those whose kernels have not taken all."""
        self._laggard: Peer | None = None
        """Who was last seen to hold back what is confirmed."""
        self._confirmed = 0
        self._coverage = Coverage()
        self._open = False
        self._time = 0.0
        """Seconds during which peers were looked after. It stands still while this program does: then
        nobody was slow."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._ended: asyncio.Event | None = None
        """Set when all peers have ended whose end is waited for."""
        self._closed: asyncio.Event | None = None
        """Set when what is being closed is closed."""
        self._limit = LogLimit()
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._due: dict[int, None] = {}
        """Those who were ready and had no turn yet, by descriptor, who waits longest first."""

    # -- the beginning and the end -----------------------------------------------------------------

    async def open(self, ack: Ack, *, patience: float, handshake: float) -> Endpoint:
        """
        Listen, and return the endpoint with the address it really has.

        A peer is cut off that takes nothing for *patience* seconds, or is not ready after *handshake*.

        Raises:
            ListenError: it cannot be listened at.
            ConfigurationError: it may not, as it was told.
        """
        self._loop = asyncio.get_running_loop()
        self.confirms = ack > Ack.WRITTEN
        self._ack = ack
        self._patience = patience
        self._handshake = handshake
        self._interval = max(min(patience, handshake, 4 * _LINGER) / 4, _LEAST_SWEEP)
        self._swept = self._loop.time()
        self.sent = self._confirmed = 0
        self._coverage = Coverage()
        with as_listen_error(self._name):
            self._ready = Readiness()
        self._open = True
        try:
            endpoint = await self._acceptor.open()
        except BaseException:
            self._open = False
            self._ready.close()
            raise
        self._name = f"{endpoint.without(endpoint.options)}"
        self._loop.add_reader(self._ready.fileno(), self._look, _HANDSHAKES)
        self._sweeping = self._loop.call_later(self._interval, self._sweep)
        return endpoint

    async def aclose(self) -> None:
        """
        End all connections, in good order as far as that takes no longer than half a second.

        May be called twice, also while the first call waits: then both return when it is done.
        """
        if not self._open:
            if self._closed is not None:
                # It may be opened again after this, which must not get into what still ends.
                await self._closed.wait()
            return
        self._open = False
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._acceptor.close()
        self.members = ()
        self._behind.clear()
        self._laggard = None
        self._ended = asyncio.Event()
        self._closed = closed = asyncio.Event()
        try:
            for peer in list(self._peers.values()):
                if peer.parting is None:
                    peer.parting = self._time
                    self._part(peer)
            if self._peers:
                async with asyncio.timeout(_LINGER):
                    await self._ended.wait()
        except TimeoutError:
            pass  # some talk, and do not end
        finally:
            self._ended = None
            for peer in list(self._peers.values()):
                self._forget(peer)
            self._loop.remove_reader(self._ready.fileno())
            self._ready.close()
            self._closed = None
            closed.set()

    def _make_room(self) -> bool:
        """Let go of who is longest at its handshake, or at its end; False: all that are open are served."""
        # Else whoever connects and says nothing could keep everybody else out.
        for peer in self._peers.values():
            if not peer.ready:
                if peer.parting is None:
                    self.left(peer, "its place is wanted before its handshake is done", fault=True)
                self._forget(peer)
                return True
        return False

    def _admit(self, sock: socket.socket, address: object) -> None:
        origin = None
        if self._open and len(self._peers) >= self.options.max_peers and not self._make_room():
            self._warn("full", f"connection refused: {len(self._peers)} are open; see max-peers")
        elif self._open:
            origin = self._binding.admit(sock, address)
        if origin is None:
            self.stats.refused += 1
            reset(sock)
            return
        self.stats.accepted += 1
        try:
            peer = self._events.peer(sock, origin)
        except Exception as error:
            self._complain(origin, error)
            reset(sock)
            return
        self._take_in(peer)
        if self.tls is None:
            self._call(peer, peer.opened)

    # -- messages ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Find out which of those who are served have something to say, take more, or are gone."""
        self._look(0)

    def look_for_more(self) -> None:
        """Take those in who have connected already."""
        self._acceptor.take_waiting()
        self._look(_HANDSHAKES)

    def _look(self, handshakes: int) -> None:
        """Do what can be done in a turn, and so many steps of handshakes. Who has to wait stays ready."""
        due = self._due
        due.update(dict.fromkeys(self._ready.poll()))
        left = _TURN
        for fd in list(due):
            if left <= 0:
                break
            del due[fd]
            peer = self._peers.get(fd)
            if peer is None:
                continue
            if not peer.ready and peer.parting is None:
                if not handshakes:
                    continue
                handshakes -= 1
            try:
                left -= max(peer.attend(self._scratch), _COST)
            except Exception as error:
                self._fail(peer, error)

    def send(self, run: Batch, wire: bytes) -> None:
        """Send a batch, with its bytes in the framing, to all members."""
        first = self.sent
        self.sent += len(run)
        for peer in self.members:
            try:
                peer.take(first, run, wire)
            except Exception as error:
                self._fail(peer, error)

    def skip(self, count: int) -> None:
        """Count messages that are for nobody."""
        if self.members:
            self._coverage.ignore((self.sent, self.sent + count))
            for peer in self.members:
                peer.skip(self.sent, count)
        self.sent += count

    def written(self) -> int:
        """Return how many messages the kernel has, for each member that is to get them."""
        return min([self.sent, *[peer.written for peer in self._behind if peer.ready]])

    def confirmed(self) -> int:
        """Return how many messages have got as far as was asked for, with each member that is to get them."""
        laggard = self._laggard
        # As long as it has not moved, the others need not be asked.
        if laggard is None or not laggard.ready or self._ask(laggard) > self._confirmed:
            reached = self.sent
            self._laggard = None
            for peer in self.members:
                confirmed = self._ask(peer)
                if confirmed < reached:
                    reached, self._laggard = confirmed, peer
            self._confirmed = max(self._confirmed, reached)
        return self._confirmed

    def _ask(self, peer: Peer) -> int:
        try:
            return peer.confirmed()
        except Exception as error:
            self._fail(peer, error)
            return self.sent

    def note_reached(self) -> None:
        """Look inside batches that are under way: from now on, what got through of them counts."""
        for peer in self.members:
            peer.reached = self._reach(peer)

    def _reach(self, peer: Peer) -> int:
        try:
            return peer.reach()
        except Exception as error:
            self._complain(peer.origin, error)
            return peer.reached

    # -- what peers say: PeerHost ------------------------------------------------------------------

    def now(self) -> float:
        return self._time

    def progress(self, sock: socket.socket) -> Progress | None:
        return self._binding.progress(sock) if self._ack is Ack.KERNEL else None

    def watch(self, peer: Peer, pending: bool) -> None:
        if pending == (peer in self._behind) or peer.parting is not None:
            return
        if pending:
            self._behind.add(peer)
        else:
            self._behind.discard(peer)
        self._ready.watch(peer.socket.fileno(), write=pending)

    def joined(self, peer: Peer) -> None:
        peer.ready = True
        peer.first = peer.reached = self.sent
        peer.since = self._time
        self.stats.joined += 1
        self.members = (*self.members, peer)
        self._coverage.join(peer, self.sent)
        self._inform("joined", f"{peer.origin}: connected, as one of {len(self.members)}")

    def left(self, peer: Peer, reason: str = "", *, fault: bool = False) -> None:
        if peer.parting is not None:
            self._forget(peer)
            return
        peer.parting = self._time
        self.stats.evicted += fault
        missed = self._leave(peer) if peer.ready else 0
        lost = f"; it does not get {format_count(missed, 'message')}" if missed else ""
        if fault:
            self._warn("evicted", f"{peer.origin}: cut off: {reason}{lost}")
        else:
            said = f": {reason}" if reason else ""
            self._inform("left", f"{peer.origin}: gone{said}{lost}; {len(self.members)} are left")
        self._behind.discard(peer)
        self._part(peer)
        peer.ready = False
        self._events.moved()

    def _leave(self, peer: Peer) -> int:
        """Send nothing more to a member; return how many messages it does not get."""
        reached = self._reach(peer)
        missing = self._coverage.missing(peer, reached, self.sent)
        missed = sum([end - first for first, end in missing])
        self.stats.missed += missed
        self.members = tuple([one for one in self.members if one is not peer])
        for messages in self._coverage.leave(peer, reached, self.sent):
            self._events.lost(messages)
        return missed

    def lost(self, peer: Peer, dropped: Range) -> None:
        count = dropped[1] - dropped[0]
        self.stats.missed += count
        self._warn("missed", f"{peer.origin}: reads too slowly; {count:,} messages dropped (peer-overflow=)")
        for messages in self._coverage.lose(peer, dropped):
            self._events.lost(messages)

    def moved(self) -> None:
        self._events.moved()

    # -- their connections -------------------------------------------------------------------------

    def _take_in(self, peer: Peer) -> None:
        fd = peer.socket.fileno()
        self._peers[fd] = peer
        self._ready.add(fd)

    def _call(self, peer: Peer, method: Callable[..., None], *arguments: object) -> None:
        """Call what may be a protocol's own code; what it raises ends this peer's connection only."""
        try:
            method(*arguments)
        except Exception as error:
            self._fail(peer, error)

    def _fail(self, peer: Peer, error: Exception) -> None:
        self._complain(peer.origin, error)
        self.left(peer, f"{type(error).__name__} while serving it", fault=True)

    def _part(self, peer: Peer) -> None:
        """End a connection, or begin to wait for its end."""
        fd = peer.socket.fileno()
        if self._peers.pop(fd, None) is None:
            return
        self._ready.remove(fd)
        try:
            waits = peer.part()
        except Exception as error:
            self._complain(peer.origin, error)
            reset(peer.socket)
            waits = False
        if waits:
            self._take_in(peer)
        self._look_for_the_end()

    def _forget(self, peer: Peer) -> None:
        """Close a connection whose end was waited for."""
        fd = peer.socket.fileno()
        if self._peers.pop(fd, None) is not None:
            self._ready.remove(fd)
            peer.socket.close()
            self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if self._ended is not None and not self._peers:
            self._ended.set()

    # -- time, and what is logged ------------------------------------------------------------------

    def _sweep(self) -> None:
        """Cut off who took nothing for too long. What they could take by now they are given first."""
        self.look()
        now = self._loop.time()
        self._time += min(now - self._swept, 2 * self._interval)
        self._swept = now
        for peer in list(self._peers.values()):
            if peer.parting is not None:
                if self._time - peer.parting > _LINGER:
                    self._forget(peer)
            elif peer.ready:
                self._check_progress(peer)
            elif self._time - peer.since > self._handshake:
                limit = format_duration(self._handshake)
                self.left(peer, f"no handshake within {limit} (handshake-timeout=)", fault=True)
        self._coverage.settle(self._confirmed if self.confirms else self.written())
        self._sweeping = self._loop.call_later(self._interval, self._sweep)

    def _check_progress(self, peer: Peer) -> None:
        reached = self._reach(peer)
        if reached >= self.sent or reached > peer.reached:
            peer.reached, peer.since = reached, self._time
        elif self._time - peer.since > self._patience:
            limit = format_duration(self._patience)
            self.left(peer, f"it takes nothing: nothing moved for {limit} (peer-timeout=)", fault=True)

    def _complain(self, origin: str, error: Exception) -> None:
        """Log what a protocol's own code raised."""
        if self._limit.allow("fault", self._loop.time()) is not None:
            kind = type(error).__name__
            _log.error("%s: %s: %s while serving it", self._name, origin, kind, exc_info=error)

    def _warn(self, cause: str, text: str) -> None:
        self._say(logging.WARNING, cause, text)

    def _inform(self, cause: str, text: str) -> None:
        self._say(logging.INFO, cause, text)

    def _say(self, level: int, cause: str, text: str) -> None:
        left_out = self._limit.allow(cause, self._loop.time())
        if left_out is not None:
            more = f" (and {left_out} more like this)" if left_out else ""
            _log.log(level, "%s: %s%s", self._name, text, more)
