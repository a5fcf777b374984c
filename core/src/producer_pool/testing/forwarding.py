"""A producer in a trial: messages that it is given, and what has become of each so far."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from producer_pool.model.outcomes import ForwardResult, Outcome
from producer_pool.model.policies import DeliveryPolicy, Retry
from producer_pool.testing.rule import RuleBroken, require

if TYPE_CHECKING:
    from producer_pool.aio import AsyncProducerPool
    from producer_pool.delivery.receipts import AsyncReceipt
    from producer_pool.model.stats import Health, ProducerStats
    from producer_pool.testing.trial import Trial

__all__ = ["DIRECT", "RELAY", "Forwarding"]

DIRECT: Final = DeliveryPolicy.direct()
RELAY: Final = replace(DeliveryPolicy.relay(), deadline=math.inf, retry=Retry(backoff=0.01, max_backoff=0.05))
"""The daemon's policy, for consumers that are back in no time."""


class Forwarding:
    """One pool with one producer, and the receipts of all that it was given."""

    ID: Final = "trial"
    """What the producer is called."""

    def __init__(self, trial: Trial, pool: AsyncProducerPool) -> None:
        self.messages: list[bytes] = []
        self.pool = pool
        self._trial = trial
        self._receipts: list[AsyncReceipt] = []

    async def submit(self, messages: Iterable[bytes]) -> None:
        """Give it more messages."""
        given = list(messages)
        self._receipts += await self.pool.submit_many(given)
        self.messages += given

    async def forward(self, messages: Iterable[bytes]) -> list[ForwardResult]:
        """Give it more messages, and return what became of each when all are settled."""
        before = len(self._receipts)
        await self.submit(messages)
        return await self._results(self._receipts[before:])

    def reported(self) -> list[bytes]:
        """Return those messages that are settled so far, in their order."""
        pairs = zip(self.messages, self._receipts, strict=True)
        return [message for message, receipt in pairs if receipt.done]

    async def all_delivered(self) -> None:
        """Wait until all are settled, and make sure that they are DELIVERED."""
        try:
            results = await self._results(self._receipts)
        except RuleBroken:
            pending = sum(not receipt.done for receipt in self._receipts)
            raise RuleBroken(
                f"{pending} of {len(self.messages)} messages were not settled{await self.trouble()}"
            ) from None
        failed = [result for result in results if result.outcome is not Outcome.DELIVERED]
        require(not failed, f"{len(failed)} of {len(results)} messages: {failed and failed[0].error}")

    async def _results(self, receipts: Iterable[AsyncReceipt]) -> list[ForwardResult]:
        async with self._trial.patience("every message comes to an outcome"):
            return [(await receipt.results())[self.ID] for receipt in receipts]

    async def met(self) -> None:
        """Have its client listen, and wait until a consumer has come to it."""
        async with self._trial.patience("a consumer connects to the client of a producer"):
            await self.pool.check()
            while not (await self.stats()).peers:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.001)

    async def stats(self) -> ProducerStats:
        """Return the counters of the producer."""
        return (await self.pool.stats()).producers[self.ID]

    async def health(self) -> Health:
        """Return how its connection is."""
        return (await self.pool.health())[self.ID]

    async def trouble(self) -> str:
        """Say why the last connection failed or broke, behind a text; empty: none did."""
        error = (await self.health()).last_error
        return f"; the last error was {type(error).__name__}: {error}" if error is not None else ""
