"""``null:``: takes every message, counts it, and forgets it."""

from __future__ import annotations

from collections.abc import Sequence

from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch

__all__ = ["NullClient"]


class NullClient(PipelinedClient):
    """A consumer that is always there and never slow: for trying out and for measuring."""

    protocol_name = "null"
    address = "null:"

    def __init__(self) -> None:
        self.messages = 0
        """Taken since it was made."""
        self.bytes = 0
        """Of the batches taken, frames included where they came with some."""
        self._before = 0

    def attach(self, signals: ClientSignals) -> None:
        pass  # There is never anything to tell.

    async def connect(self) -> None:
        self._before = self.messages

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        for batch in batches:
            self.messages += len(batch)
            self.bytes += batch.nbytes
        self.messages -= offset
        return len(batches)

    def settled(self) -> Settled:
        count = self.messages - self._before
        return Settled(count, count)
