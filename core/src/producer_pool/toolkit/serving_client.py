"""A client for consumers that cannot listen: they connect to it, and each gets all that is sent meanwhile."""
# Rule: no peer makes another one wait. What one does not take is its own, bounded, and given up in time.

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError, ConnectError, ListenError, Rejected
from producer_pool.model.framing import Framing
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.outcomes import Ack
from producer_pool.model.text import format_duration
from producer_pool.toolkit.acceptor import Acceptor
from producer_pool.toolkit.binding import Binding
from producer_pool.toolkit.grouping import group
from producer_pool.toolkit.misfits import stream_misfits
from producer_pool.toolkit.progress import Progress
from producer_pool.toolkit.readiness import Readiness
from producer_pool.toolkit.serving_options import ServingOptions, ServingStats
from producer_pool.toolkit.serving_peer import Peer
from producer_pool.toolkit.sockets import reset
from producer_pool.toolkit.tls import ServerTls

__all__ = ["ServingClient"]

_log = logging.getLogger(__name__)

_TURN: Final = 4 * 1024 * 1024
"""Bytes sent in one turn of the loop, to all peers together, before others have theirs. Counted are"""
_COST: Final = 4 * 1024
"""at least so many for each send."""
_REJECTED: Final = 256
"""Messages that are reported as rejected in one turn."""
_LINGER: Final = 0.5
"""Seconds that closing waits for the end of peers that talk."""
_SCRATCH: Final = 64 * 1024


class ServingClient(PipelinedClient):
    """
    Sends framed messages to every consumer that is connected to it: one client, many peers.

    connect() listens. A peer gets every message that is started while it is connected, in order; what
    was sent before it came, or while it was away, it does not get. So:

    * A message is WRITTEN when every peer that was connected when it was started, and still is, has all
      its bytes in the kernel. Higher levels are reached when all of these peers have reached them.
    * Peers that went away, that were cut off, or whose own overflow dropped the message do not hold it
      back. They are counted in `stats`, and logged.
    * While fewer than ``min-peers`` are connected, messages are Rejected at once. With ``min-peers=0``
      they count as delivered, to nobody.

    What a peer's kernel does not take waits for that peer alone, up to ``peer-buffer``; then
    ``peer-overflow`` decides. One that takes nothing for ``peer-timeout`` is cut off: so nothing is held
    back for longer than that, and a dead peer is not taken for a dead client. A peer that is cut inside
    a frame sees a reset, and never half a message.

    Protocols in which peers introduce themselves or talk override peer(), and perhaps
    `handshake_timeout` and `acks`.
    """

    handshake_timeout: float = 10.0
    """Seconds that a peer has until it is ready: see Peer.join(). With TLS, that option's."""

    def __init__(
        self,
        binding: Binding,
        options: ServingOptions,
        *,
        framing: Framing,
        protocol_name: str,
        tls: ServerTls | None = None,
    ) -> None:
        options.check(binding.address)
        self.protocol_name = protocol_name
        self.address = binding.address
        """Where it listens, for people. After connect() with the port that it really has."""
        self.max_message = options.max_message
        self.framing = framing
        self.options = options
        self.tls = tls
        self.confirms = False
        if tls is not None:
            self.handshake_timeout = tls.timeout
        self.stats = ServingStats()
        self._binding = binding
        self._acceptor = Acceptor(binding, self._admit, self._complain)
        self._signals: ClientSignals | None = None
        self._peers: dict[int, Peer] = {}
        """All connections, by descriptor: also those that are not ready yet, or only have to end."""
        self._members: tuple[Peer, ...] = ()
        """Those that get messages."""
        self._behind: set[Peer] = set()
        """Members whose kernels have not taken all."""
        self._laggard: Peer | None = None
        """The member that was last seen to hold back what is confirmed."""
        self._open = False
        self._taken = self._confirmed = 0
        """Messages since connect()."""
        self._refusals: list[tuple[int, int, Rejected]] = []
        """Messages that are to be reported as rejected: the first, the one after the last, and why."""
        self._spent = 0
        """Bytes sent since others last had a turn."""
        self._last_settled = Settled(0, 0)
        self._telling: asyncio.Handle | None = None
        self._refusing: asyncio.Handle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._gone: asyncio.Event | None = None
        self._limit = LogLimit()
        self._scratch = memoryview(bytearray(_SCRATCH))

    @property
    def acks(self) -> frozenset[Ack]:
        return self._binding.acks

    @property
    def peers(self) -> int:
        return len(self._members)

    def peer(self, sock: socket.socket, origin: str) -> Peer:
        """Make what is kept of one connection. To be overridden by protocols with peers of their own."""
        return Peer(self, sock, origin)

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        return stream_misfits(batch, self.framing, self.max_message, self.protocol_name)

    # -- listening ---------------------------------------------------------------------------------

    def attach(self, signals: ClientSignals) -> None:
        self._signals = signals

    async def connect(self) -> None:
        await self.aclose()
        self._loop = asyncio.get_running_loop()
        self._last_settled = Settled(0, 0)
        self._taken = self._confirmed = self._spent = 0
        ack = Ack.WRITTEN if self._signals is None else self._signals.ack
        self.confirms = ack > Ack.WRITTEN
        self._kernel = ack is Ack.KERNEL
        self._stall = self.timeout / 2
        if self.options.peer_timeout is not None:
            self._stall = min(self._stall, self.options.peer_timeout)
        self._ready = Readiness()
        self._open = True
        try:
            endpoint = await self._acceptor.open()
        except BaseException as error:
            self._open = False
            self._ready.close()
            if isinstance(error, ListenError | ConfigurationError):
                raise ConnectError(str(error)) from None
            raise
        self.address = f"{endpoint.without(endpoint.options)}"
        self._loop.add_reader(self._ready.fileno(), self._turn)
        self._sweep_later()

    def _admit(self, sock: socket.socket, address: object) -> None:
        origin = None
        if not self._open:
            reset(sock)
            return
        if len(self._peers) >= self.options.max_peers:
            self._say("full", f"connection refused: {len(self._peers)} are open; see max-peers")
        else:
            origin = self._binding.admit(sock, address)
        if origin is None:
            self.stats.refused += 1
            reset(sock)
            return
        self.stats.accepted += 1
        peer = self.peer(sock, origin)
        self._watch_for_input(peer)
        if self.tls is None:
            self._contain(peer, peer.opened)

    # -- sending -----------------------------------------------------------------------------------

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        if not self._open:
            return 0
        if self._spent >= _TURN:
            # Also to a producer that would go on asking: what comes to a thousand peers is a thousandfold.
            self._spent = 0
            self.moved()
            return 0
        # Who has gone, or come, is known before each batch, as far as the kernel knows it.
        for fd in self._ready.poll():
            self._attend(fd)
        if len(self._members) < self.options.min_peers:
            self._acceptor.take_waiting()
            if len(self._members) < self.options.min_peers:
                return self._refuse(batches, offset)
        started = 0
        while started < len(batches) and self._spent < _TURN:
            together = group(batches, started)
            self._send(together, offset)
            started += len(together)
            offset = 0
        return started

    def _send(self, batches: Sequence[Batch], offset: int) -> None:
        """Send batches to all members, as one: encoded and joined once."""
        framing = self.framing
        run = batches[0]
        if len(batches) == 1 and not offset:
            wire = run.wire(framing)
        else:
            wire = b"".join(
                [batch.wire(framing, 0 if index else offset) for index, batch in enumerate(batches)]
            )
            run = Batch.from_wire(wire, framing, sum(map(len, batches)) - offset)
        self._taken += len(run)
        members = self._members
        self._spent += max(len(wire), _COST) * len(members)
        for peer in members:
            try:
                peer.take(run, wire)
            except Exception as error:
                self._fail(peer, error)

    def _refuse(self, batches: Sequence[Batch], offset: int) -> int:
        """Take *batches*, and report soon that there is nobody to send them to."""
        first = self._taken
        messages = sum(map(len, batches)) - offset
        self._taken += messages
        for peer in self._members:
            peer.skip(messages)
        if self._refusing is None:
            self._refusing = self._loop.call_soon(self._report_refused)
        count = len(self._members)
        few = f"only {count} {'is' if count == 1 else 'are'}" if count else "nobody is"
        reason = f"{self.address}: {few} connected; consumers connect to it, and get what is sent after that"
        self._refusals.append(
            (first, self._taken, Rejected(f"{reason} (min-peers={self.options.min_peers})"))
        )
        return len(batches)

    def _report_refused(self) -> None:
        self._refusing = None
        signals = self._signals
        first, end, error = self._refusals[0]
        stop = min(end, first + _REJECTED)
        for number in range(first, stop):
            if signals is not None:
                signals.rejected(number, error)
        if not self._refusals:
            return  # closed by one of them
        self._refusals[0] = (stop, end, error)
        if stop == end:
            del self._refusals[0]
        if self._refusals:
            self._refusing = self._loop.call_soon(self._report_refused)
        if signals is not None:
            signals.writable()

    def settled(self) -> Settled:
        if not self._open:
            return self._last_settled
        limit = self._refusals[0][0] if self._refusals else self._taken
        written = min([limit, *[peer.written for peer in self._behind if peer.ready]])
        if not self.confirms:
            return Settled(written, written)
        self._confirmed = max(self._confirmed, min(written, self._confirmed_by_all(limit)))
        return Settled(written, self._confirmed)

    def _confirmed_by_all(self, limit: int) -> int:
        laggard = self._laggard
        # As long as it has not moved, the others need not be asked.
        if laggard is not None and laggard.ready and self._ask(laggard) <= self._confirmed:
            return self._confirmed
        self._laggard = None
        for peer in self._members:
            confirmed = self._ask(peer)
            if confirmed < limit:
                limit, self._laggard = confirmed, peer
        return limit

    def _ask(self, peer: Peer) -> int:
        try:
            return peer.confirmed()
        except Exception as error:
            self._fail(peer, error)
            return self._taken

    def _reach(self, peer: Peer) -> int:
        try:
            return peer.reach()
        except Exception as error:
            self._complain_of(peer, error)
            return peer.reached

    # -- what peers say: PeerHost ------------------------------------------------------------------

    def now(self) -> float:
        return self._loop.time()

    def progress(self, sock: socket.socket) -> Progress | None:
        return self._binding.progress(sock) if self._kernel else None

    def watch(self, peer: Peer, pending: bool) -> None:
        if pending == (peer in self._behind) or peer.socket.fileno() < 0:
            return
        if pending:
            self._behind.add(peer)
        else:
            self._behind.discard(peer)
        self._ready.write_too(peer.socket.fileno(), pending)

    def joined(self, peer: Peer) -> None:
        peer.first = peer.reached = self._taken
        peer.since = self._loop.time()
        self.stats.joined += 1
        self._members = (*self._members, peer)
        self._tell("joined", f"{peer.origin}: connected; {len(self._members)} are")

    def left(self, peer: Peer, reason: str = "", *, fault: bool = False) -> None:
        if peer.parting is not None:
            self._forget(peer)
            return
        missed = self._taken - self._reach(peer) if peer.ready else 0
        self.stats.missed += missed
        self.stats.evicted += fault
        peer.parting = self._loop.time()
        self._members = tuple([one for one in self._members if one is not peer])
        self._behind.discard(peer)
        lost = f"; it does not get {missed} messages" if missed else ""
        if fault:
            self._say("evicted", f"{peer.origin}: cut off: {reason}{lost}")
        else:
            said = f": {reason}" if reason else ""
            self._tell("left", f"{peer.origin}: went away{said}{lost}; {len(self._members)} are left")
        self._part(peer)
        peer.ready = False
        self.moved()

    def missed(self, peer: Peer, count: int) -> None:
        self.stats.missed += count
        self._say("missed", f"{peer.origin}: reads too slowly; {count} messages dropped (peer-overflow=)")

    def moved(self) -> None:
        if self._telling is None and self._open:
            self._telling = self._loop.call_soon(self._tell_moved)

    def _tell_moved(self) -> None:
        self._telling = None
        if self._signals is not None and self._open:
            self._signals.writable()

    # -- their connections -------------------------------------------------------------------------

    def _watch_for_input(self, peer: Peer) -> None:
        fd = peer.socket.fileno()
        self._peers[fd] = peer
        self._ready.add(fd)

    def _turn(self) -> None:
        for fd in self._ready.poll():
            self._attend(fd)

    def _attend(self, fd: int) -> None:
        peer = self._peers.get(fd)
        if peer is not None:
            self._contain(peer, peer.attend, self._scratch)

    def _contain(self, peer: Peer, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:
            self._fail(peer, error)

    def _fail(self, peer: Peer, error: Exception) -> None:
        """Let go of a peer whose own code raised."""
        self._complain_of(peer, error)
        self.left(peer, f"{type(error).__name__} while serving it", fault=True)

    def _complain_of(self, peer: Peer, error: Exception) -> None:
        if self._limit.allow("fault", self._loop.time()) is not None:
            _log.error("%s: %s: %s while serving it", self.address, peer.origin, error, exc_info=error)

    def _part(self, peer: Peer) -> None:
        """End a connection, or wait for its end."""
        fd = peer.socket.fileno()
        if self._peers.pop(fd, None) is None:
            return
        self._ready.remove(fd)
        try:
            waits = peer.part()
        except Exception as error:
            self._complain_of(peer, error)
            waits = False
            reset(peer.socket)
        if waits:
            self._watch_for_input(peer)
        elif not self._peers and self._gone is not None:
            self._gone.set()

    def _forget(self, peer: Peer) -> None:
        """Close a connection whose end was waited for."""
        fd = peer.socket.fileno()
        if self._peers.pop(fd, None) is not None:
            self._ready.remove(fd)
            peer.socket.close()
        if not self._peers and self._gone is not None:
            self._gone.set()

    # -- time, and what is logged ------------------------------------------------------------------

    def _sweep_later(self) -> None:
        interval = min(self._stall, self.handshake_timeout, 4 * _LINGER) / 4
        self._sweeping = self._loop.call_later(interval, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        for peer in list(self._peers.values()):
            if peer.parting is not None:
                if now - peer.parting > _LINGER:
                    self._forget(peer)
            elif not peer.ready:
                if now - peer.since > self.handshake_timeout:
                    limit = format_duration(self.handshake_timeout)
                    self.left(peer, f"no handshake within {limit}; see handshake-timeout", fault=True)
            else:
                self._check_progress(peer, now)
        if self._behind:
            self.moved()
        self._sweep_later()

    def _check_progress(self, peer: Peer, now: float) -> None:
        reached = self._reach(peer)
        if reached == self._taken or reached > peer.reached:
            peer.reached, peer.since = reached, now
        elif now - peer.since > self._stall:
            limit = format_duration(self._stall)
            self.left(peer, f"accepts but does not read: nothing moved for {limit}", fault=True)

    def _say(self, cause: str, text: str) -> None:
        self._log_at(logging.WARNING, cause, text)

    def _tell(self, cause: str, text: str) -> None:
        self._log_at(logging.INFO, cause, text)

    def _log_at(self, level: int, cause: str, text: str) -> None:
        left_out = self._limit.allow(cause, self._loop.time())
        if left_out is not None:
            more = f" (and {left_out} more like this)" if left_out else ""
            _log.log(level, "%s: %s%s", self.address, text, more)

    def _complain(self, cause: str, text: str) -> None:
        self._say(cause, text)

    # -- the end -----------------------------------------------------------------------------------

    async def aclose(self) -> None:
        if not self._open:
            return
        for peer in self._behind:
            peer.reached = self._reach(peer)
        self._last_settled = self.settled()
        self._open = False
        for handle in (self._telling, self._refusing, self._sweeping):
            if handle is not None:
                handle.cancel()
        self._telling = self._refusing = self._sweeping = None
        self._refusals.clear()
        self._acceptor.close()
        self._members = ()
        self._behind.clear()
        self._laggard = None
        self._gone = asyncio.Event()
        try:
            for peer in list(self._peers.values()):
                if peer.parting is None:
                    peer.parting = self._loop.time()
                    self._part(peer)
            if self._peers:
                async with asyncio.timeout(_LINGER):
                    await self._gone.wait()
        except TimeoutError:
            pass  # some talk, and do not end
        finally:
            self._gone = None
            for peer in list(self._peers.values()):
                self._forget(peer)
            self._loop.remove_reader(self._ready.fileno())
            self._ready.close()
