"""The pool for asyncio programs: the engine, with a factory for URLs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Self

from producer_pool.contract.ports import Client, Intake
from producer_pool.deferral import Deferral
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.receipts import AsyncReceipt
from producer_pool.delivery.submitlog import LoopLog
from producer_pool.entrance import Entrance, opened
from producer_pool.loopwatch import LoopWatch
from producer_pool.model.amounts import check_seconds
from producer_pool.model.errors import ForkedPool, PoolClosed, UsageError
from producer_pool.model.outcomes import ForwardResult, Results
from producer_pool.model.policies import DeliveryPolicy, Limits, Spool, checked_limits, checked_spool
from producer_pool.model.stats import Health, PoolStats
from producer_pool.toolkit.sockets.forks import keep_from_children

if TYPE_CHECKING:
    from producer_pool.delivery.store import Store
    from producer_pool.discovery.factory import ClientFactory

__all__ = ["AsyncProducerPool"]


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
        spool: Spool | str | os.PathLike[str] | None = None,
    ) -> None:
        """
        Make a pool. Nothing happens until something is added or submitted.

        *policy* is for producers that bring none; the default is ``DeliveryPolicy.direct()``. *spool* is
        the folder in which messages are stored before they are forwarded, so that they outlive the
        process; it is opened when the pool begins to work, and that call raises StorageError if it
        cannot be. What a policy gives up is settled, stored or not: with a spool, relay() is meant.
        """
        self.limits = checked_limits(limits) or Limits()
        self._spool = checked_spool(spool)
        self._entrance = Entrance(LoopLog(self._wake, AsyncReceipt), policy, factory)
        self._log = self._entrance.log
        self._log.stores = self._spool is not None
        self._roster = self._entrance.roster
        self._engine: Engine | None = None
        self._watch: LoopWatch | None = None
        self._deferral: Deferral | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        """The thread on which that loop ran first; 0: the pool does not work yet."""
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
        policy = policy or settings.delivery
        pool = cls(policy=policy, limits=settings.limits, factory=factory, spool=settings.spool)
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
        roster = self._entrance.roster
        roster.discard(producer_id)
        self._entrance.process(engine)
        free = partial(roster.free, producer_id)
        seconds = self.limits.drain if drain else 0.0
        try:
            # What lies in a spool, lies there under the id.
            await engine.remove(producer_id, seconds, free if engine.stores else None)
        finally:
            if not engine.stores:
                free()

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
        if wait is not None:
            check_seconds("wait", wait)
        return await (await self.submit(message)).results(wait)

    async def forward_to(
        self, producer_id: str, message: bytes | str, *, wait: float | None = None
    ) -> ForwardResult:
        """
        Forward a message to one producer and return its result.

        Raises:
            UnknownProducer: there is none of this id.
        """
        if wait is not None:
            check_seconds("wait", wait)
        self._roster.one(producer_id)  # submit() takes several, too.
        return (await (await self.submit(message, to=producer_id)).results(wait))[producer_id]

    async def forward_to_many(
        self, producer_ids: Iterable[str], message: bytes | str, *, wait: float | None = None
    ) -> Results:
        """
        Forward a message to some producers and return the results.

        Raises:
            UnknownProducer: one of the ids does not exist; nothing was sent to any.
        """
        if wait is not None:
            check_seconds("wait", wait)
        targets = self._entrance.roster.many(producer_ids)
        return await (await self.submit(message, to=targets)).results(wait)

    async def submit(self, message: bytes | str, *, to: str | Iterable[str] | None = None) -> AsyncReceipt:
        """
        Enqueue a message and return its receipt. Waits for no consumer, unless Overflow.BLOCK asks for it.

        Call it on the pool's event loop. Another loop is refused, but not if it runs on the thread where
        the pool's began, while that goes on on another thread.

        Raises:
            Full: a producer with Overflow.BLOCK had no room within its deadline; nothing was accepted.
            UnknownProducer: nothing was accepted.
        """
        targets = self._roster.all if to is None else self._entrance.targets(to)
        submits = self._log
        # get_running_loop() asks the system for the process, which takes longer than all else here.
        if submits.held or get_ident() != self._thread or not self._loop_runs():
            await self._room(targets)
        if type(message) is not bytes or not targets:
            return self._entrance.append(targets, message)
        return submits.append(targets, message)

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
        if self._entrance.log.stuck(targets):
            raise self._entrance.log.full(targets)
        return self._entrance.append(targets, message)

    async def submit_many(
        self, messages: Iterable[bytes | str], *, to: str | Iterable[str] | None = None
    ) -> list[AsyncReceipt]:
        """Enqueue messages in their order and return a receipt for each."""
        targets = self._entrance.targets(to)
        self._running()
        receipts = []
        for message in self._entrance.several(messages):
            if self._entrance.log.held:
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
        check_seconds("wait", wait)
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
        check_seconds("wait", wait)
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
        check_seconds("drain", drain)
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
            if self._watch is not None:
                self._watch.end()
            self._gone.set()
            if self._deferral is not None:
                self._deferral.end()

    async def __aenter__(self) -> Self:
        self._running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A forked child that ends inside of the block leaves the pool to its parent. And a block that is
        # thrown away after its loop cannot wait for anything.
        if not self._forked and (self._loop is None or self._loop.is_running()):
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
            self._deferral = Deferral(loop)
            try:
                self._engine = Engine(self.limits, self._open_store())
            except BaseException:
                self._deferral.end()
                raise
            self._loop_runs = loop.is_running
            self._thread = get_ident()
            self._engine.on_blocked.append(self._tell_blocked)
            self._watch = LoopWatch(loop, self.limits.watchdog)
            self._entrance.announce(self._engine, self)
        elif self._loop is not loop:
            raise UsageError("this pool belongs to another event loop; make one in each asyncio.run()")
        return self._engine

    def _open_store(self) -> Store | None:
        return opened(self._spool)

    def _known(self) -> Engine:
        """Return the engine, also when the pool is closed: it can still be asked."""
        return self._engine if self._closed and self._engine is not None else self._running()

    def _tell_blocked(self) -> None:
        assert self._engine is not None
        self._entrance.log.blocked = frozenset(self._engine.blocked)
        self._entrance.log.jam = self._engine.jam

    def _wake(self) -> None:
        assert self._loop is not None
        self._loop.call_soon(self._process)

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
            raise submits.full(targets, wait) from None
