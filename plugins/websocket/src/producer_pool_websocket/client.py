"""The client: a handshake, then frames, and pings that ask how far they got."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from producer_pool.plugin import (
    Ack,
    Batch,
    ClientTls,
    ConnectError,
    DeliveryError,
    Dialer,
    Dialogue,
    InvalidOption,
    Progress,
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
    PONG,
    control_frame,
)
from producer_pool_websocket.options import ClientOptions, Kind, PingOptions
from producer_pool_websocket.pulse import Pulse
from producer_pool_websocket.reading import FrameReader

__all__ = ["WebSocketClient"]

_BITE: Final = 16 * 1024
"""Bytes read in a turn, and of who floods us with tiny frames,"""
_SMALL_BITE: Final = 2 * 1024
"""so many: a thousand frames take a millisecond, in which others wait."""
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
        wish: Callable[[], Wish],
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
        wish()  # What cannot be asked for is an error now, and not at each attempt.
        self._pings: PingOptions = options
        self._reader = FrameReader(None, masked=False)
        self._pulse: Pulse | None = None
        self._ping: bytes | None = None
        """The consumer's last ping, as long as its answer cannot go out."""
        self._pieces: Iterator[Batch] = iter(())
        self._piece: Batch | None = None
        """The next part of a batch that was taken, and does not go out as one."""

    @property
    def acks(self) -> frozenset[Ack]:
        return super().acks | {Ack.PEER}

    # -- connecting --------------------------------------------------------------------------------

    async def greet(self, dialogue: Dialogue, timeout: float) -> bytes:
        try:
            # Its files are read anew: a token may be another one by now.
            asking = Asking(self._wish(), self.address)
        except InvalidOption as error:
            raise ConnectError(str(error)) from None
        rest: bytes | None = None
        try:
            async with asyncio.timeout(timeout):
                await dialogue.say(asking.request)
                while rest is None:
                    rest = asking.feed(await dialogue.hear())
        except TimeoutError:
            reason = f"not done within {timeout:.3g} s; does it speak websocket?"
            raise ConnectError(f"{self.address}: handshake: {reason}") from None
        inflater = asking.inflater
        self._framing = self._plain if inflater is None else DEFLATED[self._plain]
        self._reader = FrameReader(None, masked=False, inflater=inflater)
        self._ping = self._piece = None
        self.bite = _BITE
        self.notes = self._signals is not None and self._signals.ack is Ack.PEER
        self._pulse = Pulse(self, self._pings, asks=self.notes, masked=True)
        return rest

    def progress(self, sock: socket.socket) -> Progress | None:
        return self._pulse.pongs if self.notes and self._pulse is not None else super().progress(sock)

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
        if offset:
            batch = Batch.from_wire(batch.wire(framing, offset), framing, len(batch) - offset)
        pieces = iter(batch.pieces(framing, _PIECE))
        first = next(pieces, None)
        if first is None:
            return super().start((batch,)) > 0
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
        if self._pulse is not None:
            self._pulse.follow_up()

    def flushed(self) -> None:
        if self._ping is not None and not self.pending:
            payload, self._ping = self._ping, None
            self.say(control_frame(PONG, payload, masked=True))
        self._go_on()

    # -- what the consumer says --------------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        reader = self._reader
        pulse = self._pulse
        if pulse is None or reader.is_over():
            return
        pulse.heard()
        reader.feed(data, len(data))
        if reader.floods:
            self.bite = _SMALL_BITE
        if reader.pongs:
            if pulse.answered(reader.pongs) and self._signals is not None:
                self._signals.writable()
            reader.pongs.clear()
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

    def silent(self, reason: str) -> None:
        """Give up: the consumer does not answer."""
        self.fail(SendError(f"{self.address}: {reason}"))

    def fail(self, error: DeliveryError) -> None:
        self._stop_pinging()
        super().fail(error)

    async def aclose(self) -> None:
        self._stop_pinging()
        await super().aclose()

    def _stop_pinging(self) -> None:
        if self._pulse is not None:
            self._pulse.stop()
