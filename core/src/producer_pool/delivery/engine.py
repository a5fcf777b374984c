"""The fan-out: producers, the bound over all of them, accounting, and the end."""
# Rule: everything here runs on one event loop. No producer can make another one wait, but by Overflow.BLOCK.

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from producer_pool.contract.ports import Observer
from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Cancelled
from producer_pool.model.outcomes import ForwardResult, Outcome
from producer_pool.model.policies import Limits, Overflow
from producer_pool.model.stats import Health, PoolStats

__all__ = ["Engine"]

log = logging.getLogger(__name__)

PIECES: Final = 4
"""A batch that came from a listener fills at most this part of the smallest buffer; larger ones are cut."""


class Engine:
    """
    Forwards every batch to many producers. It is what listeners pour into (an Intake).

    *blocked_changed* is called with the ids of the producers whose source has to wait, when they change.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = Budget(limits.buffer)
        self.observers: list[Observer] = []
        self.blocked: set[str] = set()
        """Producers whose source has to wait."""
        self._producers: dict[str, Producer] = {}
        self._ids: tuple[str, ...] = ()
        self._leaving: set[Producer] = set()
        self._loop = asyncio.get_running_loop()
        self._go_on = asyncio.Event()
        self._go_on.set()
        self._freed = asyncio.Event()
        self._largest_piece = limits.buffer
        self._warned = False
        self.on_blocked: list[Callable[[], None]] = []
        """Called when `blocked` changes."""

    # -- producers ---------------------------------------------------------------------------------

    def add(self, producer: Producer) -> None:
        """Take on a producer; what comes from now on goes to it too."""
        producer.on_blocked = self._blocked
        self._producers[producer.id] = producer
        self._changed()
        producer.start()

    def remove(self, producer_id: str, drain: float) -> asyncio.Task[None]:
        """Let a producer go: nothing new goes to it from now on; what it has gets *drain* seconds."""
        producer = self._producers.pop(producer_id)
        self._changed()
        self._leaving.add(producer)
        ending = self._loop.create_task(self._end(producer, drain), name=f"remove {producer_id}")
        ending.add_done_callback(lambda _: self._leaving.discard(producer))
        return ending

    def _changed(self) -> None:
        self._ids = tuple(self._producers)
        buffers = [producer.policy.buffer for producer in self._producers.values()]
        self._largest_piece = min([self.limits.buffer, *buffers]) // PIECES

    async def _end(self, producer: Producer, drain: float) -> None:
        if drain > 0:
            try:
                async with asyncio.timeout(drain):
                    await producer.drain()
            except TimeoutError:
                pass
        left = producer.outbox.pending()
        if left:
            log.warning("%s: %d messages were not delivered before it was closed", producer.id, left)
        await producer.aclose()
        self._blocked(producer, False)

    # -- taking in: the Intake ---------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether a source should wait: a producer with Overflow.BLOCK is full."""
        return bool(self.blocked)

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
        producers = [self._producers[target] for target in targets if target in self._producers]
        return min((producer.outbox.deadline for producer in producers), default=0.0)

    def feed(self, batch: Batch) -> None:
        """Forward *batch* to every producer, and tell nobody what becomes of it."""
        if batch.cost > self._largest_piece:
            for piece in _pieces(batch, self._largest_piece):
                self._take(Page(None, self._ids, tracked=False), piece)
        else:
            self._take(Page(None, self._ids, tracked=False), batch)

    def accept(self, batch: Batch) -> BatchReceipt:
        """Forward *batch* to every producer, and return a receipt for whoever acknowledges it upstream."""
        page = Page(None, self._ids, tracked=True)
        self._take(page, batch)
        return BatchReceipt(page)

    def take(self, page: Page, batch: Batch) -> None:
        """Forward the batch of a page to the page's targets."""
        self._take(page, batch)

    def _take(self, page: Page, batch: Batch) -> None:
        page.open(self.budget, batch)
        now = self._loop.time()
        refusing: set[str] | None = None
        if self.budget.used + page.cost > self.budget.limit:
            refusing = self._relieve(page.cost)
        for producer_id in page.targets:
            producer = self._producers.get(producer_id)
            if producer is None:
                self._gone(page, producer_id)
            elif refusing and producer_id in refusing:
                producer.overflow(page, now)
            else:
                producer.offer(page, now)
        if not page.targets and not self._warned:
            self._warned = True
            log.warning("a message came, but the pool has no producers: it went nowhere")

    def _relieve(self, cost: int) -> set[str]:
        """
        Make room at the pool's own bound; return who has to refuse the next batch.

        Those whose backlog is above their fair share apply their own overflow policy, the largest
        first, so that a dead consumer's backlog costs the others nothing.
        """
        share = self.budget.limit // max(len(self._producers), 1)
        heavy = [producer for producer in self._producers.values() if producer.outbox.nbytes > share]
        heavy.sort(key=lambda producer: producer.outbox.nbytes, reverse=True)
        refusing = set()
        for producer in heavy:
            outbox = producer.outbox
            if outbox.policy.overflow is Overflow.BLOCK:
                outbox.block()
                continue
            if outbox.policy.overflow is Overflow.DROP_OLDEST:
                while outbox.waiting and outbox.nbytes > share and self._is_over(cost):
                    outbox.drop_oldest()
            if not self._is_over(cost):
                break
            refusing.add(producer.id)
        return refusing

    def _is_over(self, cost: int) -> bool:
        return self.budget.used + cost > self.budget.limit

    def _gone(self, page: Page, producer_id: str) -> None:
        """Settle a message for a producer that was removed while it was being submitted."""
        track = page.track(producer_id)
        if track is not None and page.batch is not None:
            error = Cancelled(f"{producer_id}: the producer was removed")
            result = ForwardResult(producer_id, Outcome.CANCELLED, None, error)
            track.run(len(page.batch), len(page.batch), result)
            page.settled()

    def _blocked(self, producer: Producer, yes: bool) -> None:
        if yes:
            self.blocked.add(producer.id)
        else:
            self.blocked.discard(producer.id)
            self._freed.set()
        if self.blocked:
            self._go_on.clear()
        else:
            self._go_on.set()
        for listener in self.on_blocked:
            listener()

    # -- asking ------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return a copy of all counters, taken at one moment."""
        producers = {}
        for producer in (*self._leaving, *self._producers.values()):
            outbox = producer.outbox
            producers[producer.id] = replace(outbox.stats, pending_bytes=outbox.nbytes)
        errors = sum(producer.observer_errors for producer in self._producers.values())
        return PoolStats(producers, self.budget.used, errors)

    def health(self) -> dict[str, Health]:
        """Return how each consumer does."""
        return {producer.id: producer.health() for producer in self._producers.values()}

    async def check(self, wait: float) -> dict[str, Health]:
        """Try to reach every consumer now, all at once, and return how that went within *wait* seconds."""
        producers = list(self._producers.values())
        tasks = [asyncio.ensure_future(producer.check()) for producer in producers]
        if tasks:
            await asyncio.wait(tasks, timeout=wait)
        for task in tasks:
            task.cancel()
        return {producer.id: producer.health() for producer in producers}

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self, wait: float | None) -> bool:
        """Wait until nothing is queued or in flight, at most *wait* seconds; say whether that is so."""
        producers = [*self._producers.values(), *self._leaving]
        tasks = [asyncio.ensure_future(producer.drain()) for producer in producers]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=wait)
            for task in late:
                task.cancel()
        return all(producer.outbox.empty for producer in producers)

    async def aclose(self, drain: float) -> None:
        """Close all producers; what they have gets *drain* seconds. May be called twice."""
        producers = list(self._producers.values())
        await asyncio.gather(*(self._end(producer, drain) for producer in producers))


def _pieces(batch: Batch, most: int) -> Iterator[Batch]:
    """Cut a batch that is too large for somebody's buffer."""
    room = most - (batch.cost - batch.nbytes)
    piece: list[bytes] = []
    size = 0
    for message in batch.messages:
        if piece and size + len(message) > room:
            yield Batch.of(piece, received=batch.received, origin=batch.origin)
            piece, size = [], 0
        piece.append(message)
        size += len(message)
    yield Batch.of(piece, received=batch.received, origin=batch.origin)
