"""The fan-out: producers, the bound over all of them, accounting, and the end."""
# Rule: everything here runs on one event loop. No producer can make another one wait, but by Overflow.BLOCK.

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from producer_pool.delivery.containment import CLOSING, peers_of
from producer_pool.delivery.convoy import Convoy
from producer_pool.delivery.link import Link
from producer_pool.delivery.observers import Observers
from producer_pool.delivery.page import AcceptedPage, Budget, Page
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Cancelled
from producer_pool.model.framing import Framing
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.model.policies import Limits, Overflow, Role
from producer_pool.model.stats import Health, PoolStats, ProducerStats
from producer_pool.model.text import format_count, format_size

if TYPE_CHECKING:
    from producer_pool.contract.ports import Observer
    from producer_pool.delivery.lane import Lane
    from producer_pool.delivery.store import Store
    from producer_pool.delivery.writeahead import WriteAhead

__all__ = ["Engine"]

log = logging.getLogger(__name__)

_BITES: Final = 16
"""So many batches, or more, fit into each producer's buffer, where their source can choose."""

_SLOW: Final = "the spool is behind: its disk is slower than what comes"


class Engine:
    """Forwards every batch to many producers. It is what listeners pour into (an Intake)."""

    def __init__(self, limits: Limits, store: Store | None = None) -> None:
        """Make an engine without producers; with *store*, every batch is put there before it is forwarded."""
        self.limits = limits
        self.budget = Budget(limits.buffer)
        self.observers = Observers()
        self.blocked: set[str] = set()
        """Producers whose source has to wait."""
        self._producers: dict[str, Producer] = {}
        self._roles: dict[str, Role] = {}
        """Those of the producers that are not required."""
        self._ids: tuple[str, ...] = ()
        self._convoys: dict[Framing, Convoy] = {}
        self._convoy: Convoy | None = None
        """That of the last batch."""
        self._leaving: dict[Producer, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._go_on = asyncio.Event()
        self._go_on.set()
        self._freed = asyncio.Event()
        self._jammed = False
        """Whether all producers were told that their sources wait for the store."""
        self._warned = False
        self.on_blocked: list[Callable[[], None]] = []
        """Called when `blocked` changes."""
        self.sources: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What closes the servers that pour into this: before the producers, that all has arrived by then."""
        self._ahead: WriteAhead | None = None
        self._held: set[Page] | None = None
        """Pages that somebody is to be told of, and whose batches may lie in the store only."""
        if store is not None:
            from producer_pool.delivery.writeahead import WriteAhead  # and all about lanes with it

            self._ahead = WriteAhead(store, self)
            self._held = set()

    # -- producers ---------------------------------------------------------------------------------

    def add(self, producer: Producer) -> None:
        """Take on a producer; what comes from now on goes to it too."""
        producer.on_blocked = self._on_producer_blocked
        producer.observers = self.observers
        self._producers[producer.id] = producer
        self._ids = tuple(self._producers)
        there = (*self._leaving, *self._producers.values())
        self._roles = {one.id: one.policy.role for one in there if one.policy.role is not Role.REQUIRED}
        if self._ahead is not None:
            self._ahead.add(producer)
        if self._jammed:
            producer.source_waits(True, _SLOW)
        producer.start()

    def remove(
        self, producer_id: str, drain: float, gone: Callable[[], None] | None = None
    ) -> asyncio.Future[None]:
        """
        Let a producer go: nothing new goes to it from now on; what it has gets *drain* seconds.

        Returns what can be waited for. To stop waiting does not stop it. *gone* is called when it is over.
        """
        producer = self._producers.pop(producer_id)
        producer.part()
        self._ids = tuple(self._producers)
        if self._ahead is not None:
            self._ahead.remove(producer)
        else:
            producer.on_blocked = None
        self._set_blocked(producer_id, False)
        ending = self._loop.create_task(self._end(producer, drain), name=f"remove {producer_id}")
        self._leaving[producer] = ending
        ending.add_done_callback(lambda _: self._forget(producer))
        if gone is not None:
            ending.add_done_callback(lambda _: gone())
        return asyncio.shield(ending)

    def _forget(self, producer: Producer) -> None:
        del self._leaving[producer]
        if self._ahead is not None:
            self._ahead.forget(producer)

    async def _end(self, producer: Producer, drain: float, *, keep: bool = False) -> None:
        """Close a producer. What is left of it stays in the store, if there is one, with *keep*."""
        way = self._way(producer)
        if producer.policy.role is Role.SHADOW:
            drain = min(drain, CLOSING)
        enough = self._loop.call_later(drain, way.give_up)
        try:
            if drain > 0:
                producer.end_by(self._loop.time() + drain, way.give_up)
                await way.drain()
        finally:
            enough.cancel()
            left = self._counters(producer).pending
            if not isinstance(way, Producer):
                way.stop(keep=keep)
            try:
                await producer.aclose()
            finally:
                if not isinstance(way, Producer) and self._ahead is not None:
                    await self._ahead.end(way, keep=keep)
                    stored = way.left_stored
                    left -= stored
                    if stored:
                        log.info("%s: %s kept in the spool", producer.id, format_count(stored, "message"))
                if left > 0:
                    log.warning(
                        "%s: %s not delivered before it was closed",
                        producer.id,
                        format_count(left, "message was", "messages were"),
                    )

    def _way(self, producer: Producer) -> Producer | Lane:
        """Return what messages go through to get to *producer*: its lane, if there is a store."""
        return self._ahead.lane_of(producer) if self._ahead is not None else producer

    # -- taking in: the Intake ---------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether a source should wait: a producer with Overflow.BLOCK is full, or the store is behind."""
        if self.blocked:
            return True
        return self._ahead is not None and bool(self._ahead.jam)

    @property
    def jam(self) -> str:
        """Why every source has to wait, whatever its messages are for; empty if none has."""
        return self._ahead.jam if self._ahead is not None else ""

    @property
    def bite(self) -> int:
        """Bytes of which a source should make a batch at most: few of them would fill a buffer otherwise."""
        buffers = [producer.policy.buffer for producer in self._producers.values()]
        return min(buffers, default=self.limits.buffer) // _BITES

    @property
    def stores(self) -> bool:
        """Whether batches are put into durable storage."""
        return self._ahead is not None

    async def resumed(self) -> None:
        """Wait until no source has to wait."""
        await self._go_on.wait()

    async def room_for(self, targets: Sequence[str]) -> None:
        """Wait until none of *targets* has its source wait."""
        while self.jam or not self.blocked.isdisjoint(targets):
            self._freed.clear()
            await self._freed.wait()

    def patience(self, targets: Sequence[str]) -> float:
        """Return the shortest deadline among *targets*, in seconds: how long a source may be made to wait."""
        # Threads ask, while the loop removes.
        producers = [found for target in targets if (found := self._producers.get(target)) is not None]
        return min((producer.outbox.deadline for producer in producers), default=0.0)

    def feed(self, batch: Batch) -> None:
        """Forward *batch* to every producer, and tell nobody what becomes of it."""
        framing = batch.framing
        if framing is not None and batch.kept is None and self._ahead is None:
            convoy = self._convoy
            if convoy is None or convoy.framing is not framing:
                convoy = self._convoy_of(framing)
            if convoy.take(batch, self._producers):
                return
        self.take(Page(None, self._ids, tracked=False), batch)

    def _convoy_of(self, framing: Framing) -> Convoy:
        """Return the convoy for *framing*, which the next batch is expected to come in, too."""
        convoy = self._convoys.get(framing)
        if convoy is None:
            convoy = self._convoys[framing] = Convoy(framing, self.budget, self.offer)
        self._convoy = convoy
        return convoy

    def accept(self, batch: Batch) -> BatchReceipt:
        """Forward *batch* to every producer, and return a receipt for whoever acknowledges it upstream."""
        kind = Page if self._ahead is None else AcceptedPage
        page = kind(None, self._ids, tracked=True, upstream=True)
        self.take(page, batch)
        return BatchReceipt(page, self._loop, self._held)

    def take(self, page: Page, batch: Batch) -> None:
        """Forward *batch*, which is that of *page*, to the page's targets."""
        page.open(self.budget, batch, self._roles)
        if not page.targets and not self._warned:
            self._warned = True
            log.warning("a message came, but the pool has no producers: it went nowhere")
        if self._ahead is not None:
            self._ahead.take(page)
            return
        refusing: set[str] | None = None
        if self.budget.used + page.cost > self.budget.limit:
            refusing = self.relieve(page.cost)
        self.offer(page, batch, page.targets, refusing)

    def open_for(self, cost: int) -> Mapping[str, Producer] | None:
        """Return the producers by their ids, if a batch of *cost* bytes may go to them at once."""
        clear = self._ahead is None and self.budget.used + cost <= self.budget.limit
        return self._producers if clear else None

    @property
    def ids(self) -> tuple[str, ...]:
        """The producers, in the order of adding."""
        return self._ids

    def gather(self) -> Convoy | None:
        """Have all producers in one convoy, and return it; None: they cannot be, or to send is not enough."""
        producers = self._producers
        first = next(iter(producers.values()), None)
        stream = first.link.stream() if first is not None and isinstance(first.link, Link) else None
        if stream is None or any(one.ack is not Ack.WRITTEN for one in producers.values()):
            return None
        convoy = self._convoy_of(stream.framing)
        return convoy if convoy.gather(producers) else None

    def now(self) -> float:
        """Return the time by the clock of its loop."""
        return self._loop.time()

    def begin(self, page: Page, batch: Batch, settled: Iterable[str]) -> None:
        """Open *page*, the *batch* of which some of its targets have *settled* already; offer() follows."""
        page.open(self.budget, batch, self._roles)
        for producer_id in settled:
            page.passed(producer_id, len(batch), self._producers[producer_id].outbox.accounts.first_try)

    def offer(
        self, page: Page, batch: Batch, targets: Sequence[str], refusing: set[str] | None = None
    ) -> None:
        """Offer *page* to *targets*, of which those *refusing* have no room for it."""
        now = self._loop.time()
        for producer_id in targets:
            producer = self._producers.get(producer_id)
            try:
                if producer is None:
                    self.gone(page, producer_id)
                elif refusing and producer_id in refusing:
                    producer.overflow(page, self.full())
                else:
                    producer.offer(page, now)
            except Exception:
                # Nothing is known that gets here. Should there be something, then it stays with this one.
                log.exception("%s: unexpected; a batch was not taken", producer_id)
        if page.holders:
            batch.compact()

    def share(self) -> int:
        """Return the bytes of the pool's buffer that are one producer's, if all want as much."""
        return self.budget.limit // max(len(self._producers), 1)

    def relieve(self, cost: int) -> set[str]:
        """
        Make room at the pool's own bound; return who has to refuse the next batch.

        Those whose backlog is above their fair share apply their own overflow policy, the largest first,
        so that a dead consumer's backlog costs the others nothing. These others go on, and may bring the
        pool above its bound for a while, by less than their own fair shares. Before any of them, shadows
        let go of what waits for them, whatever their policy.
        """
        share = self.share()
        backlogs = [producer for producer in self._producers.values() if producer.part().nbytes]
        backlogs.sort(key=lambda producer: producer.outbox.nbytes, reverse=True)
        refusing = set()
        others = []
        for producer in backlogs:
            if producer.policy.role is not Role.SHADOW:
                others.append(producer)
                continue
            while producer.outbox.waiting and self._is_over(cost):
                producer.outbox.drop_oldest(f"{producer.id}: {self.full()}")
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
                    outbox.drop_oldest(f"{producer.id}: {self.full()}")
                if not self._is_over(cost):
                    break
            refusing.add(producer.id)
        return refusing

    def full(self) -> str:
        """Say why a producer has to refuse a batch at the pool's own bound."""
        return f"the pool's buffer of {format_size(self.limits.buffer)} is full, and its backlog is large"

    def _is_over(self, cost: int) -> bool:
        return self.budget.used + cost > self.budget.limit

    def gone(self, page: Page, producer_id: str) -> None:
        """Settle a message for a producer that was removed while it was being submitted."""
        track = page.track(producer_id)
        if track is not None and page.batch is not None:
            error = Cancelled(f"{producer_id}: the producer was removed")
            result = ForwardResult(producer_id, Outcome.CANCELLED, None, error)
            track.run(len(page.batch), len(page.batch), result)
            page.settled(range(len(page.batch)))

    def _on_producer_blocked(self, producer: Producer, yes: bool) -> None:
        self._set_blocked(producer.id, yes)

    def lane_blocked(self, producer: Producer, why: str) -> None:
        """Have the source wait for a producer's lane, because of *why*; empty: it need not any more."""
        if self._producers.get(producer.id) is producer:
            self._set_blocked(producer.id, bool(why), why)

    def _set_blocked(self, producer_id: str, yes: bool, why: str = "") -> None:
        if yes:
            self.blocked.add(producer_id)
        else:
            self.blocked.discard(producer_id)
        producer = self._producers.get(producer_id)
        if producer is not None:
            # What holds up all of them goes on, whatever it was that held up this one.
            producer.source_waits(yes or self._jammed, why if yes else _SLOW)
        self.tell_paused()

    def tell_paused(self) -> None:
        """Have those look again who wait until they need not, or who have to from now on."""
        if bool(self.jam) is not self._jammed:
            self._jammed = not self._jammed
            for producer in self._producers.values():
                if producer.id not in self.blocked:
                    producer.source_waits(self._jammed, _SLOW)
        self._freed.set()
        if self.paused:
            self._go_on.clear()
        else:
            self._go_on.set()
        for listener in self.on_blocked:
            listener()

    # -- asking ------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return a copy of all counters, taken at one moment."""
        there = (*self._leaving, *self._producers.values())
        producers = {producer.id: self._counters(producer) for producer in there}
        ahead = self._ahead
        storage = () if ahead is None else (ahead.unstored, ahead.trouble)
        return PoolStats(producers, self.budget.used, self.observers.errors, *storage)

    def _counters(self, producer: Producer) -> ProducerStats:
        outbox = producer.part()
        peers = peers_of(producer.client) or 0
        counters = replace(outbox.stats, pending_bytes=outbox.nbytes, peers=peers)
        if self._ahead is not None:
            self._ahead.lane_of(producer).add_to(counters)
        return counters

    def health(self) -> dict[str, Health]:
        """Return how each consumer does."""
        return self._health_of(self._producers.values())

    def observe(self, observers: Iterable[Observer]) -> None:
        """Tell these, too, of what comes to an outcome from now on."""
        self._settle_convoys()
        self.observers.extend(observers)

    def _settle_convoys(self) -> None:
        for convoy in self._convoys.values():
            convoy.settle()

    def _health_of(self, producers: Iterable[Producer]) -> dict[str, Health]:
        self._settle_convoys()
        return {producer.id: producer.health() for producer in producers}

    def warn_of_strangers(self) -> None:
        """Say for whom something lies in the store that no producer asks for: all are there that will be."""
        if self._ahead is not None:
            self._ahead.warn_of_strangers()

    async def check(self, wait: float) -> dict[str, Health]:
        """Try to reach every consumer now, all at once, and return how that went within *wait* seconds."""
        producers = list(self._producers.values())
        await self._together([producer.check() for producer in producers], wait)
        return self._health_of(producers)

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
        ways = [self._way(producer) for producer in producers]
        await self._together([way.drain() for way in ways], wait)
        idle = all(way.idle for way in ways if not isinstance(way, Producer))
        return idle and all(producer.part().empty for producer in producers)

    async def aclose(self, drain: float) -> None:
        """
        Close all producers; what they have gets *drain* seconds. May be called twice.

        If cancelled, it does not wait for what is queued, but still closes.
        """
        began = self._loop.time()
        try:
            await self._together([close() for close in self.sources], drain + 2 * CLOSING)
        finally:
            try:
                if self._ahead is not None:
                    await self._ahead.flush(max(began + drain - self._loop.time(), CLOSING))
            finally:
                try:
                    await self._close_producers(max(began + drain - self._loop.time(), 0.0))
                finally:
                    if self._ahead is not None:
                        await self._ahead.aclose(2 * CLOSING)

    async def _close_producers(self, drain: float) -> None:
        leaving = [self._way(producer) for producer in self._leaving]
        there = list(self._producers.values())
        tasks = [self._loop.create_task(self._end(each, drain, keep=True)) for each in there]
        tasks += self._leaving.values()
        if not tasks:
            return
        hurry = [self._loop.call_later(drain, way.give_up) for way in leaving]
        try:
            await asyncio.wait(tasks, timeout=drain + 2.5 * CLOSING)
        finally:
            for handle in hurry:
                handle.cancel()
            for way in (*leaving, *map(self._way, there)):
                way.give_up()
            await asyncio.wait(tasks, timeout=2 * CLOSING)
