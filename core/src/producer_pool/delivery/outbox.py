"""One producer's waiting and in-flight batches, with their rules."""
# Rule: nothing here reads a clock, touches a socket or knows a loop. Callers pass `now`: tests need no sleep.
# Rule: at every moment, accepted = delivered + failed + dropped + cancelled + pending().

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from producer_pool.delivery.page import Page, Track
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeadlineExceeded, DeliveryError, Full, Rejected
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.model.policies import BATCH_OVERHEAD, DeliveryPolicy, Overflow
from producer_pool.model.stats import ProducerStats
from producer_pool.model.text import format_duration, format_size

__all__ = ["Entry", "Outbox", "OutboxEvents"]


class OutboxEvents(Protocol):
    """Who is told what an outbox does."""

    def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        """So many messages came to a terminal outcome."""

    def blocked(self, yes: bool) -> None:
        """The source has to wait, or need not any more."""

    def emptied(self) -> None:
        """Nothing waits and nothing is in flight."""


class Entry:
    """One batch in one outbox."""

    __slots__ = (
        "attempts",
        "batch",
        "cost",
        "count",
        "deadline",
        "expired",
        "page",
        "rejected",
        "start",
        "track",
    )

    def __init__(self, page: Page, batch: Batch, track: Track | None, deadline: float) -> None:
        self.page = page
        self.batch = batch
        self.track = track
        self.deadline = deadline
        self.count = len(batch)
        self.start = 0
        """Messages from the front that are settled."""
        self.attempts = 0
        self.cost = batch.nbytes + BATCH_OVERHEAD
        self.rejected: set[int] | None = None
        """Messages behind `start` that the consumer refused; they are settled too."""
        self.expired = False
        """Its messages are settled, but the client still counts them."""

    def open(self, stop: int) -> int:
        """Return how many messages before *stop* are not settled."""
        if self.expired:
            return 0
        if self.rejected is None:
            return stop - self.start
        return stop - self.start - sum(1 for index in self.rejected if self.start <= index < stop)


class Outbox:
    """
    Holds every batch of one producer until it is settled: first waiting, then flying.

    Batches leave in the order in which they came. What was flying when a connection broke is sent
    again before anything newer, from the first message that was not settled.
    """

    def __init__(
        self, producer_id: str, policy: DeliveryPolicy, events: OutboxEvents, *, ack: Ack, deadline: float
    ) -> None:
        self.producer_id = producer_id
        self.policy = policy
        self.stats = ProducerStats()
        self.waiting: deque[Entry] = deque()
        self.flying: deque[Entry] = deque()
        self.nbytes = 0
        """Bytes that wait or fly, with BATCH_OVERHEAD for each batch. Never above the policy's buffer, but
        with Overflow.BLOCK, which takes what its source had read before it could be stopped."""
        self._events = events
        self._ack = ack
        self.deadline = deadline
        """Seconds that a batch has from its acceptance to a terminal outcome."""
        self._ghosts = 0
        """Entries at the front of `flying` that are expired."""
        self.passed = 0
        """Messages that the client has settled since it connected."""
        self._is_blocked = False
        self._first_try = ForwardResult(producer_id, Outcome.DELIVERED, ack, None, 1)

    def __repr__(self) -> str:
        return f"<Outbox {self.producer_id} waiting={len(self.waiting)} flying={len(self.flying)}>"

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing flies."""
        return not self.waiting and not self.flying

    def pending(self) -> int:
        """Count the messages that are not settled, one entry after the other."""
        return sum(entry.open(entry.count) for entry in (*self.flying, *self.waiting))

    def in_flight(self) -> int:
        """Return how many messages the client has and has not settled."""
        return sum(entry.count - entry.start for entry in self.flying)

    # -- taking in ---------------------------------------------------------------------------------

    def offer(self, page: Page, batch: Batch, now: float) -> bool:
        """Take *batch* if it fits, or if the overflow policy makes it fit; say whether it was taken."""
        entry = Entry(page, batch, page.track(self.producer_id), now + self.deadline)
        self.stats.accepted += entry.count
        if not entry.count:
            return False
        policy = self.policy
        if self.nbytes + entry.cost > policy.buffer and not self._make_room(entry):
            return False
        page.hold()
        self.nbytes += entry.cost
        self.waiting.append(entry)
        if policy.overflow is Overflow.BLOCK and self.nbytes >= policy.buffer:
            self.block()
        return True

    def block(self) -> None:
        """Make the source wait until half of the buffer is free."""
        if not self._is_blocked:
            self._is_blocked = True
            self._events.blocked(True)

    def _make_room(self, entry: Entry) -> bool:
        """Apply the overflow policy to a full buffer; say whether *entry* fits now."""
        overflow = self.policy.overflow
        if overflow is Overflow.BLOCK:
            return True
        if overflow is Overflow.DROP_OLDEST and entry.cost <= self.policy.buffer:
            while self.waiting and self.nbytes + entry.cost > self.policy.buffer:
                self.drop_oldest()
            if self.nbytes + entry.cost <= self.policy.buffer:
                return True
        self.refuse(entry)
        return False

    def drop_oldest(self) -> None:
        """Drop the oldest waiting batch."""
        entry = self.waiting.popleft()
        self._end(entry, Outcome.DROPPED, Full(f"{self._full()}; the oldest waiting messages were dropped"))
        self._release(entry)

    def overflow(self, page: Page, batch: Batch, now: float) -> None:
        """Settle *batch* as a full buffer would, because another bound than its own was reached."""
        entry = Entry(page, batch, page.track(self.producer_id), now)
        self.stats.accepted += entry.count
        if entry.count:
            self.refuse(entry)

    def refuse(self, entry: Entry) -> None:
        """Settle a batch that is not taken, by the overflow policy."""
        rejects = self.policy.overflow in (Overflow.REJECT, Overflow.BLOCK)
        self._end(entry, Outcome.FAILED if rejects else Outcome.DROPPED, Full(f"{self._full()}; not taken"))

    def _full(self) -> str:
        return f"{self.producer_id}: buffer of {format_size(self.policy.buffer)} is full (buffer=, overflow=)"

    def turn_away(
        self, page: Page, batch: Batch, indexes: Sequence[int], error: DeliveryError, outcome: Outcome
    ) -> None:
        """Settle messages of *batch* that never get in: misfits, and what a stage left out."""
        count = len(indexes)
        self.stats.accepted += count
        self._count(outcome, count)
        track = page.track(self.producer_id)
        if track is not None:
            kept = batch.kept
            roots = indexes if kept is None else [kept[index] for index in indexes]
            track.odd(roots, ForwardResult(self.producer_id, outcome, None, error))
            page.settled()
        self._events.settled(outcome, count, error)

    # -- sending -----------------------------------------------------------------------------------

    def leading(self, most: int) -> list[Entry]:
        """Return the waiting entries that go out next: at least one, and at most *most* bytes together."""
        waiting = self.waiting
        if len(waiting) == 1 or waiting[0].cost >= most:
            return [waiting[0]]
        entries: list[Entry] = []
        total = 0
        for entry in waiting:
            total += entry.cost
            # Only the first of a burst can be sent from its middle.
            if entries and (total > most or entry.start or len(entries) == 64):
                break
            entries.append(entry)
        return entries

    def launch(self, count: int) -> int:
        """Note that the client has taken the next *count* entries, and return their bytes."""
        total = 0
        for _ in range(count):
            entry = self.waiting.popleft()
            if entry.attempts:
                self.stats.resent += entry.open(entry.count)
            entry.attempts += 1
            total += entry.cost
            self.flying.append(entry)
        return total

    def settle(self, count: int) -> None:
        """Settle the next *count* messages in flight as delivered, from the oldest on."""
        self.passed += count
        while count:
            entry = self.flying[0]
            stop = min(entry.count, entry.start + count)
            count -= stop - entry.start
            if not entry.expired:
                self._deliver(entry, stop)
            entry.start = stop
            if stop == entry.count:
                self.flying.popleft()
                if self._ghosts:
                    self._ghosts -= 1
                self._release(entry)

    def _deliver(self, entry: Entry, stop: int) -> None:
        count = entry.open(stop)
        if not count:
            return
        self.stats.delivered += count
        if entry.track is not None:
            result = self._first_try
            if entry.attempts != 1:
                result = ForwardResult(self.producer_id, Outcome.DELIVERED, self._ack, None, entry.attempts)
            self._record(entry, stop, count, result)
        self._events.settled(Outcome.DELIVERED, count, None)

    def reject(self, number: int, error: Rejected) -> None:
        """
        Settle one message in flight as refused by the consumer; the others go on.

        *number* counts from 0 since the client connected.

        Raises:
            IndexError: no such message is in flight.
        """
        position = number - self.passed
        for entry in self.flying:
            index = entry.start + position
            if position >= 0 and index < entry.count:
                if not entry.expired and index not in (entry.rejected or ()):
                    self._reject(entry, index, error)
                return
            position -= entry.count - entry.start
        raise IndexError(f"message {number} is not in flight")

    def fail_first(self, error: DeliveryError) -> None:
        """
        Note that the oldest message in flight failed, and that those behind it were not handed over yet.

        It is FAILED if it has no attempt left; the others of its batch have lost none.
        """
        entry = self.flying[0]
        attempts = self.policy.retry.attempts
        if attempts is None or entry.attempts < attempts or entry.expired:
            return
        self._reject(entry, entry.start, error)
        self.settle(1)
        if entry.start < entry.count:
            entry.attempts -= 1

    def _reject(self, entry: Entry, index: int, error: DeliveryError) -> None:
        if entry.rejected is None:
            entry.rejected = set()
        entry.rejected.add(index)
        self.stats.failed += 1
        if entry.track is not None:
            kept = entry.batch.kept
            root = index if kept is None else kept[index]
            entry.track.odd(
                (root,), ForwardResult(self.producer_id, Outcome.FAILED, None, error, entry.attempts)
            )
            entry.page.settled()
        self._events.settled(Outcome.FAILED, 1, error)

    # -- when things go wrong ----------------------------------------------------------------------

    def rewind(self, error: DeliveryError) -> None:
        """
        Put what is in flight back before what waits: the connection is gone.

        What has no attempt left is FAILED with *error*.
        """
        attempts = self.policy.retry.attempts
        self._ghosts = self.passed = 0
        # Oldest first for those who fail, newest first for those who go back.
        back = []
        while self.flying:
            entry = self.flying.popleft()
            if entry.expired:
                self._release(entry)
            elif attempts is not None and entry.attempts >= attempts:
                self._end(entry, Outcome.FAILED, error)
                self._release(entry)
            elif self._without_rejected(entry):
                back.append(entry)
        self.waiting.extendleft(reversed(back))

    def _without_rejected(self, entry: Entry) -> bool:
        """Leave out of *entry* what the consumer refused: it is not sent again. False if nothing is left."""
        if entry.rejected is None:
            return True
        left = [index for index in range(entry.start, entry.count) if index not in entry.rejected]
        entry.rejected = None
        if not left:
            self._release(entry)
            return False
        entry.batch = entry.batch.select(left)
        entry.start = 0
        entry.count = len(left)
        return True

    def fail_waiting(self, error: DeliveryError, *, tried: bool) -> None:
        """Settle all that waits as FAILED; *tried* says whether that was an attempt."""
        while self.waiting:
            entry = self.waiting.popleft()
            entry.attempts += tried
            self._end(entry, Outcome.FAILED, error)
            self._release(entry)

    def expire(self, now: float) -> None:
        """Settle as FAILED what has reached its deadline; what is in flight is not sent again."""
        limit = format_duration(self.deadline)
        while self._ghosts < len(self.flying) and self.flying[self._ghosts].deadline <= now:
            entry = self.flying[self._ghosts]
            error = DeadlineExceeded(
                f"{self.producer_id}: not {_PAST[self._ack]} within {limit}; it may have arrived"
            )
            self._end(entry, Outcome.FAILED, error)
            entry.expired = True
            self._ghosts += 1
        while self.waiting and self.waiting[0].deadline <= now:
            entry = self.waiting.popleft()
            arrived = "; it may have arrived" if entry.attempts else ", it was not sent"
            error = DeadlineExceeded(f"{self.producer_id}: its turn did not come within {limit}{arrived}")
            self._end(entry, Outcome.FAILED, error)
            self._release(entry)

    def next_deadline(self) -> float | None:
        """Return when expire() has something to do next."""
        if self._ghosts < len(self.flying):
            return self.flying[self._ghosts].deadline
        return self.waiting[0].deadline if self.waiting else None

    def cancel(self, error: DeliveryError) -> None:
        """Settle all that is left as CANCELLED."""
        while self.flying:
            entry = self.flying.popleft()
            if not entry.expired:
                self._end(entry, Outcome.CANCELLED, error)
            self._release(entry)
        self._ghosts = self.passed = 0
        while self.waiting:
            entry = self.waiting.popleft()
            self._end(entry, Outcome.CANCELLED, error)
            self._release(entry)

    # -- accounting --------------------------------------------------------------------------------

    def _end(self, entry: Entry, outcome: Outcome, error: DeliveryError) -> None:
        """Settle all that is open in *entry*."""
        count = entry.open(entry.count)
        if not count:
            return
        self._count(outcome, count)
        if entry.track is not None:
            self._record(
                entry,
                entry.count,
                count,
                ForwardResult(self.producer_id, outcome, None, error, entry.attempts),
            )
        self._events.settled(outcome, count, error)

    def _count(self, outcome: Outcome, count: int) -> None:
        stats = self.stats
        if outcome is Outcome.FAILED:
            stats.failed += count
        elif outcome is Outcome.DROPPED:
            stats.dropped += count
        else:
            stats.cancelled += count

    def _record(self, entry: Entry, stop: int, count: int, result: ForwardResult) -> None:
        """Write down the outcome of all open messages of *entry* before *stop*; they are *count*."""
        track = entry.track
        assert track is not None
        kept = entry.batch.kept
        if kept is None:
            track.run(stop, count, result)
        else:
            refused = entry.rejected or ()
            track.odd([kept[i] for i in range(entry.start, stop) if i not in refused], result)
        entry.page.settled()

    def _release(self, entry: Entry) -> None:
        """Let go of an entry whose messages are settled."""
        self.nbytes -= entry.cost
        entry.page.release()
        if self._is_blocked and self.nbytes <= self.policy.buffer // 2:
            self._is_blocked = False
            self._events.blocked(False)
        if not self.flying and not self.waiting:
            self._events.emptied()


_PAST = {
    Ack.WRITTEN: "taken by the consumer's connection",
    Ack.KERNEL: "acknowledged by the next hop",
    Ack.PEER: "answered by the peer",
    Ack.APP: "acknowledged by the application",
}
