"""A pipelined client that is used without a Producer: one batch at a time, waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.model.text import format_duration

if TYPE_CHECKING:
    from producer_pool.contract.ports import PipelinedClient
    from producer_pool.model.batch import Batch

__all__ = ["Alone"]

_FIRST_POLL: Final = 0.0005
_LAST_POLL: Final = 0.02
"""Seconds between two looks at what has been acknowledged, which signals nothing: doubling from the first."""


class Alone:
    """
    One connection of a pipelined client, and its signals: what send() has instead of a Producer.

    It is at its end after the first error. Whoever has it closes the client then.
    """

    def __init__(self, client: PipelinedClient) -> None:
        self.ack = client.ack
        self.lost: DeliveryError | None = None
        self._client = client
        self._handed = 0
        """Messages that the client took since connect()."""
        self._rejected: tuple[int, Rejected] | None = None
        """The first message of this call that was."""
        self._first = 0
        """The number of the first message of this call."""
        self._moved = asyncio.Event()

    # -- its signals -------------------------------------------------------------------------------

    def writable(self) -> None:
        self._moved.set()

    def broken(self, error: DeliveryError) -> None:
        self.lost = error
        self._moved.set()

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        if self._rejected is None and number + count > self._first:
            self._rejected = max(number, self._first), error
        self._moved.set()

    @property
    def idle(self) -> bool:
        """Whether it can go on as if nothing had been sent: the connection is there, and all is settled."""
        return self.lost is None and self._settled() >= self._handed

    # -- its work ----------------------------------------------------------------------------------

    async def connect(self, until: float) -> None:
        """
        Connect the client, until that time of the loop at the latest.

        Raises:
            ConnectError: it cannot be reached.
        """
        client = self._client
        client.attach(self)
        try:
            async with asyncio.timeout_at(until):
                await client.connect()
        except TimeoutError:
            limit = format_duration(client.timeout)
            raise ConnectError(f"{client.address}: no connection within {limit}") from None

    async def send_batch(self, batch: Batch, start: int, until: float) -> None:
        """
        Hand over the messages of *batch* from number *start* on, and wait until they reached `ack`.

        Raises:
            DeliveryError: as Client.send_batch(), with its ``index``.
        """
        self._first = before = self._handed
        self._rejected = None
        try:
            await self._hand_over(batch, start, until)
        except DeliveryError as error:
            if error.index is None:
                settled = min(self._settled() - before, len(batch) - start - 1)
                error.index = start + max(settled, 0)
            raise

    async def _hand_over(self, batch: Batch, start: int, until: float) -> None:
        client = self._client
        before = self._handed
        try:
            async with asyncio.timeout_at(until):
                while not client.start([batch], start):
                    await self._change(None)
                self._handed += len(batch) - start
                poll = _FIRST_POLL
                while self._settled() < self._handed:
                    self._look_for_rejected(before - start)
                    await self._change(None if self.ack is Ack.WRITTEN else poll)
                    poll = min(2 * poll, _LAST_POLL)
                self._look_for_rejected(before - start)
        except TimeoutError:
            limit = format_duration(client.timeout)
            if self._handed == before or client.settled().written < self._handed:
                reason = f"the consumer did not take it within {limit}; it reads too slowly, or not at all"
            else:
                reason = f"written, but not acknowledged within {limit} (ack={self.ack.label})"
            raise SendError(f"{client.address}: {reason}") from None

    def _look_for_rejected(self, first: int) -> None:
        """Raise if a message was rejected and all before it are settled; *first* is the number of index 0."""
        if self._rejected is not None and self._settled() >= self._rejected[0]:
            number, error = self._rejected
            error.index = number - first
            raise error

    def _settled(self) -> int:
        settled = self._client.settled()
        return settled.written if self.ack is Ack.WRITTEN else settled.confirmed

    async def _change(self, seconds: float | None) -> None:
        """Wait for a signal, or so long; raise if the connection is lost."""
        if self.lost is None:
            self._moved.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._moved.wait()
            except TimeoutError:
                return
        if self.lost is not None:
            raise self.lost
