"""One producer of a bench: its connection, the room that it has, and the times of its writes."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from producer_pool.cli.benching.board import Board
from producer_pool.cli.benching.book import Book
from producer_pool.contract.ports import Client, PipelinedClient
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack

__all__ = ["Bell", "Line"]

_LOOK: Final = 0.005
"""Seconds after which one looks, though no bell was rung."""


class Bell:
    """Rung by consumers when they have got on."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rung = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._hear)

    def _hear(self) -> None:
        os.read(self._fd, 4096)
        self._rung.set()

    async def wait(self) -> None:
        """Wait until it is rung, or for a little while."""
        self._rung.clear()
        timer = self._loop.call_later(_LOOK, self._rung.set)
        await self._rung.wait()
        timer.cancel()

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class Line:
    """
    Sends what one producer has to send, in its order. It is the signals of its client.

    What is under way to the slowest consumer is bounded: so a relay is measured at forwarding, and not at
    what it does when its buffers are full; and datagrams find room in every receive buffer.
    """

    ack = Ack.WRITTEN

    def __init__(
        self, client: Client, book: Book, board: Board, producer: int, window: int, bell: Bell
    ) -> None:
        self._client = client
        self._pipelined = client if isinstance(client, PipelinedClient) else None
        self._batches = book.batches(producer)
        self._whole = book.shape.batch
        """Messages of each of these."""
        self._ring = book.ring(producer, LINES)
        self._round = book.round
        self._reached = board.reached[producer]
        self._due = board.due[producer]
        self._slots = board.slots
        self._window = window
        self._bell = bell
        self._lost: DeliveryError | None = None
        self._moved = asyncio.Event()
        self.begin(1)

    def begin(self, unit: int) -> None:
        """Count from 0 on; *unit* messages go in a write."""
        self._unit = unit
        self._writes = 0
        self.sent = 0
        self._limit = self._window

    async def connect(self) -> None:
        """
        Connect.

        Raises:
            ConnectError: it is not possible.
        """
        if self._pipelined is not None:
            self._pipelined.attach(self)
        try:
            async with asyncio.timeout(self._client.timeout):
                await self._client.connect()
        except TimeoutError:
            raise ConnectError(f"{self._client.address}: no connection in time") from None

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._client.aclose()

    # -- the signals -------------------------------------------------------------------------------

    def writable(self) -> None:
        """Go on."""
        self._moved.set()

    def broken(self, error: DeliveryError) -> None:
        """Note that nothing goes any more."""
        self._lost = error
        self._moved.set()

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        """Note that the consumer does not take what is sent here: nothing else will be sent."""
        self.broken(error)

    # -- sending -----------------------------------------------------------------------------------

    @property
    def missing(self) -> int:
        """Messages that consumers have not got yet, of all of them together."""
        return sum([max(self.sent - reached, 0) for reached in self._reached])

    @property
    def has_room(self) -> bool:
        """Whether one write more may be under way."""
        return self.sent + self._unit <= self._limit or self._has_room_now()

    def _has_room_now(self) -> bool:
        self._limit = min(self._reached) + self._window
        return self.sent + self._unit <= self._limit

    async def room(self, end: int) -> bool:
        """Wait until one write more may be under way, until *end* at the latest; return whether it may."""
        while not self._has_room_now():
            if self._lost is not None:
                raise self._lost
            if time.monotonic_ns() >= end:
                return False
            await self._bell.wait()
        return True

    async def write(self, due: int) -> None:
        """
        Send the next messages, which were *due* at that time, and wait until the system has taken them.

        Raises:
            DeliveryError: it broke.
        """
        unit = self._unit
        if unit == self._whole:
            batch = self._batches[self._writes % len(self._batches)]
        else:
            ring = self._ring
            at = self.sent % self._round * ring.frame
            batch = Batch.from_wire(ring.wire[at : at + unit * ring.frame], LINES, unit)
        self._due[self._writes % self._slots] = due
        self._writes += 1
        self.sent += unit
        if self._pipelined is None:
            await self._client.send_batch(batch)
        else:
            await self._start(self._pipelined, (batch,))

    async def _start(self, client: PipelinedClient, batches: tuple[Batch]) -> None:
        while True:
            if self._lost is not None:
                raise self._lost
            self._moved.clear()
            if client.start(batches):
                return
            await self._moved.wait()
