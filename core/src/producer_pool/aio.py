"""The pool for asyncio programs: the engine, with a factory for URLs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from producer_pool.contract.ports import Client, Intake
from producer_pool.contract.wiring import Wiring
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import AsyncReceipt, Handle
from producer_pool.delivery.roster import Roster
from producer_pool.delivery.submitlog import OpenPage, SubmitLog
from producer_pool.model.batch import Batch, payload
from producer_pool.model.errors import ForkedPool, Full, PoolClosed, UsageError
from producer_pool.model.outcomes import ForwardResult, Results
from producer_pool.model.policies import DeliveryPolicy, Limits, checked_limits, checked_policy
from producer_pool.model.stats import Health, PoolStats
from producer_pool.toolkit.forks import keep_from_children

if TYPE_CHECKING:
    from producer_pool.dead_letter_office import DeadLetterOffice
    from producer_pool.discovery.factory import ClientFactory

__all__ = ["AsyncProducerPool", "Entrance"]

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Handle)


class Entrance(Generic[R]):
    """
    What every kind of pool does before anything waits: ids, URLs, text to bytes, a place in the log.

    Safe to call from any thread.
    """

    def __init__(
        self, log: SubmitLog[R], policy: DeliveryPolicy | None, factory: ClientFactory | None
    ) -> None:
        self.log = log
        self.roster = Roster()
        self.policy = checked_policy(policy) or DeliveryPolicy.direct()
        self._factory = factory
        self._office: DeadLetterOffice | None = None
        self._opening = threading.Lock()
        self._warned = False
        self._announced = False
        self._processing = False

    @property
    def factory(self) -> ClientFactory:
        """What makes clients from URLs; made when the first URL comes."""
        if self._factory is None:
            from producer_pool.discovery.factory import ClientFactory

            self._factory = ClientFactory()
        return self._factory

    def announce(self, engine: Engine, pool: object) -> None:
        """Tell the plugins of *pool* that it runs, once there are plugins: they come with the first URL."""
        if not self._announced and self._factory is not None:
            self._announced = True
            engine.observers.extend(self._wiring.observers(pool))
            self._wiring.started(pool)

    def take_leave(self, pool: object, drain: float) -> None:
        """Tell the plugins that were told of *pool* that it stops."""
        if self._announced:
            self._wiring.stopping(pool, drain)

    @property
    def _wiring(self) -> Wiring:
        """What plugins add to the pool; nothing as long as no URL asked for plugins."""
        return self._factory.wiring() if self._factory is not None else _NO_WIRING

    def producer(
        self, producer_id: str, to: str | Client, policy: DeliveryPolicy | None, timeout: float | None
    ) -> Producer:
        """Make the producer that add_producer() adds."""
        policy = checked_policy(policy) or self.policy
        if not isinstance(to, str):
            if timeout is not None:
                raise UsageError(
                    "timeout= goes with a URL; set the timeout of an injected client on the client"
                )
            stages = self._wiring.stages(producer_id, None)
            return self._with_letters(Producer(producer_id, to, policy, stages=stages))
        plan = self.factory.plan(to, policy, timeout=timeout)
        stages = self._wiring.stages(producer_id, plan.endpoint)
        return self._with_letters(Producer(producer_id, plan.client, plan.policy, stages=stages))

    def _with_letters(self, producer: Producer) -> Producer:
        """Have what *producer* gives up kept, where its policy asks for that."""
        if producer.policy.dead_letters is not None:
            from producer_pool.dead_letter_office import DeadLetterOffice

            with self._opening:  # Two threads may add a producer each at once.
                if self._office is None:
                    self._office = DeadLetterOffice(lambda: self.factory)
            producer.outbox.accounts.letters = self._office.keeper(producer.id, producer.policy)
        return producer

    async def close_letters(self) -> None:
        """Finish what dead letters are on their way, within a second. Once all producers are closed."""
        if self._office is not None:
            await self._office.aclose()

    def append(self, targets: Sequence[str], message: bytes | str, *, wake: bool = True) -> R:
        """Put one message in the log. Without targets there is nothing to do, but to say so once."""
        if type(message) is not bytes:
            message = payload(message)
        if targets:
            return self.log.append(targets, message, wake=wake)
        self.log.check_open()
        if not self._warned:
            self._warned = True
            log.warning("a message was submitted to a pool without producers: it went nowhere")
        return self.log.receipt.made(OpenPage(self.log, targets), 0)

    def targets(self, to: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the producers that *to* names: one id, several, or None for all."""
        if to is None:
            return self.roster.all
        return self.roster.one(to) if isinstance(to, str) else self.roster.many(to)

    def several(self, messages: Iterable[bytes | str]) -> Iterable[bytes | str]:
        """
        Return *messages* if they are several: of one text, each letter would be a message.

        Raises:
            UsageError: they are one.
        """
        if isinstance(messages, str | bytes | bytearray | memoryview):
            raise UsageError(
                f"expected several messages, got one {type(messages).__name__}; use submit() for one"
            )
        return messages

    def process(self, engine: Engine, *, pages_only: bool = False) -> None:
        """Hand all that lies in the log to the engine. On the loop, or with *pages_only* in its place."""
        if self._processing:
            return  # Called from inside: what it is in the middle of comes first.
        self._processing = True
        try:
            for entry in self.log.swap(pages_only=pages_only):
                try:
                    if isinstance(entry, OpenPage):
                        engine.take(entry, Batch.owning(entry.give_away()))
                    else:
                        entry()
                except Exception:
                    log.exception("unexpected; what was submitted after it goes on")
        finally:
            self._processing = False


_NO_WIRING = Wiring()


class AsyncProducerPool:
    """
    Forwards messages to many consumers, on the running event loop.

    ::

        async with AsyncProducerPool() as pool:
            await pool.add_producer("database-writer", "tcp://127.0.0.1:9000")
            results = await pool.forward_to_all("hello")

    Not thread-safe: threads use ProducerPool. A failed delivery is never raised: it is in the results,
    and in the log.
    """

    def __init__(
        self,
        *,
        policy: DeliveryPolicy | None = None,
        limits: Limits | None = None,
        factory: ClientFactory | None = None,
    ) -> None:
        """
        Make a pool. Nothing happens until something is added or submitted.

        *policy* is for producers that bring none; the default is ``DeliveryPolicy.direct()``.
        """
        self.limits = checked_limits(limits) or Limits()
        self._entrance = Entrance(SubmitLog(self._wake, AsyncReceipt), policy, factory)
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._gone = asyncio.Event()
        """Set when closing is over."""

    @classmethod
    async def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        policy: DeliveryPolicy | None = None,
        factory: ClientFactory | None = None,
    ) -> Self:
        """
        Make a pool with the producers that ``PRODUCER_<ID>=url`` variables name.

        Raises:
            ConfigurationError: a variable cannot be used; the text names it and says what to write.
        """
        from producer_pool.discovery.config import Settings
        from producer_pool.discovery.factory import ClientFactory

        settings = Settings.from_env(environ)
        factory = factory or ClientFactory.of(settings)
        pool = cls(policy=policy or settings.delivery, limits=settings.limits, factory=factory)
        try:
            for producer in settings.producers:
                await pool.add_producer(producer.id, producer.url)
        except BaseException:
            await pool.aclose(drain=0)
            raise
        return pool

    # -- producers ---------------------------------------------------------------------------------

    async def add_producer(
        self,
        producer_id: str,
        to: str | Client,
        *,
        policy: DeliveryPolicy | None = None,
        timeout: float | None = None,
    ) -> None:
        """
        Add a producer for a URL or for a client of your own. Does not wait for its consumer.

        Raises:
            DuplicateProducer: the id is taken.
            ConfigurationError, PluginError: the URL, or a client that cannot do what the policy asks.
            UsageError: the client cannot be driven.
        """
        engine = self._running()
        roster = self._entrance.roster
        roster.reserve(producer_id)
        try:
            producer = self._entrance.producer(producer_id, to, policy, timeout)
        except BaseException:
            roster.free(producer_id)
            raise
        self._entrance.process(engine)
        self._entrance.announce(engine, self)
        engine.add(producer)
        roster.publish(producer_id)

    async def remove_producer(self, producer_id: str, *, drain: bool = True) -> None:
        """
        Remove a producer. What it has is delivered first, within the pool's drain time, or CANCELLED.

        Raises:
            UnknownProducer: there is none of this id.
        """
        engine = self._running()
        self._entrance.roster.discard(producer_id)
        self._entrance.process(engine)
        try:
            await engine.remove(producer_id, self.limits.drain if drain else 0.0)
        finally:
            self._entrance.roster.free(producer_id)

    @property
    def factory(self) -> ClientFactory:
        """What makes clients and listeners from URLs."""
        return self._entrance.factory

    @property
    def producers(self) -> tuple[str, ...]:
        """The ids of the producers, in the order of adding."""
        return self._entrance.roster.all

    # -- messages ----------------------------------------------------------------------------------

    async def forward_to_all(self, message: bytes | str, *, wait: float | None = None) -> Results:
        """Forward a message to every producer, return the results: PENDING if *wait* seconds were too few."""
        return await (await self.submit(message)).results(wait)

    async def forward_to(
        self, producer_id: str, message: bytes | str, *, wait: float | None = None
    ) -> ForwardResult:
        """
        Forward a message to one producer and return its result.

        Raises:
            UnknownProducer: there is none of this id.
        """
        return (await (await self.submit(message, to=producer_id)).results(wait))[producer_id]

    async def forward_to_many(
        self, producer_ids: Iterable[str], message: bytes | str, *, wait: float | None = None
    ) -> Results:
        """
        Forward a message to some producers and return the results.

        Raises:
            UnknownProducer: one of the ids does not exist; nothing was sent to any.
        """
        targets = self._entrance.roster.many(producer_ids)
        return await (await self.submit(message, to=targets)).results(wait)

    async def submit(self, message: bytes | str, *, to: str | Iterable[str] | None = None) -> AsyncReceipt:
        """
        Enqueue a message and return its receipt. Waits for no consumer, unless Overflow.BLOCK asks for it.

        Raises:
            Full: a producer with Overflow.BLOCK had no room within its deadline; nothing was accepted.
            UnknownProducer: nothing was accepted.
        """
        targets = self._entrance.targets(to)
        if self._entrance.log.held or self._loop is not asyncio.get_running_loop():
            await self._room(targets)
        return self._entrance.append(targets, message)

    def submit_nowait(self, message: bytes | str, *, to: str | Iterable[str] | None = None) -> AsyncReceipt:
        """
        Enqueue a message and return its receipt at once.

        Raises:
            Full: a producer with Overflow.BLOCK has no room; nothing was accepted.
            UnknownProducer: nothing was accepted.
        """
        targets = self._entrance.targets(to)
        self._running()
        if self._entrance.log.crowded:
            self._process()  # A caller that never waits must not pile up what nobody has counted yet.
        if stuck := self._entrance.log.stuck(targets):
            raise Full(f"{stuck}: no room (overflow=block)")
        return self._entrance.append(targets, message)

    async def submit_many(
        self, messages: Iterable[bytes | str], *, to: str | Iterable[str] | None = None
    ) -> list[AsyncReceipt]:
        """Enqueue messages in their order and return a receipt for each."""
        targets = self._entrance.targets(to)
        receipts = []
        for message in self._entrance.several(messages):
            if self._entrance.log.held or self._loop is not asyncio.get_running_loop():
                await self._room(targets)
            receipts.append(self._entrance.append(targets, message))
        return receipts

    # -- asking ------------------------------------------------------------------------------------

    async def stats(self) -> PoolStats:
        """Return a copy of all counters, taken at one moment; once the pool is closed, the last ones."""
        engine = self._known()
        self._entrance.process(engine)
        return engine.stats()

    async def health(self) -> dict[str, Health]:
        """Return how each consumer does, as its messages tell."""
        return self._known().health()

    async def check(self, *, wait: float = 5.0) -> dict[str, Health]:
        """Try to reach every consumer now; return how each does after at most *wait* seconds."""
        return await self._running().check(wait)

    @property
    def intake(self) -> Intake:
        """What a listener pours into; see bind_transport()."""
        return self._running()

    @property
    def engine(self) -> Engine:
        """What does the work. For the modules of this package."""
        return self._running()

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self, *, wait: float | None = None) -> bool:
        """Wait until everything submitted is settled, at most *wait* seconds; say whether it is."""
        engine = self._running()
        self._entrance.process(engine)
        return await engine.drain(wait)

    async def aclose(self, *, drain: float | None = None) -> None:
        """
        Close the pool. What is queued gets *drain* seconds (None: the pool's limit); the rest is CANCELLED.

        May be called twice.

        Raises:
            ForkedPool: called in a forked child.
        """
        if self._forked:
            self._entrance.log.check_open()
        if self._closed:
            await self._gone.wait()
            return
        self._closed = True
        seconds = self.limits.drain if drain is None else drain
        engine = self._engine
        self._entrance.log.close(PoolClosed("the pool is closed"))
        try:
            if engine is not None:
                self._entrance.take_leave(self, seconds)
                self._entrance.process(engine)
                await engine.aclose(seconds)
                await self._entrance.close_letters()
        finally:
            self._gone.set()

    async def __aenter__(self) -> Self:
        self._running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A forked child that ends inside of the block leaves the pool to its parent.
        if not self._forked:
            await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.producers) or 'without producers'}>"

    # -- inside ------------------------------------------------------------------------------------

    @property
    def _forked(self) -> bool:
        return isinstance(self._entrance.log.refusal, ForkedPool)

    def _running(self) -> Engine:
        """Return the engine, started on the running loop when first asked for."""
        self._entrance.log.check_open()
        loop = asyncio.get_running_loop()
        if self._engine is None:
            self._loop = loop
            # A forked child that ends cancels the tasks: what they wait for must stay in the parent's epoll.
            keep_from_children(*filter(None, [getattr(loop, "_selector", None)]), poller=True)
            self._engine = Engine(self.limits)
            self._engine.on_blocked.append(self._tell_blocked)
            self._entrance.announce(self._engine, self)
        elif self._loop is not loop:
            raise UsageError("this pool belongs to another event loop; make one in each asyncio.run()")
        return self._engine

    def _known(self) -> Engine:
        """Return the engine, also when the pool is closed: it can still be asked."""
        return self._engine if self._closed and self._engine is not None else self._running()

    def _tell_blocked(self) -> None:
        assert self._engine is not None
        self._entrance.log.blocked = frozenset(self._engine.blocked)

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(self._process)

    def _process(self) -> None:
        if self._engine is not None:
            self._entrance.process(self._engine)

    async def _room(self, targets: Sequence[str]) -> None:
        """Wait until there is room for *targets*, at most the shortest of their deadlines."""
        engine = self._running()
        submits = self._entrance.log
        if submits.crowded:
            await asyncio.sleep(0)
        if not submits.stuck(targets):
            return
        wait = engine.patience(targets)
        try:
            async with asyncio.timeout(wait):
                await engine.room_for(targets)
        except TimeoutError:
            stuck = submits.stuck(targets)
            raise Full(f"{stuck}: no room within {wait:g} s (overflow=block); nothing was accepted") from None
