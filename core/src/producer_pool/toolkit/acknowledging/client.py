"""A stream client whose consumer can be asked to acknowledge what it has: the level of APP."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from producer_pool.contract.ports import Settled
from producer_pool.contract.stream import Stream
from producer_pool.model.errors import DeliveryError, FramingError, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.model.text import format_count
from producer_pool.toolkit.acknowledging.answers import AnswerReader
from producer_pool.toolkit.streams.client import StreamClient
from producer_pool.toolkit.streams.progress import Progress

__all__ = ["AcknowledgedClient"]

_BITE: Final = 4 * 1024
"""Bytes of answers that are read in a turn: two thousand of the shortest take half a millisecond."""
_LAST_BITES: Final = 16
"""So many of these are looked through after the connection broke, for what was answered before."""


class AcknowledgedClient(StreamClient):
    """
    A StreamClient that can be asked for APP, too.

    Then the consumer answers, in the framing of the connection, how many messages it has taken since
    the connection began; confirmed is what it answered. An answer that cannot be true ends the
    connection. With any other level, what it says is thrown away.
    """

    _answers: AnswerReader | None = None
    """None: it is not asked for answers."""
    _answered = 0
    _heard_at: float | None = None

    @property
    def acks(self) -> frozenset[Ack]:
        return super().acks | {Ack.APP}

    async def connect(self) -> None:
        await self.aclose()
        asked = self._signals is not None and self._signals.ack is Ack.APP
        self._answers = AnswerReader(self._framing) if asked else None
        self._answered = 0
        self._heard_at = None
        self.bite = _BITE if asked else 0
        await super().connect()

    def progress(self, sock: socket.socket) -> Progress | None:
        return super().progress(sock) if self._answers is None else None

    def stream(self) -> Stream | None:
        # Who inherits from this may do more with a batch.
        return self._plain_stream() if self._answers is None and type(self) is AcknowledgedClient else None

    def settled(self) -> Settled:
        settled = super().settled()
        if self._answers is None or self._socket is None:  # the last ones are kept after the end
            return settled
        # Of what is encrypted, less than the consumer has may be known to be written.
        return Settled(max(settled.written, self._answered), self._answered)

    def received(self, data: memoryview) -> None:
        if self._answers is None or self._lost is not None:
            return
        before = self._answered
        try:
            self._take(self._answers, bytes(data))
        except FramingError as error:
            self.fail(SendError(f"{self.address}: {error}"))
            return
        self._heard_at = self._loop.time()
        if self._answered > before and self._signals is not None:
            self._signals.writable()

    def _take(self, answers: AnswerReader, data: bytes) -> None:
        count = answers.feed(data)
        if count > self._ledger.written and count > self._sent():
            sent = self._sent()
            raise FramingError(
                f"the consumer acknowledged {format_count(count, 'message')}, and {sent:,} "
                f"{'was' if sent == 1 else 'were'} sent; it has to count those of this connection, each once"
            )
        self._answered = count

    def _sent(self) -> int:
        """Return how many messages the consumer may have."""
        # Where ciphers pad, nobody knows how many of a batch a part of it holds.
        return self._ledger.taken if self._layer is not None else super().settled().written

    def fail(self, error: DeliveryError) -> None:
        if self._answers is not None and self._socket is not None and self._lost is None:
            self._hear_out(self._answers, self._socket)
        super().fail(error)

    def _hear_out(self, answers: AnswerReader, sock: socket.socket) -> None:
        """Take what was answered before the connection broke: that is not sent again."""
        data = bytearray(_BITE)
        with contextlib.suppress(OSError, FramingError), memoryview(data) as view:
            for _ in range(_LAST_BITES):
                size = sock.recv_into(view)
                if not size:
                    return
                if self._layer is None:
                    self._take(answers, bytes(data[:size]))
                    continue
                self._layer.receive(view[:size])
                while size := self._layer.decrypt_into(view):
                    self._take(answers, bytes(data[:size]))

    def heard_at(self) -> float | None:
        return self._heard_at

    def why_stalled(self) -> str:
        if self._answers is None or self.pending:
            return super().why_stalled()
        hint = "does it acknowledge? a listener of Producer Pool does with ack-after="
        if self._heard_at is None:
            return f"takes messages and acknowledges none ({hint})"
        written = super().settled().written
        given = format_count(written, "message")
        return f"has acknowledged {self._answered:,} of {given}, and says nothing more"
