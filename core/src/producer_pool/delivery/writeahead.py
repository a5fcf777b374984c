"""The way into the store, which is before the fan-out: what is not stored yet goes to nobody."""
# Rule: the store tells in order. So batches come out of here in the order in which they came in.

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from producer_pool.delivery.containment import CLOSING
from producer_pool.delivery.incoming import Incoming
from producer_pool.delivery.lane import Lane, Shared
from producer_pool.delivery.page import Page
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.store import Store
from producer_pool.delivery.tally import Tally
from producer_pool.delivery.waiters import Waiters
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.policies import Overflow
from producer_pool.model.stored import stored_size
from producer_pool.model.text import format_count

if TYPE_CHECKING:
    from producer_pool.delivery.engine import Engine

__all__ = ["WriteAhead"]

log = logging.getLogger(__name__)

ROUND: Final = 5.0
"""Seconds between two looks at what no message brings about: old ones in the store, and its troubles."""

STRANGERS: Final = 30.0
"""Seconds after which it is said for whom something lies in the store that no producer has asked for."""


def _burden(lane: Lane) -> int:
    """Return the bytes of the store for whose sake a producer may be asked to give way."""
    # What an outbox has cannot be dropped in the store. Who takes nothing new keeps that from growing.
    return lane.backlog if lane.producer.policy.overflow is Overflow.DROP_OLDEST else lane.size


class WriteAhead:
    """Stores every batch of an engine before any producer gets it, and keeps a lane for each of them."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._shared = Shared(store, engine.budget, engine.share, engine.lane_blocked)
        self._lanes: dict[str, Lane] = {}
        """Those that new batches go to, by their producers' ids."""
        self._ways: dict[Producer, Lane] = {}
        """Those, and those of producers that are being removed."""
        self._rows: deque[tuple[Incoming, list[Lane]]] = deque()
        """Batches on their way into the store, and whose they are."""
        self._flushed = Waiters()
        self._closed = False
        self.unstored = 0
        """Messages that could not be stored."""
        self._told: str | None = None
        self._limit = LogLimit()
        self._strangers_at: float | None = self._loop.time() + STRANGERS
        store.start(self._changed, self._lost)
        self._round = self._loop.call_later(ROUND, self._look_round)

    @property
    def jam(self) -> str:
        """Why sources have to wait, whatever their messages are for; empty if they have not."""
        return "the spool" if self._store.crowded else ""

    @property
    def trouble(self) -> str | None:
        """What keeps messages from being stored just now."""
        return self._store.trouble

    # -- lanes -------------------------------------------------------------------------------------

    def add(self, producer: Producer) -> None:
        """Take on a producer; what lies in the store for it goes out first."""
        lane = self._lanes[producer.id] = self._ways[producer] = Lane(producer, self._shared)
        if not producer.policy.retry.holds:
            log.warning(
                "%s: its policy gives a message up after one attempt, stored or not; with a spool, take "
                "DeliveryPolicy.relay(), or retry-attempts=unlimited",
                producer.id,
            )
        if lane.behind:
            log.info(
                "%s: %s out first",
                producer.id,
                format_count(
                    lane.messages, "message lies in the spool, and goes", "messages lie in the spool, and go"
                ),
            )

    def lane_of(self, producer: Producer) -> Lane:
        """Return the lane of a producer."""
        return self._ways[producer]

    def remove(self, producer: Producer) -> None:
        """Let nothing new go to a producer."""
        del self._lanes[producer.id]

    async def end(self, lane: Lane, *, keep: bool) -> None:
        """Be told that a producer is closed. Without *keep*, nothing is kept for it any more."""
        lane.end()
        if keep:
            return
        try:
            # Another of this id must not find what was for this one, and is still on its way.
            async with asyncio.timeout(CLOSING):
                await lane.arrived()
        except TimeoutError:
            pass  # The disk does not answer; to leave is its next task.
        finally:
            self._store.leave(lane.producer.id)

    def forget(self, producer: Producer) -> None:
        """Be told that nobody asks for the lane of a producer any more: it was removed."""
        del self._ways[producer]

    # -- taking in ---------------------------------------------------------------------------------

    def take(self, page: Page) -> None:
        """Store the batch of *page*, and forward it when it is stored."""
        batch = page.batch
        assert batch is not None
        count = len(batch)
        size = stored_size(batch)
        lanes = []
        for producer_id in page.targets:
            lane = self._lanes.get(producer_id)
            if lane is None:
                self._engine.gone(page, producer_id)
                continue
            if page.tracks is not None:
                page.tracks[producer_id] = Tally(count, like=page.tracks[producer_id])
            if count and lane.admit(page, count, size):
                lanes.append(lane)
        if not lanes:
            # Where there was nothing to store, nothing is missing.
            page.decide_stored(not count or not page.targets)
            return
        page.stored = False
        page.storing = True
        page.hold()
        self._rows.append((Incoming(page, batch, count, size, self._loop.time()), lanes))
        if self._closed:
            self._stored(None)
            return
        targets = None if len(lanes) == len(self._ways) else [lane.producer.id for lane in lanes]
        self._store.append(batch, targets, self._stored)

    def _stored(self, number: int | None) -> None:
        """Forward the oldest batch on its way: it is stored now, or cannot be."""
        incoming, lanes = self._rows.popleft()
        page, batch = incoming.page, incoming.batch
        page.decide_stored(number is not None)
        page.age = self._loop.time() - incoming.accepted
        refusing: set[str] = set()
        if number is None:
            self.unstored += incoming.messages
            refusing = self._engine.relieve(0)
        for lane in lanes:
            try:
                if number is not None:
                    lane.arrive(incoming, number)
                else:
                    full = self._engine.full() if lane.producer.id in refusing else ""
                    lane.arrive_unstored(incoming, full)
            except Exception:
                # Nothing is known that gets here. Should there be something, then it stays with this one.
                log.exception("%s: unexpected; a batch was not taken", lane.producer.id)
        page.release()
        if page.holders:
            batch.compact()
        # Where it lies in the store only, it is not to be in memory. An outbox that has it holds the batch.
        page.batch = None
        if not self._rows:
            self._flushed.wake()

    # -- what the store tells ----------------------------------------------------------------------

    def _changed(self) -> None:
        trouble = self._store.trouble
        if trouble != self._told and self._limit.allow(None, self._loop.time()) is not None:
            self._told = trouble
            if trouble is None:
                log.info("spool: messages are stored again")
            else:
                log.error("spool: messages cannot be stored and are kept in memory only: %s", trouble)
        self._share_out(self._store.excess)
        self._engine.tell_paused()

    def _share_out(self, excess: int) -> None:
        """Have the one with the largest backlog give way, if the store is too large, and nobody else."""
        chosen = None
        if excess:
            chosen = max(self._lanes.values(), key=_burden, default=None)
            # What lies there for one who is not here has no policy. That another suffers for it helps nobody.
            strangers = (backlog.nbytes for backlog in self._store.strangers().values())
            if chosen is not None and _burden(chosen) <= max(strangers, default=0):
                chosen = None
        for lane in self._lanes.values():
            lane.give_way(excess if lane is chosen else 0)

    def _lost(self, producer_id: str, messages: int, nbytes: int, why: str) -> None:
        for lane in self._ways.values():
            if lane.producer.id == producer_id:
                lane.lost(messages, nbytes, why)

    def _look_round(self) -> None:
        now = self._loop.time()
        self._round = self._loop.call_later(ROUND, self._look_round)
        for lane in self._ways.values():
            if lane.behind:
                lane.act_soon()
        if self._store.trouble != self._told or self._store.excess:
            self._changed()
        if self._strangers_at is not None and now >= self._strangers_at:
            self.warn_of_strangers()

    def warn_of_strangers(self) -> None:
        """Say for whom something lies in the store that nobody asks for. Once."""
        self._strangers_at = None
        for name, backlog in self._store.strangers().items():
            log.warning(
                "%s, %s, lie in the spool for %s, which is no producer here; add it, or drop "
                "them: producer-pool spool forget %s %s",
                format_count(backlog.messages, "message"),
                format_count(backlog.nbytes, "byte"),
                name,
                self._store.place,
                name,
            )

    # -- the end -----------------------------------------------------------------------------------

    async def flush(self, wait: float) -> None:
        """Wait until all that was taken is stored, or could not be; at most *wait* seconds."""
        try:
            async with asyncio.timeout(wait):
                while self._rows:
                    await self._flushed.wait()
        except TimeoutError:
            count = sum(incoming.messages for incoming, _ in self._rows)
            log.error("spool: %s not stored within %g s", format_count(count, "message"), wait)

    async def aclose(self, wait: float) -> None:
        """Let go of the store, in at most *wait* seconds. May be called twice."""
        self._round.cancel()
        self._closed = True
        try:
            async with asyncio.timeout(wait):
                await self._store.aclose()
        except TimeoutError:
            log.error("spool: not closed within %g s; what was delivered last may go out again", wait)
        finally:
            while self._rows:
                self._stored(None)
