"""What a pipelined client says when it is handed batches, held against its contract."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from producer_pool.contract.ports import Client, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Rejected
from producer_pool.model.outcomes import Ack
from producer_pool.testing.rule import require

__all__ = ["Handover", "attach"]


def attach(client: Client) -> None:
    """Give *client* somebody to tell, if it is one that tells: so that connect() may be called."""
    if isinstance(client, PipelinedClient):
        client.attach(Handover(client))


class Handover:
    """
    Hands batches to a pipelined client, and holds what it answers against its contract.

    What breaks it is a RuleBroken out of start() or settled(), never out of a signal.
    """

    def __init__(self, client: PipelinedClient, ack: Ack = Ack.WRITTEN) -> None:
        self.ack = ack
        self.handed = 0
        """Messages that the client took."""
        self.fault = ""
        """What a signal broke."""
        self._client = client
        self._starting = False
        self._told = asyncio.Event()
        self._last = Settled(0, 0)

    # -- signals -----------------------------------------------------------------------------------

    def writable(self) -> None:
        self._note("writable()")

    def broken(self, error: DeliveryError) -> None:
        self._note("broken()")
        self.fault = self.fault or f"broken() was called, and nothing was broken: {error}"

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        self._note("rejected()")
        self.fault = self.fault or f"rejected() was called for what can be carried: {error}"

    def _note(self, call: str) -> None:
        if self._starting:
            self.fault = self.fault or f"{call} was called inside start()"
        self._told.set()

    # -- what a producer does ----------------------------------------------------------------------

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        """Hand over *batches*, and return how many were taken."""
        self._told.clear()
        self._starting = True
        try:
            taken = self._client.start(batches, offset)
        finally:
            self._starting = False
        require(not self.fault, self.fault)
        possible = type(taken) is int and 0 <= taken <= len(batches)
        require(possible, f"start() was given {len(batches)} batches, and returned {taken!r}")
        self.handed += sum(map(len, batches[:taken])) - (offset if taken else 0)
        self.settled()
        return taken

    def settled(self) -> Settled:
        """Return how far the client says that it got."""
        settled = Settled(*self._client.settled())
        last, self._last = self._last, settled
        what = f"settled() returned {settled}"
        require(settled.written <= self.handed, f"{what}, and only {self.handed} messages were handed over")
        require(settled.confirmed <= settled.written, f"{what}: more are confirmed than written")
        back = settled.written < last.written or settled.confirmed < last.confirmed
        require(not back, f"{what}, and before that {last}: it never goes back")
        require(not self.fault, self.fault)
        return settled

    async def told(self) -> None:
        """Wait for a signal since the last start()."""
        await self._told.wait()
        require(not self.fault, self.fault)
