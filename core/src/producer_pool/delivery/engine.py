"""The fan-out: producers, the bound over all of them, accounting, and the end."""
# Rule: everything here runs on one event loop. No producer can make another one wait, but by Overflow.BLOCK.

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any

from producer_pool.delivery.containment import CLOSING, peers_of
from producer_pool.delivery.observers import Observers
from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Cancelled
from producer_pool.model.outcomes import ForwardResult, Outcome
from producer_pool.model.policies import Limits, Overflow, Role
from producer_pool.model.stats import Health, PoolStats
from producer_pool.model.text import format_size

__all__ = ["Engine"]

log = logging.getLogger(__name__)


class Engine:
    """Forwards every batch to many producers. It is what listeners pour into (an Intake)."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = Budget(limits.buffer)
        self.observers = Observers()
        self.blocked: set[str] = set()
        """Producers whose source has to wait."""
        self._producers: dict[str, Producer] = {}
        self._roles: dict[str, Role] = {}
        """Those of the producers that are not required."""
        self._ids: tuple[str, ...] = ()
        self._leaving: dict[Producer, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._go_on = asyncio.Event()
        self._go_on.set()
        self._freed = asyncio.Event()
        self._warned = False
        self.on_blocked: list[Callable[[], None]] = []
        """Called when `blocked` changes."""
        self.sources: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What closes the servers that pour into this: before the producers, that all has arrived by then."""

    # -- producers ---------------------------------------------------------------------------------

    def add(self, producer: Producer) -> None:
        """Take on a producer; what comes from now on goes to it too."""
        producer.on_blocked = self._on_producer_blocked
        producer.observers = self.observers
        self._producers[producer.id] = producer
        self._ids = tuple(self._producers)
        there = (*self._leaving, *self._producers.values())
        self._roles = {one.id: one.policy.role for one in there if one.policy.role is not Role.REQUIRED}
        producer.start()

    def remove(self, producer_id: str, drain: float) -> asyncio.Future[None]:
        """
        Let a producer go: nothing new goes to it from now on; what it has gets *drain* seconds.

        Returns what can be waited for. To stop waiting does not stop it.
        """
        producer = self._producers.pop(producer_id)
        self._ids = tuple(self._producers)
        producer.on_blocked = None
        self._set_blocked(producer_id, False)
        ending = self._loop.create_task(self._end(producer, drain), name=f"remove {producer_id}")
        self._leaving[producer] = ending
        ending.add_done_callback(lambda _: self._leaving.pop(producer))
        return asyncio.shield(ending)

    async def _end(self, producer: Producer, drain: float) -> None:
        enough = self._loop.call_later(drain, producer.give_up)
        try:
            if drain > 0:
                await producer.drain()
        finally:
            enough.cancel()
            left = producer.outbox.pending()
            if left:
                log.warning("%s: %d messages were not delivered before it was closed", producer.id, left)
            await producer.aclose()

    # -- taking in: the Intake ---------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether a source should wait: a producer with Overflow.BLOCK is full."""
        return bool(self.blocked)

    @property
    def stores(self) -> bool:
        """Whether batches are put into durable storage."""
        return False

    async def resumed(self) -> None:
        """Wait until no source has to wait."""
        await self._go_on.wait()

    async def room_for(self, targets: Sequence[str]) -> None:
        """Wait until none of *targets* has its source wait."""
        while not self.blocked.isdisjoint(targets):
            self._freed.clear()
            await self._freed.wait()

    def patience(self, targets: Sequence[str]) -> float:
        """Return the shortest deadline among *targets*, in seconds: how long a source may be made to wait."""
        # Threads ask, while the loop removes.
        producers = [found for target in targets if (found := self._producers.get(target)) is not None]
        return min((producer.outbox.deadline for producer in producers), default=0.0)

    def feed(self, batch: Batch) -> None:
        """Forward *batch* to every producer, and tell nobody what becomes of it."""
        self.take(Page(None, self._ids, tracked=False), batch)

    def accept(self, batch: Batch) -> BatchReceipt:
        """Forward *batch* to every producer, and return a receipt for whoever acknowledges it upstream."""
        page = Page(None, self._ids, tracked=True, upstream=True)
        self.take(page, batch)
        return BatchReceipt(page, self._loop)

    def take(self, page: Page, batch: Batch) -> None:
        """Forward *batch*, which is that of *page*, to the page's targets."""
        page.open(self.budget, batch, self._roles)
        now = self._loop.time()
        refusing: set[str] | None = None
        if self.budget.used + page.cost > self.budget.limit:
            refusing = self._relieve(page.cost)
        for producer_id in page.targets:
            producer = self._producers.get(producer_id)
            try:
                if producer is None:
                    self._gone(page, producer_id)
                elif refusing and producer_id in refusing:
                    producer.overflow(page, self._full())
                else:
                    producer.offer(page, now)
            except Exception:
                # Nothing is known that gets here. Should there be something, then it stays with this one.
                log.exception("%s: unexpected; a batch was not taken", producer_id)
        if page.holders:
            batch.compact()
        if not page.targets and not self._warned:
            self._warned = True
            log.warning("a message came, but the pool has no producers: it went nowhere")

    def _relieve(self, cost: int) -> set[str]:
        """
        Make room at the pool's own bound; return who has to refuse the next batch.

        Those whose backlog is above their fair share apply their own overflow policy, the largest first,
        so that a dead consumer's backlog costs the others nothing. These others go on, and may bring the
        pool above its bound for a while, by less than their own fair shares. Before any of them, shadows
        let go of what waits for them, whatever their policy.
        """
        share = self.budget.limit // max(len(self._producers), 1)
        backlogs = [producer for producer in self._producers.values() if producer.outbox.nbytes]
        backlogs.sort(key=lambda producer: producer.outbox.nbytes, reverse=True)
        refusing = set()
        others = []
        for producer in backlogs:
            if producer.policy.role is not Role.SHADOW:
                others.append(producer)
                continue
            while producer.outbox.waiting and self._is_over(cost):
                producer.outbox.drop_oldest(f"{producer.id}: {self._full()}")
            if self._is_over(cost):
                refusing.add(producer.id)
        heavy = [producer for producer in others if producer.outbox.nbytes > share] or others[:1]
        for producer in heavy:
            if not self._is_over(cost):
                break
            outbox = producer.outbox
            if outbox.policy.overflow is Overflow.BLOCK:
                outbox.block(min(share, outbox.policy.buffer) // 2)
                continue
            if outbox.policy.overflow is Overflow.DROP_OLDEST:
                while outbox.waiting and outbox.nbytes + cost > share and self._is_over(cost):
                    outbox.drop_oldest(f"{producer.id}: {self._full()}")
                if not self._is_over(cost):
                    break
            refusing.add(producer.id)
        return refusing

    def _full(self) -> str:
        return f"the pool's buffer of {format_size(self.limits.buffer)} is full, and its backlog is large"

    def _is_over(self, cost: int) -> bool:
        return self.budget.used + cost > self.budget.limit

    def _gone(self, page: Page, producer_id: str) -> None:
        """Settle a message for a producer that was removed while it was being submitted."""
        track = page.track(producer_id)
        if track is not None and page.batch is not None:
            error = Cancelled(f"{producer_id}: the producer was removed")
            result = ForwardResult(producer_id, Outcome.CANCELLED, None, error)
            track.run(len(page.batch), len(page.batch), result)
            page.settled(range(len(page.batch)))

    def _on_producer_blocked(self, producer: Producer, yes: bool) -> None:
        self._set_blocked(producer.id, yes)

    def _set_blocked(self, producer_id: str, yes: bool) -> None:
        if yes:
            self.blocked.add(producer_id)
        else:
            self.blocked.discard(producer_id)
            self._freed.set()
        if self.blocked:
            self._go_on.clear()
        else:
            self._go_on.set()
        producer = self._producers.get(producer_id)
        if producer is not None:
            producer.source_waits(yes)
        for listener in self.on_blocked:
            listener()

    # -- asking ------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return a copy of all counters, taken at one moment."""
        producers = {}
        for producer in (*self._leaving, *self._producers.values()):
            outbox = producer.outbox
            producers[producer.id] = replace(
                outbox.stats, pending_bytes=outbox.nbytes, peers=peers_of(producer.client) or 0
            )
        return PoolStats(producers, self.budget.used, self.observers.errors)

    def health(self) -> dict[str, Health]:
        """Return how each consumer does."""
        return {producer.id: producer.health() for producer in self._producers.values()}

    async def check(self, wait: float) -> dict[str, Health]:
        """Try to reach every consumer now, all at once, and return how that went within *wait* seconds."""
        producers = list(self._producers.values())
        await self._together([producer.check() for producer in producers], wait)
        return {producer.id: producer.health() for producer in producers}

    async def _together(self, works: Iterable[Coroutine[Any, Any, object]], wait: float | None) -> None:
        """Do *works* all at once, for at most *wait* seconds, and leave none behind."""
        tasks = [self._loop.create_task(work) for work in works]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=wait)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self, wait: float | None) -> bool:
        """
        Wait until nothing is queued or in flight, at most *wait* seconds; say whether that is so.

        Shadows are not waited for.
        """
        there = (*self._producers.values(), *self._leaving)
        producers = [producer for producer in there if producer.policy.role is not Role.SHADOW]
        await self._together([producer.drain() for producer in producers], wait)
        return all(producer.outbox.empty for producer in producers)

    async def aclose(self, drain: float) -> None:
        """
        Close all producers; what they have gets *drain* seconds. May be called twice.

        If cancelled, it does not wait for what is queued, but still closes.
        """
        began = self._loop.time()
        try:
            await self._together([close() for close in self.sources], drain + 2 * CLOSING)
        finally:
            await self._close_producers(max(began + drain - self._loop.time(), 0.0))

    async def _close_producers(self, drain: float) -> None:
        leaving = list(self._leaving)
        tasks = [self._loop.create_task(self._end(each, drain)) for each in self._producers.values()]
        tasks += self._leaving.values()
        if not tasks:
            return
        hurry = [self._loop.call_later(drain, producer.give_up) for producer in leaving]
        try:
            await asyncio.wait(tasks, timeout=drain + 2.5 * CLOSING)
        finally:
            for handle in hurry:
                handle.cancel()
            for producer in (*leaving, *self._producers.values()):
                producer.give_up()
            await asyncio.wait(tasks, timeout=2 * CLOSING)
