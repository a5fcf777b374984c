"""A client driven without a producer, which would hide some of what it does and says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from producer_pool.contract.ports import Client, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.testing.rule import require

__all__ = ["Driver"]


class Driver:
    """
    Drives a client of either kind, at one level, and holds what it says against its contract.

    A plain one it asks to send(): what that returned from is written, and confirmed. Of a pipelined one it
    is the signals. What breaks the contract is a RuleBroken out of the next call, never out of a signal.
    """

    def __init__(self, client: Client, ack: Ack = Ack.WRITTEN) -> None:
        self.ack = ack
        self.client = client
        self.taken = 0
        """Messages that the client took, or that are with it just now."""
        self.lost: DeliveryError | None = None
        """What broken() was called with."""
        self.may_break = False
        """Whether the consumer does what breaks connections. Then put() and told() raise the error."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._starting = False
        self.fault = ""
        """What a signal broke."""
        self._told = asyncio.Event()
        self._returned = 0
        self._last = Settled(0, 0)

    async def connect(self) -> None:
        """Connect it, as a producer does."""
        if isinstance(self.client, PipelinedClient):
            self.client.attach(self)
        await self.client.connect()

    # -- signals -----------------------------------------------------------------------------------

    def writable(self) -> None:
        self._note("writable()")

    def broken(self, error: DeliveryError) -> None:
        self._note("broken()")
        self.lost = error
        if not isinstance(error, ConnectError | SendError):
            self._blame(f"broken() was called with {error!r}, and not with a ConnectError or a SendError")
        elif not self.may_break:
            self._blame(f"broken() was called, and nothing was broken: {error}")

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        self._note("rejected()")
        self._blame(f"rejected() was called for what can be carried: {error}")

    def _note(self, call: str) -> None:
        if threading.get_ident() != self._thread:
            self._blame(f"{call} was called from another thread; use loop.call_soon_threadsafe()")
        elif self._starting:
            self._blame(f"{call} was called inside start()")
        elif self.lost is not None:
            self._blame(f"{call} was called after broken()")
        self._loop.call_soon_threadsafe(self._told.set)

    def _blame(self, fault: str) -> None:
        self.fault = self.fault or fault

    # -- what a producer does ----------------------------------------------------------------------

    async def put(self, messages: Sequence[bytes]) -> None:
        """Hand over *messages*, each alone; done when the client has taken all."""
        for message in messages:
            if isinstance(self.client, PipelinedClient):
                while not self.start([Batch.of([message])]):
                    await self.told()
                await asyncio.sleep(0)
            else:
                self.taken += 1
                await self.client.send(message)
                self._returned += 1

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        """Hand over *batches* to a pipelined client, and return how many it took."""
        client = self.client
        assert isinstance(client, PipelinedClient)
        given = list(batches)
        self._told.clear()
        self._starting = True
        try:
            taken = client.start(given, offset)
        finally:
            self._starting = False
        given.clear()  # The list is ours: a client may keep the batches, and not what they came in.
        require(not self.fault, self.fault)
        possible = type(taken) is int and 0 <= taken <= len(batches)
        require(possible, f"start() was given {len(batches)} batches, and returned {taken!r}")
        self.taken += sum(map(len, batches[:taken])) - (offset if taken else 0)
        self.settled()
        return taken

    def settled(self) -> Settled:
        """Return how far the client says that it got, if that can be true."""
        if not isinstance(self.client, PipelinedClient):
            return Settled(self._returned, self._returned)
        last, self._last = self._last, Settled(*self.client.settled())
        written, confirmed = now = self._last
        what = f"settled() returned {now}"
        require(written <= self.taken, f"{what}, and only {self.taken} messages were handed over")
        require(confirmed <= written, f"{what}: more are confirmed than written")
        back = written < last.written or confirmed < last.confirmed
        require(not back, f"{what}, and before that {last}: it never goes back")
        require(not self.fault, self.fault)
        return now

    async def told(self) -> None:
        """
        Wait for a signal since the last start().

        Raises:
            DeliveryError: that the connection broke.
        """
        if self.lost is None:
            await self._told.wait()
        require(not self.fault, self.fault)
        if self.lost is not None:
            raise self.lost
