"""The pool for threads: the same verbs as for asyncio, over one loop thread of its own."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from producer_pool.contract.ports import Client
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.receipts import Receipt
from producer_pool.model.amounts import check_seconds
from producer_pool.model.errors import ForkedPool, PoolClosed
from producer_pool.model.outcomes import ForwardResult, Results
from producer_pool.model.policies import DeliveryPolicy, Limits, Spool, checked_limits, checked_spool
from producer_pool.model.stats import Health, PoolStats
from producer_pool.worker import GRACE, Worker

if TYPE_CHECKING:
    from producer_pool.discovery.factory import ClientFactory

__all__ = ["ProducerPool"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class ProducerPool:
    """
    Forwards messages to many consumers, from any thread.

    ::

        with ProducerPool() as pool:
            pool.add_producer("database-writer", "tcp://127.0.0.1:9000")
            results = pool.forward_to_all("hello")

    A failed delivery is never raised: it is in the results, and in the log. One thread of the pool's
    own does all sending; it starts when the first producer is added. asyncio programs use
    AsyncProducerPool.
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
        Make a pool. Nothing happens until something is added.

        *policy* is for producers that bring none; the default is ``DeliveryPolicy.direct()``. *spool* is
        the folder in which messages are stored before they are forwarded, so that they outlive the
        process; it is opened when the pool begins to work, and that call raises StorageError if it
        cannot be. What a policy gives up is settled, stored or not: with a spool, relay() is meant.
        """
        self.limits = checked_limits(limits) or Limits()
        self._worker = Worker(self.limits, policy, factory, checked_spool(spool))
        self._entrance = self._worker.entrance
        self._log = self._entrance.log
        self._roster = self._entrance.roster
        self._forgotten = weakref.finalize(self, self._worker.ask_to_stop, self.limits.drain)
        self._forgotten.atexit = False

    @classmethod
    def from_env(
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
        for producer in settings.producers:
            pool.add_producer(producer.id, producer.url)
        return pool

    # -- producers ---------------------------------------------------------------------------------

    def add_producer(
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
        worker = self.worker()
        roster = self._entrance.roster
        roster.reserve(producer_id)
        try:
            producer = self._entrance.producer(producer_id, to, policy, timeout)
            self._log.call(lambda: worker.add(producer))
        except BaseException:
            roster.free(producer_id)
            raise
        roster.publish(producer_id)

    def remove_producer(self, producer_id: str, *, drain: bool = True) -> None:
        """
        Remove a producer. What it has is delivered first, within the pool's drain time, or CANCELLED.

        Raises:
            UnknownProducer: there is none of this id.
            WrongThread: called on the pool's own thread.
        """
        self._log.check_may_wait()
        worker = self.worker()
        roster = self._entrance.roster
        roster.discard(producer_id)
        seconds = self.limits.drain if drain else 0.0

        free = partial(roster.free, producer_id)

        async def remove(engine: Engine) -> None:
            # What lies in a spool, lies there under the id.
            await engine.remove(producer_id, seconds, free if engine.stores else None)

        try:
            worker.run(remove)
        finally:
            if not self._log.stores:
                free()

    @property
    def factory(self) -> ClientFactory:
        """What makes clients and listeners from URLs."""
        return self._entrance.factory

    @property
    def producers(self) -> tuple[str, ...]:
        """The ids of the producers, in the order of adding."""
        return self._entrance.roster.all

    @property
    def closed(self) -> bool:
        """Whether it takes nothing any more: it was closed, or belongs to the parent of a forked child."""
        return self._log.refusal is not None

    # -- messages ----------------------------------------------------------------------------------

    def forward_to_all(self, message: bytes | str, *, wait: float | None = None) -> Results:
        """
        Forward a message to every producer and return the results; PENDING if *wait* seconds were too few.

        Raises:
            WrongThread: called on the pool's own thread.
        """
        return self._forward(self._roster.all, message, wait)

    def forward_to(
        self, producer_id: str, message: bytes | str, *, wait: float | None = None
    ) -> ForwardResult:
        """
        Forward a message to one producer and return its result.

        Raises:
            UnknownProducer: there is none of this id.
            WrongThread: called on the pool's own thread.
        """
        return self._forward(self._roster.one(producer_id), message, wait)[producer_id]

    def forward_to_many(
        self, producer_ids: Iterable[str], message: bytes | str, *, wait: float | None = None
    ) -> Results:
        """
        Forward a message to some producers and return the results.

        Raises:
            UnknownProducer: one of the ids does not exist; nothing was sent to any.
            WrongThread: called on the pool's own thread.
        """
        return self._forward(self._roster.many(producer_ids), message, wait)

    def submit(self, message: bytes | str, *, to: str | Iterable[str] | None = None) -> Receipt:
        """
        Enqueue a message and return its receipt. Waits for no consumer, unless Overflow.BLOCK asks for it.

        Raises:
            Full: a producer with Overflow.BLOCK had no room within its deadline; nothing was accepted.
            UnknownProducer: nothing was accepted.
        """
        targets = self._roster.all if to is None else self._entrance.targets(to)
        submits = self._log
        if submits.held:
            self._room(targets)
        if type(message) is not bytes or not targets:
            return self._entrance.append(targets, message)
        return submits.append(targets, message)

    def submit_nowait(self, message: bytes | str, *, to: str | Iterable[str] | None = None) -> Receipt:
        """
        Enqueue a message and return its receipt at once.

        Raises:
            Full: a producer with Overflow.BLOCK has no room; nothing was accepted.
            UnknownProducer: nothing was accepted.
        """
        targets = self._entrance.targets(to)
        if self._log.stuck(targets):
            raise self._log.full(targets)
        return self._entrance.append(targets, message)

    def submit_many(
        self, messages: Iterable[bytes | str], *, to: str | Iterable[str] | None = None
    ) -> list[Receipt]:
        """Enqueue messages in their order and return a receipt for each."""
        targets = self._entrance.targets(to)
        receipts = []
        for message in self._entrance.several(messages):
            if self._log.held:
                self._room(targets)
            receipts.append(self._entrance.append(targets, message))
        return receipts

    # -- asking ------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return a copy of all counters, taken at one moment; once the pool is closed, the last ones."""
        return self._asked(Engine.stats)

    def health(self) -> dict[str, Health]:
        """Return how each consumer does, as its messages tell."""
        return self._asked(Engine.health)

    def check(self, *, wait: float = 5.0) -> dict[str, Health]:
        """Try to reach every consumer now; return how each does after at most *wait* seconds."""
        check_seconds("wait", wait)

        async def ask(engine: Engine) -> dict[str, Health]:
            return await engine.check(wait)

        return self.worker().run(ask)

    # -- the end -----------------------------------------------------------------------------------

    def drain(self, *, wait: float | None = None) -> bool:
        """Wait until everything submitted is settled, at most *wait* seconds; say whether it is."""
        check_seconds("wait", wait)

        async def ask(engine: Engine) -> bool:
            return await engine.drain(wait)

        return self.worker().run(ask)

    def close(self, *, drain: float | None = None) -> None:
        """
        Close the pool. What is queued gets *drain* seconds (None: the pool's limit); the rest is CANCELLED.

        May be called twice.

        Raises:
            WrongThread: called on the pool's own thread.
            ForkedPool: called in a forked child.
        """
        check_seconds("drain", drain)
        self._log.check_may_wait()
        seconds = self.limits.drain if drain is None else drain
        # Each time: an interrupt may have kept an earlier call from asking.
        self._forgotten.detach()
        self._worker.ask_to_stop(seconds)
        if not self._worker.join(seconds + GRACE):
            log.error("the pool's thread did not end within %g s; it is left behind", seconds + GRACE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A forked child that ends inside of the block leaves the pool to its parent.
        if not isinstance(self._log.refusal, ForkedPool):
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.producers) or 'without producers'}>"

    # -- inside ------------------------------------------------------------------------------------

    def worker(self) -> Worker:
        """Return the loop thread, started. For the modules of this package."""
        self._worker.start(self)
        return self._worker

    def _asked(self, question: Callable[[Engine], T]) -> T:
        """Return the engine's answer. When its thread is over, it can be asked from here."""
        engine = self._worker.engine
        if type(self._log.refusal) is PoolClosed and engine is not None and self._worker.join(0.0):
            return question(engine)

        async def ask(engine: Engine) -> T:
            return question(engine)

        return self.worker().run(ask)

    def _forward(self, targets: tuple[str, ...], message: bytes | str, wait: float | None) -> Results:
        """Submit a message, and wait for its results."""
        if wait is not None:
            check_seconds("wait", wait)
        self._log.check_may_wait()
        if self._log.held:
            self._room(targets)
        answer = self._worker.forward(targets, message)
        return answer if isinstance(answer, Results) else answer.results(wait)

    def _room(self, targets: tuple[str, ...]) -> None:
        """Wait until there is room for *targets*, at most the shortest of their deadlines."""
        engine = self._worker.engine
        if engine is not None:
            self._log.wait_for_room(targets, lambda: engine.patience(targets) or self.limits.drain)
