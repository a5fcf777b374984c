"""One consumer that connected to us: what it gets, what waits for it, and how far its messages got."""
# Rule: a peer waits for nobody, and nobody for a peer. What its kernel does not take is kept here, up to a
# bound, and never ends or begins inside a frame.

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, Protocol

from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing
from producer_pool.model.text import format_size
from producer_pool.toolkit.serving.backlog import Backlog, Range
from producer_pool.toolkit.serving.options import PeerOverflow, ServingOptions
from producer_pool.toolkit.sockets.tcp import reset, why
from producer_pool.toolkit.streams.ledger import Ledger, same_plaintext
from producer_pool.toolkit.streams.progress import Progress
from producer_pool.toolkit.streams.tls_records import TlsError, whole_plaintext

if TYPE_CHECKING:
    from producer_pool.toolkit.streams.tls import ServerTls
    from producer_pool.toolkit.streams.tls_layer import TlsLayer

__all__ = ["Peer", "PeerHost"]

_MOST_UNSAID: Final = 64 * 1024
"""Bytes of what a protocol has to say that a peer may leave unread."""


class PeerHost(Protocol):
    """Who serves peers: what a peer has to know of it, and whom it tells."""

    framing: Framing
    options: ServingOptions
    tls: ServerTls | None
    confirms: bool
    """Whether a higher level than WRITTEN is asked for."""

    def now(self) -> float:
        """Return for how many seconds peers were looked after."""

    def progress(self, sock: socket.socket) -> Progress | None:
        """Return what tells how far a connection got, if that is asked for."""

    def watch(self, peer: Peer, pending: bool) -> None:
        """Be told that the kernel does not take all for a peer, or has taken it."""

    def joined(self, peer: Peer) -> None:
        """Be told that a peer is ready for messages."""

    def left(self, peer: Peer, reason: str = "", *, fault: bool = False) -> None:
        """Be told that a peer has to be let go of: because of *reason*, or because it went away itself."""

    def lost(self, peer: Peer, dropped: Range) -> None:
        """Be told which messages were dropped for one peer, because it reads too slowly."""

    def moved(self) -> None:
        """Be told that messages may have got further."""


class ServesPeers(Protocol):
    """A client that peers connect to."""

    @property
    def host(self) -> PeerHost:
        """What is told of them."""


class Peer:
    """
    One consumer that connected to a ServingClient.

    A protocol in which peers introduce themselves, or talk, subclasses it, and makes its own in
    ServingClient.peer(). Such a subclass calls join(), say(), leave() and moved(), and overrides of
    opened(), received(), sent(), acknowledged() and farewell() what it needs. An exception out of one
    of these ends the connection of this peer, and no other.
    """

    notes: bool = False
    """Whether sent() wants to be called."""

    def __init__(self, client: ServesPeers, sock: socket.socket, origin: str) -> None:
        host = client.host
        self.origin = origin
        """Who it is, for people."""
        self.socket = sock
        self.ready = False
        """Whether it gets messages."""
        self.heard = False
        """Whether it ever said anything."""
        self.parting: float | None = None
        """Since when it gets nothing more, and only has to end."""
        self.since = host.now()
        """When it connected, or its messages last got further, by the host's clock."""
        self.first = 0
        """The number of the first message that is for it, as all its messages counted by the client."""
        self.reached = 0
        """Messages that got as far as was asked for when last looked at."""
        self._host = host
        self._framing = host.framing
        self._layer = None if host.tls is None else host.tls.layer()
        inside = same_plaintext if self._layer is None else whole_plaintext
        self._confirms = host.confirms
        self._ledger = Ledger(host.framing, keeps=host.confirms, inside=inside)
        self._progress = host.progress(sock)
        self._send = sock.send if self._progress is None else self._progress.noted(sock.send)
        self._tail = memoryview(b"")
        """What the kernel did not take of the last that was begun. While it is empty, nothing waits."""
        self._unsaid = b""
        """What is said after that."""
        self._backlog = Backlog(host.framing)
        """Messages that follow."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.origin}>"

    # -- for protocols -----------------------------------------------------------------------------

    def opened(self) -> None:
        """Begin: the connection is there, and encrypted if it has to be. By default it join()s at once."""
        self.join()

    def received(self, data: memoryview) -> None:
        """Take what the peer said; valid during the call only. By default it is ignored."""

    def sent(self) -> None:
        """Be told, if `notes`, that the kernel has all messages that there are for it."""

    def acknowledged(self, total: int) -> int:
        """
        Return how many of the *total* bytes that the kernel took have reached the level asked for.

        Asked only for levels above WRITTEN. By default the kernel tells, for KERNEL. A protocol whose
        peers answer remembers `position` with each question, and returns that of the last one answered.
        """
        return self._progress.acknowledged(total) if self._progress is not None else 0

    def farewell(self) -> bytes:
        """Return what is said last, when the connection ends in good order and between two frames."""
        return b""

    def join(self) -> None:
        """Be served from now on: it gets every message that is started after this."""
        if not self.ready and self.parting is None:
            self._host.joined(self)

    def say(self, data: bytes) -> None:
        """Send *data*, which belongs to no message, after what was begun and before what waits."""
        self._interject(data if self._layer is None else self._layer.encrypt(data))

    def leave(self, reason: str, *, fault: bool = False) -> None:
        """
        End this connection in good order, because of *reason*: what was said and written still goes out.

        *fault* is whether the peer broke a rule; that is counted, and logged as a warning.
        """
        if self.parting is None:
            self._host.left(self, reason, fault=fault)

    def moved(self) -> None:
        """Say that acknowledged() returns more than it did."""
        self._host.moved()

    @property
    def position(self) -> int:
        """Bytes of its stream up to now: all that was begun or said, whether the kernel has it or not."""
        return self._ledger.position

    # -- messages ----------------------------------------------------------------------------------

    def take(self, first: int, run: Batch, wire: bytes) -> None:
        """Take a batch, with the number of its first message, and its bytes: send it, or let it wait."""
        if self._tail:
            self._keep(first, run)
        else:
            self._begin(run, wire)
            if self.notes and not self._tail and self.parting is None:
                self.sent()

    def skip(self, first: int, count: int) -> None:
        """Note that the next messages are for no peer at all."""
        if self._tail:
            self._backlog.leave_out(first, count)
        else:
            self._ledger.miss(count)

    def _begin(self, run: Batch, wire: bytes) -> None:
        """Send a batch that nothing waits before."""
        data = wire if self._layer is None else self._layer.encrypt(wire)
        sent = self._push(data)
        if sent < 0:
            return
        rest = len(data) - sent
        self._ledger.take(run, 0, len(data), rest)
        if rest:
            self._tail = memoryview(data)[sent:]
            self._host.watch(self, True)

    def _keep(self, first: int, run: Batch) -> None:
        """Let a batch wait, or do with it what the overflow says."""
        options = self._host.options
        backlog = self._backlog
        room = options.peer_buffer - self._unsent() - run.cost
        if backlog.cost > room:
            if options.peer_overflow is PeerOverflow.DISCONNECT:
                buffer = format_size(options.peer_buffer)
                reason = f"its buffer of {buffer} is full (peer-buffer=, peer-overflow=)"
                self._host.left(self, reason, fault=True)
                return
            if options.peer_overflow is PeerOverflow.DROP_OLDEST and room >= 0:
                for dropped in backlog.drop_oldest(room):
                    self._host.lost(self, dropped)
            if backlog.cost > room:
                backlog.leave_out(first, len(run))
                self._host.lost(self, (first, first + len(run)))
                return
        backlog.add(first, run)

    def _flush(self) -> None:
        """Go on with what waits, as far as the kernel takes it."""
        sent = self._push(self._tail)
        if sent < 0:
            return
        self._tail = self._tail[sent:]
        while not self._tail:
            self._ledger.flushed()
            if self._unsaid:
                data, self._unsaid = self._unsaid, b""
                sent = self._push(data)
                if sent < 0:
                    return
                self._tail = memoryview(data)[sent:]
            elif self._backlog:
                _, count, run = self._backlog.next()
                if run is None:
                    self._ledger.miss(count)
                else:
                    self._begin(run, run.wire(self._framing))
                    if self.parting is not None:
                        return
            else:
                self._host.watch(self, False)
                if self.notes:
                    self.sent()
                break
        self._host.moved()

    # -- how far it got ----------------------------------------------------------------------------

    @property
    def written(self) -> int:
        """Messages that the kernel has, or that are not for this peer. Of a batch that is under way, none."""
        return max(self.first + self._ledger.written, self.reached)

    def confirmed(self) -> int:
        """Return how many messages are acknowledged, or are not for this peer. By whole batches."""
        ledger = self._ledger
        if ledger.waits:
            ledger.advance(self.acknowledged(ledger.position - self._unsent()))
            if ledger.waits:
                return max(self.first + ledger.confirmed, self.reached)
        return self.first + ledger.taken

    def reach(self) -> int:
        """Return how many messages got as far as was asked for, those of a batch that is under way too."""
        ledger = self._ledger
        there = ledger.position - self._unsent()
        if self._confirms and ledger.waits:
            there = self.acknowledged(there)
            ledger.advance(there)
        return max(self.first + ledger.within(there), self.reached)

    # -- its socket --------------------------------------------------------------------------------

    def _unsent(self) -> int:
        return len(self._tail) + len(self._unsaid)

    def _push(self, data: bytes | memoryview) -> int:
        """Give the kernel as much of *data* as it takes, and return how much; -1: the connection broke."""
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._break(error)
            return -1
        return sent

    def _break(self, error: OSError) -> None:
        """Let the connection go: the system says that it broke."""
        if self._progress is not None:
            self._progress.failed()
        self._host.left(self, why(error))

    def _interject(self, data: bytes) -> None:
        """Send bytes that belong to no message, after all that was begun before."""
        if not data or self.parting is not None:
            return
        if self._tail:
            self._ledger.skip(len(data))
            self._unsaid += data
            if len(self._unsaid) > _MOST_UNSAID:
                self._host.left(self, "it does not read what it asks for", fault=True)
            return
        sent = self._push(data)
        if sent < 0:
            return
        self._ledger.skip(len(data))
        if sent < len(data):
            self._tail = memoryview(data)[sent:]
            self._host.watch(self, True)

    def attend(self, scratch: memoryview) -> int:
        """Do what can be done now: go on sending, and read once into *scratch*. Return how much was read."""
        if self._tail:
            self._flush()
        try:
            size = self.socket.recv_into(scratch)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._break(error)
            return 0
        if not size:
            self._host.left(self)
        elif self.parting is None:
            self.heard = True
            if self._layer is None:
                self.received(scratch[:size])
            else:
                self._decrypt(self._layer, scratch, size)
        return size

    def _decrypt(self, layer: TlsLayer, scratch: memoryview, size: int) -> None:
        """Take encrypted bytes. What TLS itself has to say to them is sent before this returns."""
        layer.receive(scratch[:size])
        try:
            if not layer.ready and layer.handshake():
                self._interject(layer.outgoing())
                self.opened()
            while layer.ready and self.parting is None and (size := layer.decrypt_into(scratch)):
                self.received(scratch[:size])
        except TlsError as error:
            self._interject(layer.outgoing())
            self._host.left(self, f"TLS: {error}", fault=True)
            return
        if layer.ended:
            self._host.left(self)
        else:
            self._interject(layer.outgoing())

    def part(self) -> bool:
        """
        End the connection in good order, or by a reset if that would be inside a frame.

        True: its end is to be waited for, because it talks, and closing at once would destroy what it
        has not read yet (RFC 2525, 2.17).
        """
        ledger = self._ledger
        there = ledger.position - self._unsent()
        # What is left of something said belongs to no message, and is no end either.
        if self._tail and (ledger.splits(there) or ledger.within(there) == ledger.taken):
            reset(self.socket)
            return False
        last = b"" if self._tail else self._last_words()
        self._tail, self._unsaid = memoryview(b""), b""
        self._backlog.clear()
        try:
            if last:
                self._send(last)
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is gone already
        else:
            if self.heard:
                return True
        self.socket.close()
        return False

    def _last_words(self) -> bytes:
        """Return what is said before the end, as far as the other side can understand it."""
        last = self.farewell() if self.ready else b""
        layer = self._layer
        if layer is None:
            return last
        return layer.encrypt(last) + layer.close() if layer.ready else b""
