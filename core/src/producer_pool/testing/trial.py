"""What one rule is given: clients, consumers and pools that are closed after it, messages, and patience."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

from producer_pool.aio import AsyncProducerPool
from producer_pool.contract.options import describe
from producer_pool.contract.ports import Client
from producer_pool.model.outcomes import ForwardResult
from producer_pool.model.policies import DeliveryPolicy, Limits
from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
from producer_pool.testing.rule import RuleBroken, require
from producer_pool.testing.subject import Subject, in_kebab_case, with_options

__all__ = ["PATIENCE", "Trial", "difference", "numbered", "shown"]

PATIENCE: Final = 20.0
"""Seconds after which what does not come true never will; no healthy transport needs a tenth of it."""


def numbered(count: int, *, size: int = 64, start: int = 0) -> list[bytes]:
    """Return *count* different messages of *size* bytes, at least 18: number, checksum, and filler."""
    messages = []
    for number in range(start, start + count):
        head = b"%08d " % number
        filler = (b"abcdefghijklmnopqrstuvwxyz0123456789 " * (size // 37 + 2))[number % 37 :]
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
        """Return a consumer that is reachable: what the suite was given, or the transport's own listener."""
        if self.subject.consumer is None:
            return await self.listening()
        consumer = self.subject.consumer(self)
        self._closed_after(consumer.aclose)
        await consumer.start()
        return consumer

    async def listening(self, **options: str) -> ListenerConsumer:
        """Return the transport's own listener, started with *options*, whatever else shows what arrives."""
        consumer = ListenerConsumer(self, **options)
        self._closed_after(consumer.aclose)
        await consumer.start()
        return consumer

    def url(self, to: TrialConsumer | str, **options: str) -> str:
        """Return the URL by which a client reaches *to*, with *options* (``max_message="1KiB"``)."""
        url = to if isinstance(to, str) else to.url
        return with_options(url, {**self.filled(self.subject.client_options), **in_kebab_case(options)})

    def client(self, to: TrialConsumer | str, **options: str) -> Client:
        """Return a client for *to* as the factory makes it; not connected, and closed after the rule."""
        client = self.subject.factory.create(self.url(to, **options))
        self._closed_after(client.aclose)
        return client

    async def reach(self, client: Client) -> None:
        """Connect *client* as one does who uses it without a pool; send() goes on from there."""
        await client.__aenter__()

    async def pool(
        self, *, policy: DeliveryPolicy | None = None, limits: Limits | None = None
    ) -> AsyncProducerPool:
        """Return a pool with the plugins of the trial; it is closed, without draining, after the rule."""
        pool = AsyncProducerPool(policy=policy, limits=limits, factory=self.subject.factory)

        async def close() -> None:
            await pool.aclose(drain=0)

        self._closed_after(close)
        return pool

    async def producing(
        self, to: TrialConsumer | str, *, policy: DeliveryPolicy | None = None, **options: str
    ) -> AsyncProducerPool:
        """Return a pool with one producer, whose client is that of the transport; for forward()."""
        pool = await self.pool(policy=policy)
        await pool.add_producer("trial", self.url(to, **options))
        return pool

    async def forward(self, pool: AsyncProducerPool, messages: Iterable[bytes]) -> list[ForwardResult]:
        """Submit *messages* together, and return what became of each when all are settled."""
        receipts = await pool.submit_many(messages)
        async with self.patience("every message comes to an outcome"):
            return [(await receipt.results())["trial"] for receipt in receipts]

    def has_option(self, name: str, listener: bool = False) -> bool:
        """Whether the URL of a consumer, or of a *listener*, may have an option of this name."""
        transport = self.subject.transport
        kind = (listener and transport.listener_options) or transport.options
        return kind is not None and any(one.name == name for one in describe(kind))

    def longest(self, client: Client) -> int | None:
        """Return the bytes of the longest message that *client* declares to carry; None: no limit."""
        limits = (client.max_message, self.subject.transport.max_message)
        return min((limit for limit in limits if limit is not None), default=None)

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
        known = set(wanted)
        seen = 0

        def over() -> bool:
            """Whether as many arrived as have to, or one that nobody sent: then the rest does not matter."""
            nonlocal seen
            fresh = consumer.received[seen:]
            seen += len(fresh)
            return seen >= len(wanted) or not known.issuperset(fresh)

        with contextlib.suppress(RuleBroken):
            await self.until(over, "all messages arrive")
        ordered = self.subject.transport.ordered
        fault = difference(wanted, consumer.received, ordered=ordered)
        require(not fault, fault)


def difference(sent: Sequence[bytes], received: Sequence[bytes], *, ordered: bool = True) -> str:
    """Say in what *received* differs from *sent*: altered, doubled, missing, in another order; or nothing."""
    known = set(sent)
    strangers = [index for index, message in enumerate(received) if message not in known]
    if strangers:
        first = strangers[0]
        place = f" in the place of {shown(sent[first])}" if ordered and first < len(sent) else ""
        others = f", and {len(strangers) - 1} others like it" if len(strangers) > 1 else ""
        return f"{shown(received[first])} arrived{place}, and nobody sent it{others}"
    balance = Counter(received)
    balance.subtract(Counter(sent))
    doubled = [message for message, surplus in balance.items() if surplus > 0]
    if doubled:
        return f"{len(doubled)} of {len(sent)} messages arrived more than once, such as {shown(doubled[0])}"
    missing = [message for message, surplus in balance.items() if surplus < 0]
    if missing:
        return f"{len(missing)} of {len(sent)} messages did not arrive, such as {shown(min(missing))}"
    if ordered and list(received) != list(sent):
        pairs = zip(sent, received, strict=True)
        first = next(index for index, (one, other) in enumerate(pairs) if one != other)
        return f"another order: {shown(received[first])} arrived before {shown(sent[first])}"
    return ""


def shown(message: bytes) -> str:
    """Return *message* as a verdict shows it: in full if it is short."""
    return repr(message) if len(message) <= 60 else f"{message[:40]!r}... ({len(message)} bytes)"
