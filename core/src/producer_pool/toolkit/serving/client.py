"""A client for consumers that cannot listen: they connect to it, and each gets all that is sent meanwhile."""

from __future__ import annotations

import asyncio
import socket
from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError, ConnectError, ListenError, Rejected
from producer_pool.model.framing import Framing
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import BATCH_OVERHEAD
from producer_pool.toolkit.serving.audience import Audience
from producer_pool.toolkit.serving.backlog import Range
from producer_pool.toolkit.serving.options import ServingOptions, ServingStats
from producer_pool.toolkit.serving.peer import Peer, PeerHost
from producer_pool.toolkit.sockets.binding import Binding
from producer_pool.toolkit.streams.grouping import group
from producer_pool.toolkit.streams.misfits import stream_misfits

if TYPE_CHECKING:
    from producer_pool.toolkit.streams.tls import ServerTls

__all__ = ["ServingClient"]

_TURN: Final = 4 * 1024 * 1024
"""Bytes sent in one turn of the loop, to all peers together, before others have theirs. Counted are"""
_COST: Final = 4 * 1024
"""at least so many for each send."""
_PIECE: Final = 256 * 1024
"""A batch with more bytes goes out in pieces: a peer may keep, and encrypts, a piece at a time."""


class _Refusal(NamedTuple):
    """Messages that are to be reported as rejected."""

    first: int
    end: int
    error: Rejected


class ServingClient(PipelinedClient):
    """
    Sends framed messages to every consumer that is connected to it: one client, many peers.

    connect() listens. A peer gets every message that is started while it is connected, in order; what
    was sent before it came, or while it was away, it does not get. So:

    * A message is WRITTEN when every peer that was connected when it was started, and still is, has all
      its bytes in the kernel. Higher levels are reached when all of these peers have reached them.
    * Peers that went away, that were cut off, or whose own overflow dropped the message do not hold it
      back. They are counted in `stats`, and logged. If for these reasons nobody gets it, it is Rejected.
    * While fewer than ``min-peers`` are connected, messages are Rejected at once. With ``min-peers=0``
      no message is Rejected: it counts as delivered, if need be to nobody.

    What a peer's kernel does not take waits for that peer alone, up to ``peer-buffer``; then
    ``peer-overflow`` decides. One that takes nothing for ``peer-timeout`` is cut off: so nothing is held
    back for longer than that, and a dead peer is not taken for a dead client. A peer that is cut off
    inside a frame sees a reset, and never half a message.

    Protocols in which peers introduce themselves or talk override peer(), and perhaps
    `handshake_timeout` and `acks`.
    """

    handshake_timeout: float = 10.0
    """Seconds that a peer has until it is ready: see Peer.join(). With TLS, what its option says."""

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
        # From connect() it would be an error that is tried again, for as long as it takes.
        binding.check_now()
        self.protocol_name = protocol_name
        self.address = binding.address
        """Where it listens, for people; after connect() with the port that it really has."""
        self.max_message = options.max_message
        if tls is not None:
            self.handshake_timeout = tls.timeout
        self._framing = framing
        self._options = options
        self._acks = binding.acks
        self._audience = Audience(binding, options, self, framing=framing, tls=tls)
        self._piece = min(_PIECE, options.peer_buffer)
        self._signals: ClientSignals | None = None
        self._open = False
        self._refusals: list[_Refusal] = []
        """In the order of their messages. Until they are reported, nothing behind them is settled."""
        self._refused: Rejected | None = None
        """Why messages are refused, if some were in this turn of the loop."""
        self._spent = 0
        """Bytes sent since others last had a turn."""
        self._last_settled = Settled(0, 0)
        self._written = 0
        """What was told of that: it may have got no further at a peer that left, but was written."""
        self._telling: asyncio.Handle | None = None

    @property
    def acks(self) -> frozenset[Ack]:
        return self._acks

    @property
    def peers(self) -> int:
        return len(self._audience.members)

    @property
    def stats(self) -> ServingStats:
        """What is counted of its peers."""
        return self._audience.stats

    @property
    def host(self) -> PeerHost:
        """What its peers are given."""
        return self._audience

    def peer(self, sock: socket.socket, origin: str) -> Peer:
        """Make what is kept of one connection. To be overridden by protocols with peers of their own."""
        return Peer(self, sock, origin)

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        return stream_misfits(batch, self._framing, self.max_message, self.protocol_name)

    # -- listening ---------------------------------------------------------------------------------

    def attach(self, signals: ClientSignals) -> None:
        self._signals = signals

    async def connect(self) -> None:
        await self.aclose()
        self._loop = asyncio.get_running_loop()
        self._last_settled = Settled(0, 0)
        self._spent = self._written = 0
        ack = Ack.WRITTEN if self._signals is None else self._signals.ack
        patience = self.timeout / 2
        if self._options.peer_timeout is not None:
            patience = min(patience, self._options.peer_timeout)
        try:
            endpoint = await self._audience.open(ack, patience=patience, handshake=self.handshake_timeout)
        except (ListenError, ConfigurationError) as error:
            raise ConnectError(str(error)) from None
        self.address = f"{endpoint.without(endpoint.options)}"
        self._open = True

    async def aclose(self) -> None:
        if not self._open:
            await self._audience.aclose()
            return
        self._audience.note_reached()
        self._last_settled = self.settled()
        self._open = False
        if self._telling is not None:
            self._telling.cancel()
            self._telling = self._refused = None
        self._refusals.clear()
        await self._audience.aclose()

    # -- sending -----------------------------------------------------------------------------------

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        if not self._open:
            return 0
        if self._spent >= _TURN:
            # What is little for one peer is a thousandfold for a thousand.
            self._spent = 0
            self.moved()
            return 0
        audience = self._audience
        # Who is gone, or takes more, is known before each batch, as far as the kernel knows it.
        audience.look()
        least = self._options.min_peers
        if len(audience.members) < least:
            # Once in a turn: it fails, and that takes its time.
            if self._refused is None:
                audience.look_for_more()
            if len(audience.members) < least:
                self._refuse(sum(map(len, batches)) - offset)
                return len(batches)
        started = 0
        while started < len(batches) and self._spent < _TURN:
            together = group(batches, started)
            for run, wire in self._runs(together, offset):
                members = len(audience.members)
                if members < least:  # they may go at any time
                    self._refuse(len(run))
                else:
                    self._spent += max(len(wire), _COST) * members
                    audience.send(run, wire)
            started += len(together)
            offset = 0
        return started

    def _runs(self, batches: Sequence[Batch], offset: int) -> Iterator[tuple[Batch, bytes]]:
        """Yield *batches* as they go out, with their bytes: joined, or in pieces, once for all peers."""
        framing = self._framing
        first = batches[0]
        count = sum(map(len, batches)) - offset
        wire = first.wire(framing, offset)
        if len(batches) > 1:
            wire = b"".join([wire, *[batch.wire(framing) for batch in batches[1:]]])
        if len(wire) <= self._piece or count < 2:
            # What is kept for a peer are these bytes, however many messages they came as.
            same = len(batches) == 1 and first.cost <= len(wire) + BATCH_OVERHEAD
            yield (first if same else Batch.from_wire(wire, framing, count)), wire
            return
        for piece, number in framing.cut(wire, self._piece):
            yield Batch.from_wire(piece, framing, number), piece

    def _refuse(self, count: int) -> None:
        """Take messages, and report soon that there is nobody to send them to."""
        if not count:
            return
        first = self._audience.sent
        self._audience.skip(count)
        if self._refused is None:
            members = self.peers
            few = f"only {members} {'is' if members == 1 else 'are'}" if members else "nobody is"
            self._refused = Rejected(
                f"{self.address}: {few} connected (min-peers={self._options.min_peers}); "
                "consumers connect to it, and get what is sent after that"
            )
        last = self._refusals[-1] if self._refusals else None
        if last is not None and last.end == first and last.error is self._refused:
            first = self._refusals.pop().first
        self._report((first, self._audience.sent), self._refused)

    def _report(self, messages: Range, error: Rejected) -> None:
        insort(self._refusals, _Refusal(*messages, error))
        self.moved()

    def settled(self) -> Settled:
        if not self._open:
            return self._last_settled
        audience = self._audience
        reported = self._refusals[0].first if self._refusals else audience.sent
        self._written = written = max(self._written, min(audience.written(), reported))
        if not audience.confirms:
            return Settled(written, written)
        return Settled(written, min(written, reported, audience.confirmed()))

    # -- what its audience says --------------------------------------------------------------------

    def moved(self) -> None:
        if self._telling is None and self._open:
            self._telling = self._loop.call_soon(self._tell)

    def lost(self, messages: Range) -> None:
        if self._options.min_peers:
            why = "those who were connected went away, or were too slow for it; it may have arrived"
            self._report(messages, Rejected(f"{self.address}: {why}"))

    def _tell(self) -> None:
        """Report what was refused, and that there may be news. Not inside of start()."""
        self._telling = self._refused = None
        signals = self._signals
        if signals is None:
            self._refusals.clear()
            return
        while self._refusals and self._open:
            # They count as settled only after that.
            first, end, error = self._refusals[0]
            signals.rejected(first, error, end - first)
            if self._refusals:
                del self._refusals[0]
        if self._open:
            signals.writable()
