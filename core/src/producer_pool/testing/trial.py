"""What one rule is given: clients, consumers and pools that are closed after it, messages, and patience."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final, TypeVar

from producer_pool.aio import AsyncProducerPool
from producer_pool.contract.options import describe
from producer_pool.contract.ports import Client, Listener
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
from producer_pool.testing.driving import Driver
from producer_pool.testing.forwarding import DIRECT, Forwarding
from producer_pool.testing.messages import difference, numbered
from producer_pool.testing.patience import bounded, settling
from producer_pool.testing.rule import RuleBroken, not_applicable, require
from producer_pool.testing.subject import Subject

__all__ = ["PATIENCE", "Trial"]

PATIENCE: Final = 20.0
"""Seconds after which what does not come true never will; no healthy transport needs a tenth of it."""
_FLOOD: Final = 24 * 1024 * 1024
_STEADY: Final = 0.3
"""Seconds: longer than a kernel delays an acknowledgement, and a producer looks for one."""
_SOON: Final = 0.05
"""Seconds between two messages of which the first may be lost."""

T = TypeVar("T")


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
        self.consumer_place = subject.consumer_place(self.place)
        """The same for a client that only has to be made."""
        self.unseen: list[str] = []
        """Exceptions that nobody saw, as the loop reported them."""
        self.late = False
        """Whether something did not come true within the patience of this trial."""
        self._bounds: set[asyncio.Timeout] = set()
        self._patience = patience
        self._places = 0
        self._consumers: list[TrialConsumer] = []
        """Those that the suite was given."""
        self._stack = AsyncExitStack()

    @property
    def stuck(self) -> bool:
        """Whether something goes on, though its time is over and it was cancelled. From any thread."""
        return any(limit.expired() for limit in self._bounds.copy())

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

    async def consumer(self, *, comes: bool = True) -> TrialConsumer:
        """
        Return a consumer that is reachable: what the suite was given, or the transport's own listener.

        Raises:
            NotApplicable: it connects to the client by itself, and may not: *comes* is false.
        """
        make = self.subject.consumer_maker
        if make is None:
            return await self.listening(**self.answering())
        consumer = make(self)
        self._consumers.append(consumer)
        self._closed_after(consumer.aclose)
        await consumer.start()
        if consumer.comes and not comes:
            not_applicable(
                "has consumers that come to it, and decides itself what becomes of messages while one is "
                "away or slow"
            )
        return consumer

    async def listening(self, **options: str) -> ListenerConsumer:
        """Return the transport's own listener, started with *options*, whatever else shows what arrives."""
        consumer = ListenerConsumer(self, **options)
        self._closed_after(consumer.aclose)
        await consumer.start()
        return consumer

    def answering(self) -> dict[str, str]:
        """Return the options with which a listener acknowledges, if it has to be asked for that."""
        asked = Ack.APP in self.subject.transport.acks and self.has_option("ack-after", listener=True)
        return {"ack_after": "delivered"} if asked else {}

    async def somewhere(self) -> TrialConsumer | str:
        """Return a place for a client: a consumer, if there is anything that shows what arrives."""
        return await self.consumer() if self.subject.sees_arrivals else self.place

    def another_place(self) -> str:
        """Return the URL of the trial, each time with another folder in the place of ``{tmp}``."""
        self._places += 1
        if self._places == 1:
            return self.place
        folder = self.folder / f"place-{self._places}"
        folder.mkdir()
        return self.subject.place(folder)

    def url(self, to: TrialConsumer | str, **options: str) -> str:
        """Return the URL by which a client reaches *to*, with *options* (``max_message="1KiB"``)."""
        url = to if isinstance(to, str) else to.url
        return self.subject.client_url(url, self.folder, **options)

    def client(self, to: TrialConsumer | str, **options: str) -> Client:
        """Return a client for *to* as the factory makes it; not connected, and closed after the rule."""
        client = self.subject.factory.create(self.url(to, **options))
        self._closed_after(client.aclose)
        return client

    def other_client(self, url: str) -> Client:
        """Return a client of another transport; not connected, and closed after the rule."""
        client = self.subject.factory.create(url)
        self._closed_after(client.aclose)
        return client

    def listener(self, at: str, **options: str) -> Listener:
        """Return a listener for *at* as the factory makes it; not started, and closed after the rule."""
        listener = self.subject.factory.listener(self.subject.listener_url(at, self.folder, **options))
        self._closed_after(listener.aclose)
        return listener

    def flood(self, client: Client, *, piece: int = 64 * 1024, start: int = 0) -> list[bytes]:
        """Return more messages, of *piece* bytes at the most, than two kernels keep if nobody reads."""
        size = min(self.longest(client) or piece, piece)
        return numbered(_FLOOD // size, size=size, start=start)

    async def reach(self, client: Client) -> None:
        """Connect *client* as one does who uses it without a pool; send() goes on from there."""
        await client.__aenter__()
        await self.met(client)

    @asynccontextmanager
    async def using(self, client: Client) -> AsyncIterator[Client]:
        """Connect *client*, as one does who uses it without a pool, until the end of the block."""
        async with client:
            await self.met(client)
            yield client

    async def met(self, client: Client) -> None:
        """Wait until a consumer that comes to *client* by itself is there, if one does."""
        if client.peers is not None and any(consumer.comes for consumer in self._consumers):
            await self.until(lambda: client.peers, "a consumer connects to the client")

    async def reached(self, consumer: TrialConsumer, message: bytes, **options: str) -> Client:
        """Return a client for *consumer* that is connected, and over which *message* has arrived."""
        client = self.client(consumer, **options)
        async with self.patience("a client connects, and sends a message"):
            await self.reach(client)
            await client.send(message)
        await self.until(lambda: message in consumer.received, "a first message arrives")
        return client

    async def driven(
        self, consumer: TrialConsumer, messages: Sequence[bytes], *, ack: Ack = Ack.WRITTEN, **options: str
    ) -> Driver:
        """Return a client that is driven without a producer, and over which *messages* have arrived."""
        driver = Driver(self.client(consumer, **options), ack)
        async with self.patience("a client connects, and takes messages"):
            await driver.connect()
            await self.met(driver.client)
            await driver.put(messages)
        await self.arrives(consumer, messages)
        return driver

    def pool(self, *, policy: DeliveryPolicy = DIRECT) -> AsyncProducerPool:
        """Return a pool with the plugins of the trial; it is closed, without draining, after the rule."""
        pool = AsyncProducerPool(policy=policy, factory=self.subject.factory)

        async def close() -> None:
            await pool.aclose(drain=0)

        self._closed_after(close)
        return pool

    async def forwarding(
        self, to: TrialConsumer | str, policy: DeliveryPolicy = DIRECT, **options: str
    ) -> Forwarding:
        """Return a producer for *to*, in a pool of its own, whose client is that of the transport."""
        pool = self.pool(policy=policy)
        await pool.add_producer(Forwarding.ID, self.url(to, **options))
        forwarding = Forwarding(self, pool)
        if not isinstance(to, str) and to.comes:
            await forwarding.met()
        return forwarding

    # -- what is declared ----------------------------------------------------------------------------

    def has_option(self, name: str, listener: bool = False) -> bool:
        """Whether the URL of a consumer, or of a *listener*, may have an option of this name."""
        transport = self.subject.transport
        kind = (listener and transport.listener_options) or transport.options
        return kind is not None and any(one.name == name for one in describe(kind))

    def longest(self, client: Client) -> int | None:
        """Return the bytes of the longest message that *client* declares to carry; None: no limit."""
        limits = (client.max_message, self.subject.transport.max_message)
        return min((limit for limit in limits if limit is not None), default=None)

    def levels(self, above: Ack = Ack.WRITTEN) -> list[Ack]:
        """Return the declared levels of acknowledgement above that one, from the lowest on."""
        return [level for level in sorted(self.subject.transport.acks) if level > above]

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
        limit: asyncio.Timeout | None = None
        try:
            async with bounded(seconds) as limit:
                self._bounds.add(limit)
                yield
        except TimeoutError:
            if limit is None or not limit.expired():
                raise
            self.late = self.late or times >= 1
            raise RuleBroken(f"waited {seconds:g} s in vain: {what}") from None
        finally:
            if limit is not None:
                self._bounds.discard(limit)

    async def within(self, what: str, awaitable: Awaitable[object]) -> None:
        """Await *awaitable* with patience, whatever it returns."""
        async with self.patience(what):
            await awaitable

    async def steady(self, look: Callable[[], T], seconds: float = _STEADY) -> T:
        """Return what *look* returns when that has not changed for so many seconds."""
        async with self.patience("what goes on comes to rest", 2):
            return await settling(look, seconds)

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

    async def missing(self, consumer: TrialConsumer, messages: Iterable[bytes]) -> set[bytes]:
        """Wait until *messages* have arrived, whatever else does; return those that never do."""
        needed = set(messages)
        with contextlib.suppress(RuleBroken):
            await self.until(lambda: needed.issubset(consumer.received), "all messages arrive")
        return needed.difference(consumer.received)

    async def one_arrives(
        self, consumer: TrialConsumer, messages: Iterable[bytes], send: Callable[[bytes], Awaitable[None]]
    ) -> bool:
        """Send one of *messages* after the other until one arrives: the first may be lost; say whether."""
        sent: set[bytes] = set()

        def arrived() -> bool:
            return not sent.isdisjoint(consumer.received)

        with contextlib.suppress(RuleBroken):
            async with self.patience("one of several messages arrives"):
                for message in messages:
                    sent.add(message)
                    await send(message)
                    with contextlib.suppress(TimeoutError):
                        async with bounded(_SOON):
                            while not arrived():  # noqa: ASYNC110
                                await asyncio.sleep(0.001)
                    if arrived():
                        return True
        return False
