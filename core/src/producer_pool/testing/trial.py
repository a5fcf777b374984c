"""What one rule is given: clients, consumers and pools that are closed after it, messages, and patience."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

from producer_pool.aio import AsyncProducerPool
from producer_pool.contract.ports import Client
from producer_pool.model.policies import DeliveryPolicy, Limits
from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
from producer_pool.testing.rule import RuleBroken
from producer_pool.testing.subject import Subject, with_options

__all__ = ["PATIENCE", "Trial", "numbered"]

PATIENCE: Final = 20.0
"""Seconds after which what does not come true never will; no healthy transport needs a tenth of it."""


def numbered(count: int, *, size: int = 64, start: int = 0) -> list[bytes]:
    """Return *count* different messages of *size* bytes, at least 18: number, checksum, and filler."""
    messages = []
    for number in range(start, start + count):
        head = b"%08d " % number
        filler = b"abcdefghijklmnopqrstuvwxyz0123456789 "[number % 37 :] * (size // 37 + 2)
        body = (head + filler)[: max(size - 9, 9)]
        messages.append(b"%b %08x" % (body, zlib.crc32(body)))
    return messages


class Trial:
    """
    The bench on which one rule tries one transport.

    Whatever it makes is closed when the rule is through, in the reverse order.
    """

    def __init__(self, subject: Subject, folder: Path, seed: int, *, patience: float = PATIENCE) -> None:
        self.subject = subject
        self.folder = folder
        self.random = Random(seed)
        """For all that is left to chance: the report names the seed."""
        self.place = subject.place(folder)
        self.unseen: list[str] = []
        """Exceptions that nobody saw, as the loop reported them."""
        self._patience = patience
        self._stack = AsyncExitStack()

    async def aclose(self) -> None:
        """Close all that was made, whatever that raises: how things are closed, rules of their own ask."""
        await self._stack.aclose()

    def _closed_after(self, close: Callable[[], Awaitable[None]]) -> None:
        async def quietly() -> None:
            closing = asyncio.ensure_future(close())
            # What does not end is cancelled with all other tasks, after the rule.
            await asyncio.wait([closing], timeout=self._patience)
            if closing.done() and not closing.cancelled():
                closing.exception()

        self._stack.push_async_callback(quietly)

    # -- the two sides -----------------------------------------------------------------------------

    async def consumer(self) -> TrialConsumer:
        """Return a consumer that is reachable."""
        consumer = (self.subject.consumer or ListenerConsumer)(self)
        self._closed_after(consumer.aclose)
        await consumer.start()
        return consumer

    def url(self, to: TrialConsumer | str, **options: str) -> str:
        """Return the URL by which a client reaches *to*, with *options* (``max_message="1KiB"``)."""
        url = to if isinstance(to, str) else to.url
        named = {name.replace("_", "-"): value for name, value in options.items()}
        return with_options(url, {**self.filled(self.subject.client_options), **named})

    def client(self, to: TrialConsumer | str, **options: str) -> Client:
        """Return a client for *to* as the factory makes it; not connected, and closed after the rule."""
        client = self.subject.factory.create(self.url(to, **options))
        self._closed_after(client.aclose)
        return client

    async def pool(
        self, *, policy: DeliveryPolicy | None = None, limits: Limits | None = None
    ) -> AsyncProducerPool:
        """Return a pool with the plugins of the trial; it is closed, without draining, after the rule."""
        pool = AsyncProducerPool(policy=policy, limits=limits, factory=self.subject.factory)

        async def close() -> None:
            await pool.aclose(drain=0)

        self._closed_after(close)
        return pool

    def filled(self, options: Mapping[str, str]) -> dict[str, str]:
        """Return *options* with the trial's folder in the place of ``{tmp}``."""
        return {name: value.replace("{tmp}", str(self.folder)) for name, value in options.items()}

    # -- patience ----------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """
        Wait until *condition* holds.

        Raises:
            RuleBroken: it never did; *what* says what was waited for.
        """
        async with self.patience(what):
            pause = 0.0
            while not condition():
                await asyncio.sleep(pause)
                pause = min(pause + 0.0002, 0.01)

    @asynccontextmanager
    async def patience(self, what: str, times: float = 1.0) -> AsyncIterator[None]:
        """
        Bound what is done inside, by so many times the patience of this trial.

        Raises:
            RuleBroken: it took longer; *what* says what was waited for.
        """
        seconds = self._patience * times
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise RuleBroken(f"waited {seconds:g} s in vain: {what}") from None

    async def within(self, what: str, awaitable: Awaitable[object]) -> None:
        """Await *awaitable* with patience, whatever it returns."""
        async with self.patience(what):
            await awaitable

    async def arrives(self, consumer: TrialConsumer, messages: Iterable[bytes]) -> None:
        """Wait until exactly *messages* have arrived, in their order if that is declared."""
        wanted = list(messages)
        try:
            await self.until(lambda: len(consumer.received) >= len(wanted), "all messages arrive")
        except RuleBroken:
            missing = len(wanted) - len(consumer.received)
            raise RuleBroken(f"{missing} of {len(wanted)} messages did not arrive") from None
        same_order = self.subject.transport.ordered
        got = consumer.received if same_order else sorted(consumer.received)
        if got != (wanted if same_order else sorted(wanted)):
            raise RuleBroken(difference(wanted, consumer.received))


def difference(sent: list[bytes], received: list[bytes]) -> str:
    """Say in what *received* differs from *sent*: doubled, altered, missing, or in another order."""
    known = set(sent)
    strangers = [message for message in received if message not in known]
    if strangers:
        return f"arrived and was never sent: {_shown(strangers[0])}, and {len(strangers) - 1} more like it"
    doubled = len(received) - len(set(received))
    if doubled > len(sent) - len(known):
        return f"{doubled} messages arrived twice"
    missing = known - set(received)
    if missing:
        return f"{len(missing)} of {len(sent)} messages did not arrive, among them {_shown(min(missing))}"
    return "the messages arrived in another order"


def _shown(message: bytes) -> str:
    return repr(message) if len(message) <= 60 else f"{message[:60]!r}... ({len(message)} bytes)"
