"""A client for protocols over stream sockets: one send a batch, and a count of how far the messages got."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from producer_pool.contract.options import Size, option
from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.contract.stream import INTERRUPTED, Stream
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, InvalidOption, Rejected, SendError
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.framing import LINES, Framing
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets.forks import keep_from_children
from producer_pool.toolkit.sockets.tcp import Dialer, Ending, has_ended, part, reset, why
from producer_pool.toolkit.streams.grouping import group
from producer_pool.toolkit.streams.handshake import Dialogue, bid_farewell, shake_hands
from producer_pool.toolkit.streams.ledger import Ledger, same_plaintext
from producer_pool.toolkit.streams.misfits import NO_MISFITS, stream_misfits
from producer_pool.toolkit.streams.plainstream import POSSIBLE, PlainStream
from producer_pool.toolkit.streams.progress import Progress
from producer_pool.toolkit.streams.scratch import SCRATCH, scratch
from producer_pool.toolkit.streams.tls_records import TlsError, whole_plaintext

if TYPE_CHECKING:
    from producer_pool.toolkit.streams.tls import ClientTls
    from producer_pool.toolkit.streams.tls_layer import TlsLayer

__all__ = ["StreamClient", "StreamClientOptions"]

_log = logging.getLogger(__name__)

_READS: Final = 4
"""Reads of what a consumer says, in one turn of the loop."""
_LINGER: Final = 0.5
"""Seconds that closing waits for the end of a consumer, if that talks, or may have something unread."""
_GONE: Final = getattr(select, "POLLRDHUP", select.POLLIN) | select.POLLHUP | select.POLLERR
_OF_TIMEOUT: Final = 0.95
"""Of the time for an attempt: so that this client says what took too long, before its Producer does."""


@dataclass(frozen=True, eq=False, repr=False)
class StreamClientOptions(Fieldwise):
    """The options of every client that writes framed messages into a stream."""

    framing: Framing = option(LINES, "how messages are marked off")
    max_message: Size = option(1024 * 1024, "longer messages are rejected; most listeners have a limit, too")


class StreamClient(PipelinedClient):
    """
    Sends framed messages over one stream socket, as many in flight as the kernel takes.

    Counts whole batches as long as they move on, and messages inside one when they do not, or when
    the connection broke: so a slow consumer is seen to read, and little is sent twice.

    What a consumer says is read and thrown away. One that ends its side of the connection has closed
    it, as far as we are concerned.
    """

    notes: bool = False
    """Whether started() wants to be called."""
    bite: int = 0
    """Bytes that are read in a turn, where a little of what a consumer says may make much work; 0: all."""
    _inside: bool = True
    """Whether settled() counts messages inside a batch."""

    def __init__(
        self,
        dialer: Dialer,
        options: StreamClientOptions,
        *,
        protocol_name: str,
        tls: ClientTls | None = None,
    ) -> None:
        if options.max_message < 1:
            raise InvalidOption(f"{dialer.address}: max-message must be at least 1 byte")
        self.protocol_name = protocol_name
        self.address = dialer.address
        self.max_message = options.max_message
        self._dialer = dialer
        self._tls = tls
        self._layer: TlsLayer | None = None
        self._framing = options.framing
        self._signals: ClientSignals | None = None
        self._socket: socket.socket | None = None
        self._open = False
        """Whether start() may send: connected, not broken, nothing partly written."""
        self._lost: DeliveryError | None = None
        self._torn = False
        """Whether nobody knows how much of what was sent last the kernel has: it may end inside a frame."""
        self._heard = False
        self._tail = memoryview(b"")
        self._ledger = Ledger(options.framing, keeps=False)
        self._progress: Progress | None = None
        self._last_settled = Settled(0, 0)

    @property
    def acks(self) -> frozenset[Ack]:
        return self._dialer.acks

    # -- what is asked before anything is sent -----------------------------------------------------

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        limit = self.max_message
        if limit is not None and batch.nbytes <= limit and not batch.misfits(self._framing):
            return NO_MISFITS
        return stream_misfits(batch, self._framing, limit, self.protocol_name)

    # -- connecting --------------------------------------------------------------------------------

    def attach(self, signals: ClientSignals) -> None:
        self._signals = signals

    async def connect(self) -> None:
        await self.aclose()
        self._last_settled = Settled(0, 0)
        self._loop = asyncio.get_running_loop()
        timeout = self.timeout * _OF_TIMEOUT
        end = self._loop.time() + timeout
        try:
            sock = await self._dialer.dial(timeout)
            keep_from_children(sock)
        except OSError as error:
            raise ConnectError(f"{self.address}: {why(error)}") from None
        try:
            layer = None
            if self._tls is not None:
                left = end - self._loop.time()
                layer = await shake_hands(sock, self._tls, address=self.address, timeout=left)
            dialogue = Dialogue(sock, layer, address=self.address)
            early = await self.greet(dialogue, end - self._loop.time())
        except BaseException:
            sock.close()
            raise
        self._begin(sock, layer)
        self._heard = dialogue.heard
        if early:
            self.received(memoryview(early))
        if layer is not None and self._heard:
            self._decrypt(layer, scratch(), 0)

    def _begin(self, sock: socket.socket, layer: TlsLayer | None) -> None:
        self._socket = sock
        self._layer = layer
        poller = select.poll()
        poller.register(sock, _GONE)
        self._gone = poller.poll
        confirms = self._signals is not None and self._signals.ack > Ack.WRITTEN
        self._progress = progress = self.progress(sock) if confirms else None
        self._send = sock.send if progress is None else progress.noted(sock.send)
        inside = same_plaintext if layer is None else whole_plaintext
        self._ledger = Ledger(self._framing, keeps=self._progress is not None, inside=inside)
        self._lost = None
        self._torn = self._heard = False
        self._tail = memoryview(b"")
        self._watching = False
        self._open = True
        self._loop.add_reader(sock, self._readable)

    # -- sending -----------------------------------------------------------------------------------

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        # The first write after the other side's FIN succeeds, and is lost. So ask before each.
        if not self._open or (self._gone(0) and has_ended(self._socket)):
            return 0
        try:
            if len(batches) == 1 and self._layer is None:
                taken = self._start_one(batches[0], offset)
                if taken and self.notes:
                    self.started()
                return taken
            started = 0
            while started < len(batches) and self._open:
                together = group(batches, started)
                if self._layer is not None:
                    taken = self._start_encrypted(together, offset, self._layer)
                elif len(together) == 1:
                    taken = self._start_one(together[0], offset)
                else:
                    taken = self._start_joined(together, offset)
                started += taken
                offset = 0
                if taken and self.notes:
                    self.started()
                if taken < len(together):
                    break
            return started
        except BaseException:
            self._broke(INTERRUPTED)
            raise

    def _start_one(self, batch: Batch, offset: int) -> int:
        wire = batch.wire(self._framing, offset)
        size = len(wire)
        sent = self._push(wire)
        if sent == size:
            self._ledger.take(batch, offset, size, 0)
            return 1
        if sent <= 0:
            return 0
        self._ledger.take(batch, offset, size, size - sent)
        self._keep(memoryview(wire)[sent:])
        return 1

    def _start_joined(self, batches: Sequence[Batch], offset: int) -> int:
        framing = self._framing
        wires = [batch.wire(framing) for batch in batches]
        if offset:
            wires[0] = batches[0].wire(framing, offset)
        sent = self._push(b"".join(wires))
        if sent < 0:
            return 0
        for index, (batch, wire) in enumerate(zip(batches, wires, strict=True)):
            size = len(wire)
            if size > sent:
                if not sent:
                    return index
                self._ledger.take(batch, offset, size, size - sent)
                self._keep(memoryview(wire)[sent:])
                return index + 1
            self._ledger.take(batch, offset, size, 0)
            sent -= size
            offset = 0
        return len(batches)

    def _start_encrypted(self, batches: Sequence[Batch], offset: int, layer: TlsLayer) -> int:
        """Take all of *batches*: once encrypted, they have their place in the stream, sent or not."""
        framing = self._framing
        data = [layer.outgoing()]
        for batch in batches:
            data.append(layer.encrypt(batch.wire(framing, 0 if len(data) > 1 else offset)))
        stream = b"".join(data)
        sent = self._push(stream)
        if sent < 0:
            return 0
        position = len(data[0])
        self._ledger.skip(position)
        for batch, encrypted in zip(batches, data[1:], strict=True):
            position += len(encrypted)
            self._ledger.take(batch, offset, len(encrypted), max(0, position - sent))
            offset = 0
        if sent < len(stream):
            self._keep(memoryview(stream)[sent:])
        return len(batches)

    def _push(self, wire: bytes | memoryview) -> int:
        """Give the kernel as much of *wire* as it takes, and return how much; -1: the connection broke."""
        try:
            sent = self._send(wire)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._broke(error)
            return -1
        if sent < len(wire):
            self._await_room()
        return sent

    def _await_room(self) -> None:
        if not self._watching and self._socket is not None:
            self._watching = True
            self._loop.add_writer(self._socket, self._writable)

    def _broke(self, error: OSError) -> None:
        """Take no more, and tell that soon: never inside start()."""
        self._open = False
        self._torn = self._torn or error is INTERRUPTED
        self._note_failure()
        self._loop.call_soon(self._break_with, self._socket, error)

    def _keep(self, rest: memoryview) -> None:
        self._tail = rest
        self._open = False

    def _plain_stream(self) -> Stream | None:
        """Return its stream(), if to take a batch is no more than to send it. For who has nothing to add."""
        sock = self._socket
        if sock is None or self._layer is not None or not POSSIBLE:
            return None
        return PlainStream(sock, self._framing, self._ledger, self._progress, self._keep_rest, self._broke)

    def _keep_rest(self, wire: bytes, sent: int) -> None:
        self._keep(memoryview(wire)[sent:])
        self._await_room()

    def _writable(self) -> None:
        if self._socket is None or self._lost is not None:
            return
        if self._tail:
            try:
                sent = self._push(self._tail)
                if sent < 0:
                    return
                self._tail = self._tail[sent:]
            except BaseException:
                self._broke(INTERRUPTED)
                raise
            if self._tail:
                return
            self._ledger.flushed()
            self._open = True
        self._watching = False
        self._loop.remove_writer(self._socket)
        self.flushed()
        if self._signals is not None:
            self._signals.writable()

    def settled(self) -> Settled:
        ledger = self._ledger
        progress = self._progress
        if self._socket is None:
            return self._last_settled
        sent = ledger.position - len(self._tail)
        written = ledger.within(sent) if self._tail else ledger.written
        if progress is None:
            return Settled(written, written)
        if ledger.waits:
            acknowledged = progress.acknowledged(sent)
            if (not ledger.advance(acknowledged) and self._inside) or self._lost is not None:
                return Settled(written, ledger.within(acknowledged))
        return Settled(written, ledger.confirmed)

    def settled_batches(self) -> Settled:
        # By way of settled(), which others override.
        self._inside = False
        try:
            return self.settled()
        finally:
            self._inside = True

    # -- for protocols in which both sides talk ----------------------------------------------------

    async def greet(self, dialogue: Dialogue, timeout: float) -> bytes:
        """
        Agree with the consumer on what there is to agree on before the first message.

        To be overridden, and to be done within *timeout* seconds. What the consumer said beyond that is
        returned, and will be received().

        Raises:
            ConnectError: it does not agree.
        """
        return b""

    def progress(self, sock: socket.socket) -> Progress | None:
        """Return what tells how far this connection gets. Called if more than WRITTEN is asked for."""
        return self._dialer.progress(sock)

    def started(self) -> None:
        """Be told, if `notes`, that 64 KiB of batches, or a larger one, were taken. say() may follow."""

    def flushed(self) -> None:
        """Be told that the kernel takes bytes again, and has all that was taken or said. say() may follow."""

    @property
    def position(self) -> int:
        """Bytes of its stream up to now: all that was taken or said, whether the kernel has it or not."""
        return self._ledger.position

    @property
    def pending(self) -> bool:
        """Whether the kernel has not taken all of that."""
        return bool(self._tail)

    def farewell(self) -> bytes:
        """Return what tells the consumer that nothing follows. Asked between two frames, for a good end."""
        return b""

    def received(self, data: memoryview) -> None:
        """Take what the consumer said; valid during the call only. To be overridden: here it is ignored."""

    def say(self, data: bytes) -> None:
        """Send *data*, which belongs to no message, after the last batch that was taken."""
        if self._socket is not None and self._lost is None:
            self._interject(
                data if self._layer is None else self._layer.outgoing() + self._layer.encrypt(data)
            )

    # -- listening to the other side, and ending ---------------------------------------------------

    def _readable(self) -> None:
        sock = self._socket
        into = scratch()
        for _ in range(_READS):
            if sock is None or sock is not self._socket or self._lost is not None:
                return
            try:
                size = sock.recv_into(into, self.bite)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._note_failure()
                self._break_with(sock, error)
                return
            if not size:
                self.fail(SendError(f"{self.address}: the consumer closed the connection"))
                return
            self._heard = True
            if self._layer is None:
                self.received(into[:size])
            else:
                self._decrypt(self._layer, into, size)
            if size < SCRATCH:
                return

    def _decrypt(self, layer: TlsLayer, into: memoryview, size: int) -> None:
        layer.receive(into[:size])
        try:
            while size := layer.decrypt_into(into):
                self.received(into[:size])
        except TlsError as error:
            self.fail(SendError(f"{self.address}: TLS: {error}"))
            return
        if layer.ended:
            self.fail(SendError(f"{self.address}: the consumer closed the connection"))
            return
        self._interject(layer.outgoing())

    def _interject(self, data: bytes) -> None:
        """Send bytes that belong to no message, after all that was taken before."""
        if not data:
            return
        try:
            sent = 0 if self._tail else max(0, self._push(data))
            self._ledger.skip(len(data))
            if self._tail or sent < len(data):
                self._keep(memoryview(bytes(self._tail) + data[sent:]))
        except BaseException:
            self._broke(INTERRUPTED)
            raise

    def _note_failure(self) -> None:
        if self._progress is not None:
            self._progress.failed()

    def _break_with(self, sock: socket.socket | None, error: OSError) -> None:
        if sock is self._socket:
            self.fail(SendError(f"{self.address}: {why(error)}"))

    def fail(self, error: DeliveryError) -> None:
        """Tell that the connection is gone; the socket stays open, so that settled() can still ask it."""
        if self._socket is None or self._lost is not None:
            return
        self._lost = error
        self._open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if self._signals is not None:
            self._signals.broken(error)

    async def aclose(self) -> None:
        sock = self._socket
        if sock is None:
            return
        self._last_settled = self.settled()
        ledger = self._ledger
        inside = bool(self._tail) and ledger.splits(ledger.position - len(self._tail))
        lost = self._lost is not None
        may_be_unread = not lost and self._may_be_unread()
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._open = False
        self._socket = None
        if inside or self._torn:
            reset(sock)
        elif lost:
            sock.close()
        else:
            if not self._tail:
                bid_farewell(sock, self._layer, self.farewell())
            ending = await part(sock, _LINGER if self._heard or may_be_unread else 0.0)
            if may_be_unread and ending is Ending.RESET:
                _log.warning(
                    "%s: the consumer closed its last connection before it had read everything: what its "
                    "kernel had acknowledged is lost; use ack=app if it can acknowledge itself",
                    self.address,
                )

    def _may_be_unread(self) -> bool:
        """Whether all messages count as delivered, though only a kernel has spoken for the consumer."""
        progress = self._progress
        if progress is None or progress.read or self._signals is None or self._signals.ack is not Ack.KERNEL:
            return False
        return 0 < self._ledger.taken == self._last_settled.confirmed
