"""One producer's way out of the store: what lies there for it, and when it comes into its outbox."""
# Rule: batches are handed over in the order of their numbers.
# Rule: at every moment, accepted = delivered + failed + dropped + cancelled + pending. What only lies in the
# store, or is on its way there, is accepted and pending.
# Rule: settling happens in the middle of the outbox's accounting. It is noted then, and acted upon soon.

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from producer_pool.delivery.cursor import Cursor
from producer_pool.delivery.incoming import Incoming
from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.pressure import Pressure
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.reader import Reader
from producer_pool.delivery.store import Store
from producer_pool.delivery.tally import Awaited, PageReadBack, Tally, record, tally_of
from producer_pool.delivery.unstored import Unstored, UnstoredBatch
from producer_pool.delivery.waiters import Waiters
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Cancelled, DeadlineExceeded, DeliveryError, Full, Lost
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import Overflow
from producer_pool.model.stats import ProducerStats
from producer_pool.model.stored import StoredBatch, stored_size
from producer_pool.model.text import format_count, format_duration

__all__ = ["Lane", "Shared"]

KEPT: Final = "; it is stored, and goes out at the next start"


class Shared(NamedTuple):
    """What all lanes of a pool share."""

    store: Store
    budget: Budget
    share: Callable[[], int]
    """Bytes of memory that each lane may take when the pool's buffer is full."""
    blocked: Callable[[Producer, str], None]
    """Called with the reason when a source has to wait for a lane, and with "" when it need not any more."""


class Lane:
    """
    One producer's way out of the store.

    As long as there is room in the outbox, a batch goes there as soon as it is stored. When there is
    none, the lane falls `behind`: batches stay in the store only, and are read back in their order.
    """

    def __init__(self, producer: Producer, shared: Shared) -> None:
        self.producer = producer
        self._shared = shared
        self._store = shared.store
        self._outbox = producer.outbox
        self._policy = producer.policy
        self._loop = asyncio.get_running_loop()
        backlog = self._store.join(producer.id)
        self._old = self.last = backlog.last
        """The newest number of an earlier run, and the newest number that is for this producer."""
        self._cursor = Cursor(backlog.after, partial(self._store.move, producer.id))
        self._reader = Reader(self, self._store)
        self.messages = backlog.messages
        """Messages that lie in the store only."""
        self.backlog = backlog.nbytes
        """Their bytes there."""
        self._queued = self._queued_size = 0
        """Messages on their way into the store, and the bytes that they will have there."""
        self._unstored = Unstored()
        self._awaited = Awaited()
        self.behind = bool(backlog.messages)
        """Whether anything has to be read back before a new batch may go out."""
        self._pressure = Pressure(producer, shared.blocked)
        self._asks_for_room = False
        self._soon: asyncio.Handle | None = None
        self.stopped = self._given_up = False
        self._left_stored = 0
        """Cancelled messages that stay in the store, and were never handed over."""
        self._waiters = Waiters()
        producer.on_blocked = self._outbox_blocked
        if self.behind:
            self.act_soon()

    def __repr__(self) -> str:
        return f"<Lane {self.producer.id} {self._cursor!r}..{self.last}>"

    # -- asking ------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is left that has not come into the outbox."""
        return (not self.behind or self.stopped) and not self._queued

    @property
    def size(self) -> int:
        """Bytes in the store, or on their way there, that are not settled at this producer."""
        return self._queued_size + self.backlog + self._cursor.nbytes

    @property
    def handed(self) -> int:
        """The number up to which all was handed over, or is gone."""
        return self._cursor.handed

    @property
    def left_stored(self) -> int:
        """Cancelled messages that stay in the store."""
        return self._left_stored + self._cursor.left_stored

    def add_to(self, stats: ProducerStats) -> None:
        """Add to the outbox's counters what has not come there."""
        stats.accepted += self._queued + self.messages + self._unstored.messages
        stats.pending_bytes += self._queued_size + self.backlog + self._unstored.cost
        stats.spooled = self.messages
        stats.left_stored = self.left_stored

    # -- taking in ---------------------------------------------------------------------------------

    def admit(self, page: Page, count: int, size: int) -> bool:
        """Say whether a batch is to be stored for this producer; if not, the overflow policy settles it."""
        if self._pressure.crowding or self.size + size > self._policy.spool_quota:
            if not self._makes_room(size):
                self.producer.overflow(page, self._pressure.store_is_full())
                return False
        self._queued += count
        self._queued_size += size
        return True

    def _makes_room(self, size: int) -> bool:
        """Apply the overflow policy to a full spool; say whether *size* bytes more may come in."""
        quota = self._policy.spool_quota
        if self._policy.overflow is Overflow.BLOCK:
            self._pressure.fill_quota(self.size + size)
            return True
        if self._policy.overflow is not Overflow.DROP_OLDEST or size > quota:
            return False
        # What only lies in the store gives way there, soon. Where that is too little, memory does, now.
        while self.size - self.backlog + size > quota:
            waiting = self._outbox.waiting
            if not waiting or not waiting[0].page.stored:
                return False
            self._outbox.drop_oldest(f"{self.producer.id}: {self._pressure.store_is_full()}")
        self.act_soon()
        return True

    def arrive(self, incoming: Incoming, number: int) -> None:
        """Take a batch that is stored under *number* now."""
        page, batch, count, size, _ = incoming
        self._left_queue(count, size)
        if self.stopped:
            self._cancel_late(page, count, kept=self._cursor.keeps)
            return
        self.last = number
        if not self.behind and self.has_room(batch.cost):
            tally = tally_of(page, self.producer.id, count)
            tally.begin(self, number, size)
            self._hand_over(page, batch, tally)
        else:
            self.behind = True
            self.messages += count
            self.backlog += size
            if page.track(self.producer.id) is not None:
                self._awaited.put(number, page)
            self.act_soon()
        if self._waiters:
            self.act_soon()

    def arrive_unstored(self, incoming: Incoming, full: str) -> None:
        """Take a batch that could not be stored, by the bounds in memory; *full* says which is reached."""
        page, batch, count, size, accepted = incoming
        self._left_queue(count, size)
        if self._waiters:
            self.act_soon()
        if self.stopped:
            self._cancel_late(page, count, kept=False)
        elif full:
            self.producer.overflow(page, full)
        elif not self.behind:
            self._offer(page, batch, bounded=True)
            self._block_if_full(0)
        elif self._fits_unstored(batch.cost):
            self._unstored.put(UnstoredBatch(self.last, page, batch, accepted))
            self.act_soon()
        else:
            self.producer.overflow(page, self._pressure.memory_is_full())

    def _left_queue(self, count: int, size: int) -> None:
        self._queued -= count
        self._queued_size -= size
        if self.stopped:
            self._wake()

    def _fits_unstored(self, cost: int) -> bool:
        """Apply the overflow policy to what waits in memory behind the store; say whether *cost* fits."""
        overflow = self._policy.overflow
        room = self._policy.buffer - self._outbox.nbytes - cost
        if self._unstored.cost <= room or self._block_if_full(cost):
            return True
        if overflow is not Overflow.DROP_OLDEST or room < 0:
            return False
        while self._unstored.cost > room:
            item = self._unstored.take()
            why = f"{self.producer.id}: {self._pressure.memory_is_full()}; its oldest messages were dropped"
            self._turn_away(item.page, item.batch, Full(why), Outcome.DROPPED)
            item.page.release()
        return True

    def _block_if_full(self, cost: int) -> bool:
        """Have the source wait if memory is full, and that is the policy; say whether it is."""
        blocks = self._policy.overflow is Overflow.BLOCK
        if blocks and self._outbox.nbytes + self._unstored.cost + cost >= self._policy.buffer:
            self._pressure.fill_memory()
        return blocks

    # -- handing over ------------------------------------------------------------------------------

    def has_room(self, cost: int) -> bool:
        """Whether a batch may come into the outbox; into an empty one always, however large it is."""
        outbox = self._outbox
        if outbox.empty:
            return True
        total = outbox.nbytes + cost
        if total > self._policy.buffer:
            return False
        budget = self._shared.budget
        return budget.used + cost <= budget.limit or total <= self._shared.share()

    @property
    def _low(self) -> int:
        """Bytes in the outbox up to which more is read."""
        return min(self._policy.buffer, self._shared.share()) // 2

    def _hand_over(self, page: Page, batch: Batch, tally: Tally, error: DeliveryError | None = None) -> None:
        """Have the outbox take a stored batch, as there is room; or drop it with *error*."""
        self._cursor.hand(tally)
        if page.tracks is None:
            page.tracks = {}
        page.tracks[self.producer.id] = tally
        if not tally.count:
            self.settled(tally)
        elif error is not None:
            self._turn_away(page, batch, error, Outcome.DROPPED)
        else:
            self._offer(page, batch, bounded=False)

    def _offer(self, page: Page, batch: Batch, *, bounded: bool) -> None:
        limit = self._outbox.deadline
        if page.age >= limit:
            turn = f"{self.producer.id}: its turn did not come within {format_duration(limit)}"
            arrived = "it may have arrived" if self.handed <= self._old else "it was not sent"
            self._turn_away(page, batch, DeadlineExceeded(f"{turn}, {arrived}"), Outcome.FAILED)
        else:
            self._outbox.bounded = bounded
            self.producer.offer(page, self._loop.time())

    def _offer_unstored(self) -> None:
        item = self._unstored.take()
        page = item.page
        page.batch = item.batch
        page.age = self._loop.time() - item.accepted
        self._offer(page, item.batch, bounded=False)
        page.batch = None
        page.release()

    def offer_unstored_before(self, number: int) -> None:
        """Hand over what could not be stored, and came before the stored batch *number*."""
        while self._unstored.next_behind(number - 1) is not None:
            self._offer_unstored()

    def _turn_away(self, page: Page, batch: Batch, error: DeliveryError, outcome: Outcome) -> None:
        self._outbox.accounts.turn_away(page, batch, range(len(batch)), error, outcome)

    # -- settling ----------------------------------------------------------------------------------

    def settled(self, tally: Tally) -> None:
        """Note that all messages of a batch have come to an outcome, whatever it is."""
        self._cursor.nbytes -= tally.size
        if self._soon is None:
            self.act_soon()

    # -- what is to be done ------------------------------------------------------------------------

    def act_soon(self) -> None:
        if self._soon is None and not self.stopped:
            self._soon = self._loop.call_soon(self._act)

    def _act(self) -> None:
        """Move the cursor, go on reading, let the source go on, wake who waits."""
        self._soon = None
        self._cursor.move()
        while self.behind and not self._reader.busy and self._goes_on():
            pass
        self._pressure.ease(size=self.size, memory=self._unstored.cost + self._outbox.nbytes)
        self._wake()

    def _goes_on(self) -> bool:
        """Hand over what is here, or ask the store for what is next; say whether there may be more to do."""
        item = self._unstored.next_behind(self.handed)
        if item is not None:
            if self.has_room(item.batch.cost):
                self._offer_unstored()
                return True
            self._ask_for_room()
        elif self.handed >= self.last:
            if self.messages:
                self.lost(self.messages, self.backlog, self._reader.why_lost)
            self.backlog = 0
            self.behind = bool(self._unstored)
            return self.behind
        else:
            self._ask_store()
        return False

    def _ask_store(self) -> None:
        too_much = self.too_much()
        low = self._low
        room = max(low, 1) if self._outbox.nbytes <= low and self.has_room(self._reader.next_cost) else 0
        if not self._reader.ask(too_much=too_much, room=room):
            self._ask_for_room()

    def too_much(self) -> int:
        """Return how many bytes have to go of what only lies in the store."""
        if self._policy.overflow is not Overflow.DROP_OLDEST:
            return 0
        return min(max(self.size - self._policy.spool_quota, self._pressure.excess), self.backlog)

    def _ask_for_room(self) -> None:
        """Be told when the outbox is half empty."""
        self._asks_for_room = True
        self._outbox.block(self._low)
        self._asks_for_room = False

    # -- what the store answers --------------------------------------------------------------------

    def read_back(self, stored: StoredBatch, error: DeliveryError | None) -> None:
        """Take a batch out of what only lies in the store, and hand it over, or drop it with *error*."""
        batch = stored.batch
        origin = self._awaited.take(stored.number)
        tally = tally_of(origin, self.producer.id, len(batch))
        page = PageReadBack(stored, self._shared.budget, tally, origin)
        tally.begin(self, stored.number, stored_size(batch))
        self.messages = max(self.messages - tally.count, 0)
        self.backlog = max(self.backlog - tally.size, 0)
        self._hand_over(page, batch, tally, error)
        page.batch = None
        if page.holders:
            batch.compact()

    def pass_to(self, upto: int, error: DeliveryError, outcome: Outcome) -> None:
        """Note that nothing up to *upto* lies in the store only; who waits for what is gone gets *error*."""
        self._cursor.handed = max(self.handed, min(upto, self.last))
        for page in self._awaited.take_up_to(self.handed):
            record(page, self.producer.id, outcome, error)
        self.act_soon()

    def lost(self, messages: int, nbytes: int, why: str) -> None:
        """Settle messages that the store has lost."""
        if self.stopped:
            return
        self._reader.why_lost = why
        gone = format_count(messages, "stored message is", "stored messages are")
        error = Lost(f"{self.producer.id}: {gone} gone: {why}")
        self.settle_stored(messages, nbytes, Outcome.FAILED, error)

    def settle_stored(self, messages: int, nbytes: int, outcome: Outcome, error: DeliveryError) -> None:
        """Count an outcome for messages that only lie in the store."""
        messages = min(messages, self.messages)
        self.messages -= messages
        self.backlog = max(self.backlog - nbytes, 0)
        self._pressure.skipped(nbytes)
        self._outbox.accounts.count_apart(outcome, messages)
        if messages:
            self.producer.settled(outcome, messages, error)

    def dropped(self) -> DeliveryError:
        return Full(
            f"{self.producer.id}: {self._pressure.store_is_full()}; the oldest messages in it were dropped"
        )

    # -- blocking ----------------------------------------------------------------------------------

    def give_way(self, nbytes: int) -> None:
        """Apply the overflow policy: the store is too large by *nbytes*. With 0, it need not any more."""
        if self._pressure.give_way(nbytes):
            self.act_soon()

    def _outbox_blocked(self, _: Producer, yes: bool) -> None:
        if not yes:
            self.act_soon()
        elif not self._asks_for_room:
            self._pressure.fill_memory()

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until all has come into the outbox, and nothing is left in it, or until give_up()."""
        while not self._given_up:
            await self.producer.drain()
            if self._is_drained():
                return
            self.act_soon()
            await self._waiters.wait()

    async def arrived(self) -> None:
        """Once it is stopped, wait until nothing for it is on its way into the store any more."""
        while self._queued:
            await self._waiters.wait()

    def _is_drained(self) -> bool:
        return self._given_up or (self.idle and self._outbox.empty)

    def _wake(self) -> None:
        """Wake who drains: there is something in the outbox to wait for, or nothing at all."""
        if self._given_up or self.idle or not self._outbox.empty:
            self._waiters.wake()

    def give_up(self) -> None:
        """Let nobody wait for what lies in the store any more."""
        self._given_up = True
        self.producer.give_up()
        self._wake()

    def stop(self, *, keep: bool) -> None:
        """
        Hand over nothing more: what has not come into the outbox is CANCELLED.

        With *keep* it stays in the store, and so does what the outbox cancels from now on.
        """
        if self.stopped:
            return
        self._cursor.move()
        self.stopped = True
        self._cursor.keeps = keep
        self._reader.stop()
        if self._soon is not None:
            self._soon.cancel()
        self._pressure.end()
        if keep:
            self._outbox.kept = KEPT
            self._left_stored += self.messages
        error = self._closed(KEPT if keep else "")
        for page in self._awaited.take_up_to(math.inf):
            record(page, self.producer.id, Outcome.CANCELLED, error)
        self.settle_stored(self.messages, self.backlog, Outcome.CANCELLED, error)
        while self._unstored:
            item = self._unstored.take()
            gone = self._closed("; it could not be stored")
            self._turn_away(item.page, item.batch, gone, Outcome.CANCELLED)
            item.page.release()

    def end(self) -> None:
        """Move the cursor for the last time: the outbox has settled all that it had."""
        self._cursor.move()
        self.give_up()

    def _cancel_late(self, page: Page, count: int, *, kept: bool) -> None:
        """Settle a batch that comes too late to be handed over."""
        self._left_stored += count * kept
        error = self._closed(KEPT if kept else "")
        record(page, self.producer.id, Outcome.CANCELLED, error)
        self._outbox.accounts.count_apart(Outcome.CANCELLED, count)
        self.producer.settled(Outcome.CANCELLED, count, error)

    def _closed(self, more: str) -> Cancelled:
        return Cancelled(f"{self.producer.id}: closed before it was delivered{more}")
