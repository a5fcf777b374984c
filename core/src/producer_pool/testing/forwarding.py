"""A producer in a trial: messages that it is given, and what has become of each so far."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, Self, TypeVar

from producer_pool.aio import AsyncProducerPool
from producer_pool.delivery.receipts import AsyncReceipt
from producer_pool.model.errors import DeliveryError
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.model.policies import DeliveryPolicy, Retry
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.rule import RuleBroken, require
from producer_pool.testing.trial import Trial

__all__ = ["DIRECT", "RELAY", "Forwarding", "steady", "until_one_arrives"]

DIRECT: Final = DeliveryPolicy.direct()
RELAY: Final = replace(DeliveryPolicy.relay(), deadline=math.inf, retry=Retry(backoff=0.01, max_backoff=0.05))
"""The daemon's policy, for consumers that are back in no time."""

_STEADY: Final = 0.3
"""Seconds: longer than a kernel delays an acknowledgement, and a producer looks for one."""

_SOON: Final = 0.05
"""Seconds between two attempts."""

T = TypeVar("T")


class Forwarding:
    """One pool with one producer, and the receipts of all that it was given."""

    def __init__(self, trial: Trial, pool: AsyncProducerPool) -> None:
        self.messages: list[bytes] = []
        self.pool = pool
        self._trial = trial
        self._receipts: list[AsyncReceipt] = []

    @classmethod
    async def to(
        cls,
        trial: Trial,
        consumer: TrialConsumer | str,
        policy: DeliveryPolicy = RELAY,
        *,
        ack: Ack | None = None,
        **options: str,
    ) -> Self:
        """Make a producer for *consumer*; *ack* is the level that counts, else that of *policy*."""
        policy = policy if ack is None else replace(policy, ack=ack)
        return cls(trial, await trial.producing(consumer, policy=policy, **options))

    async def submit(self, messages: Iterable[bytes]) -> None:
        """Give it more messages."""
        given = list(messages)
        self._receipts += await self.pool.submit_many(given)
        self.messages += given

    async def delivered(self) -> int:
        """Return how many messages were reported delivered so far."""
        return (await self.pool.stats()).producers["trial"].delivered

    def reported(self) -> list[bytes]:
        """Return those messages, in their order."""
        pairs = zip(self.messages, self._receipts, strict=True)
        return [message for message, receipt in pairs if receipt.done]

    async def results(self) -> list[ForwardResult]:
        """Return what became of each message when all are settled."""
        async with self._trial.patience("every message comes to an outcome"):
            return [(await receipt.results())["trial"] for receipt in self._receipts]

    async def all_delivered(self) -> None:
        """Wait until all are settled, and make sure that they are DELIVERED."""
        try:
            results = await self.results()
        except RuleBroken:
            pending = sum(not receipt.done for receipt in self._receipts)
            raise RuleBroken(
                f"{pending} of {len(self.messages)} messages were not settled{await self.trouble()}"
            ) from None
        failed = [result for result in results if result.outcome is not Outcome.DELIVERED]
        require(not failed, f"{len(failed)} of {len(results)} messages: {failed and failed[0].error}")

    async def last_error(self) -> DeliveryError | None:
        """Return why the last connection failed or broke."""
        return (await self.pool.health())["trial"].last_error

    async def trouble(self) -> str:
        """Say the same, behind a text; empty: there was none."""
        error = await self.last_error()
        return f"; the last error was {type(error).__name__}: {error}" if error is not None else ""


async def steady(look: Callable[[], T], trial: Trial, seconds: float = _STEADY) -> T:
    """Return what *look* returns when that has not changed for so many seconds."""
    loop = asyncio.get_running_loop()
    async with trial.patience("what goes on comes to rest"):
        last, since = look(), loop.time()
        while loop.time() - since < seconds:
            await asyncio.sleep(0.01)
            if (now := look()) != last:
                last, since = now, loop.time()
    return last


async def until_one_arrives(
    trial: Trial,
    consumer: TrialConsumer,
    messages: Sequence[bytes],
    send: Callable[[bytes], Awaitable[None]],
) -> bool:
    """Send one of *messages* after the other until one arrives: the first may still be lost; say whether."""
    wanted = set(messages)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(RuleBroken):
        async with trial.patience("a message arrives after the consumer came back"):
            for message in messages:
                await send(message)
                give_up = loop.time() + _SOON
                while loop.time() < give_up:
                    if not wanted.isdisjoint(consumer.received):
                        return True
                    await asyncio.sleep(0.001)
    return False
