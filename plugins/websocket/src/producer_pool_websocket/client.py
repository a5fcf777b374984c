"""The client: a handshake, then frames, and pings that ask how far they got."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from producer_pool.plugin import (
    Ack,
    Batch,
    ClientSignals,
    ClientTls,
    ConnectError,
    DeliveryError,
    Dialer,
    Dialogue,
    Progress,
    Rejected,
    SendError,
    StreamClient,
    StreamClientOptions,
)
from producer_pool_websocket.asking import Asking, Wish
from producer_pool_websocket.closing import NORMAL, close_frame
from producer_pool_websocket.compression import DEFLATED
from producer_pool_websocket.frames import (
    MASKED_BINARY,
    MASKED_TEXT,
    PING,
    PONG,
    Frames,
    control_frame,
)
from producer_pool_websocket.options import ClientOptions, Kind
from producer_pool_websocket.pongs import Pongs
from producer_pool_websocket.reading import FrameReader

__all__ = ["WebSocketClient"]

_PIECE: Final = 256 * 1024
"""Bytes of a large batch after which a ping asks how far it got: a slow consumer is seen to read."""


class WebSocketClient(StreamClient):
    """
    Sends each message as one websocket frame.

    Its level of PEER is that of a pong: see Pongs. What the consumer says in messages is skipped; its
    pings are answered, the last of several that wait.
    """

    def __init__(
        self,
        dialer: Dialer,
        options: ClientOptions,
        wish: Wish,
        *,
        protocol_name: str,
        tls: ClientTls | None = None,
    ) -> None:
        options.check_pings(dialer.address)
        self._plain = MASKED_TEXT if options.frames is Kind.TEXT else MASKED_BINARY
        super().__init__(
            dialer,
            StreamClientOptions(framing=self._plain, max_message=options.max_message),
            protocol_name=protocol_name,
            tls=tls,
        )
        self._wish = wish
        self._interval = options.ping_interval
        self._patience = options.ping_timeout
        self._relay: _Relay | None = None
        self._reader = FrameReader(None, masked=False)
        self._pongs = Pongs()
        self._ping: bytes | None = None
        """The consumer's last ping, as long as its answer cannot go out."""
        self._end = 0
        """The position behind the last message that was taken."""
        self._last_heard = 0.0
        self._pieces: Iterator[Batch] = iter(())
        self._piece: Batch | None = None
        """The next part of a batch that was taken, and does not go out as one."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def acks(self) -> frozenset[Ack]:
        return super().acks | {Ack.PEER}

    # -- connecting --------------------------------------------------------------------------------

    def attach(self, signals: ClientSignals) -> None:
        self._relay = _Relay(self, signals)
        super().attach(self._relay)

    async def greet(self, dialogue: Dialogue, timeout: float) -> bytes:
        asking = Asking(self._wish, self.address)
        rest: bytes | None = None
        try:
            async with asyncio.timeout(timeout):
                await dialogue.say(asking.request)
                while rest is None:
                    rest = asking.feed(await dialogue.hear())
        except TimeoutError:
            raise ConnectError(f"{self.address}: handshake: not done within {timeout:.3g} s") from None
        inflater = asking.inflater
        self._framing = self._plain if inflater is None else DEFLATED[self._plain]
        self._reader = FrameReader(None, masked=False, inflater=inflater)
        self._pongs = Pongs()
        self._ping = self._piece = None
        self._end = 0
        self._last_heard = self._loop.time()
        self.notes = self._relay is not None and self._relay.ack is Ack.PEER
        self._tick_later()
        return rest

    def progress(self, sock: socket.socket) -> Progress | None:
        return self._pongs if self.notes else super().progress(sock)

    # -- sending -----------------------------------------------------------------------------------

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        if self._has_pieces():
            return 0
        if not self.notes or all(batch.nbytes <= _PIECE for batch in batches):
            return super().start(batches, offset)
        started = 0
        for batch in batches:
            if not self._start_in_pieces(batch, offset):
                break
            started += 1
            offset = 0
            if self._has_pieces():
                break
        return started

    def _start_in_pieces(self, batch: Batch, offset: int) -> bool:
        """Take a batch, if its first part goes out now. The others follow as the consumer takes them."""
        framing = self._framing
        assert isinstance(framing, Frames)
        wire = batch.wire(framing, offset)
        pieces = (Batch.from_wire(wire[i:j], framing, n) for i, j, n in framing.cut(wire, _PIECE))
        first = next(pieces, None)
        if first is None:
            return super().start((batch,), offset) > 0
        if not super().start((first,)):
            return False
        self._pieces = pieces
        self._piece = next(pieces, None)
        self._go_on()
        return True

    def _has_pieces(self) -> bool:
        """Whether a batch was taken of which parts have to go out yet."""
        return self._piece is not None

    def _go_on(self) -> None:
        while self._piece is not None and super().start((self._piece,)):
            self._piece = next(self._pieces, None)

    def started(self) -> None:
        self._end = self.position
        if self._pongs.due(self._end):
            self._ask()

    def flushed(self) -> None:
        """Be told that the kernel has all that was taken or said."""
        if self._ping is not None and not self.pending:
            payload, self._ping = self._ping, None
            self.say(control_frame(PONG, payload, masked=True))
        self._go_on()

    def _ask(self) -> None:
        """Send a ping after all that was taken."""
        payload = self._pongs.ask(self.position, self._loop.time())
        self.say(control_frame(PING, payload, masked=True))

    # -- what the consumer says --------------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        reader = self._reader
        if reader.is_over():
            return
        self._last_heard = self._loop.time()
        reader.feed(data, len(data))
        pongs = reader.pongs
        if pongs:
            got_further = False
            for payload in pongs:
                got_further |= self._pongs.answered(payload)
            pongs.clear()
            if got_further and self.notes and self._relay is not None:
                if self._end > self._pongs.last and self._pongs.due(self.position):
                    self._ask()
                self._relay.got_further()
        if reader.ping is not None:
            self._ping, reader.ping = reader.ping, None
            self.flushed()
        if reader.closed is not None:
            self.say(close_frame(reader.closed.code, masked=True))
            self.fail(SendError(f"{self.address}: the consumer closed the connection: {reader.closed}"))
        elif reader.error is not None:
            self.say(close_frame(reader.code, masked=True))
            self.fail(SendError(f"{self.address}: the consumer broke a rule of websocket: {reader.error}"))

    def farewell(self) -> bytes:
        return close_frame(NORMAL, masked=True)

    # -- time --------------------------------------------------------------------------------------

    def _tick_later(self) -> None:
        self._stop_ticking()
        shortest = min(self._interval or self._patience, self._patience)
        self._timer = self._loop.call_later(shortest / 4, self._tick)

    def _stop_ticking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """Find out whether the consumer is there, if it says nothing."""
        now = self._loop.time()
        asked = self._pongs.since
        quiet = now - self._last_heard
        if asked is not None and min(now - asked, quiet) > self._patience:
            waited = f"{self._patience:.3g} s"
            self.fail(SendError(f"{self.address}: no answer to a ping within {waited}; see ping-timeout"))
            return
        if asked is None and self._interval and quiet > self._interval:
            self._ask()
        self._tick_later()

    def fail(self, error: DeliveryError) -> None:
        self._stop_ticking()
        super().fail(error)

    async def aclose(self) -> None:
        self._stop_ticking()
        await super().aclose()


class _Relay:
    """Passes on what the client says, and tells it what a Producer is told."""

    def __init__(self, client: WebSocketClient, signals: ClientSignals) -> None:
        self.ack = signals.ack
        self._client = client
        self._signals = signals

    def writable(self) -> None:
        self._client.flushed()
        self._signals.writable()

    def got_further(self) -> None:
        self._signals.writable()

    def broken(self, error: DeliveryError) -> None:
        self._signals.broken(error)

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        self._signals.rejected(number, error, count)
