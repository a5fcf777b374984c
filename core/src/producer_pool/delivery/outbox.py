"""One producer's waiting and in-flight batches, with their rules."""
# Rule: nothing here reads a clock, touches a socket or knows a loop. Callers pass `now`: tests need no sleep.
# Rule: at every moment, accepted = delivered + failed + dropped + cancelled + pending(). So each method first
# changes all that there is to change, and tells about it last: whoever is told may call back in.

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from producer_pool.delivery.accounts import Accounts, OutboxEvents
from producer_pool.delivery.entry import Entry
from producer_pool.delivery.page import Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Cancelled, ConnectError, DeadlineExceeded, DeliveryError, Full
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Overflow
from producer_pool.model.text import format_duration, format_size

__all__ = ["Outbox", "OutboxEvents"]


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
        self.accounts = accounts = Accounts(producer_id, events, ack=ack)
        self.stats = accounts.stats
        self.waiting: deque[Entry] = deque()
        self.flying: deque[Entry] = deque()
        self.nbytes = 0
        """What waits or flies costs together. Never above the policy's buffer, but with Overflow.BLOCK,
        which takes what its source had read before it could be stopped, and with what lies in a store."""
        self.bounded = True
        """Whether what is offered has to fit into the buffer. Not if it is stored: then somebody else has
        seen to it that there is room, and takes care of what there is none for."""
        self.kept = ""
        """What is said of stored messages that are cancelled."""
        self._waiting_bytes = 0
        self._blocks = policy.overflow is Overflow.BLOCK
        self._events = events
        self._ack = ack
        self.deadline = deadline
        """Seconds that a batch has from its acceptance to a terminal outcome."""
        self._ghosts = 0
        """Entries at the front of `flying` that are expired."""
        self.handed = 0
        """Messages that the client was given since it connected."""
        self.passed = 0
        """Messages that the client has settled since it connected."""
        self._resume_at: int | None = None
        """While the source has to wait: the size at which it need not any more."""

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
        return self.handed - self.passed

    # -- taking in ---------------------------------------------------------------------------------

    def offer(self, page: Page, batch: Batch, now: float) -> bool:
        """Take *batch* if it fits, or if the overflow policy makes it fit; say whether it was taken."""
        accepted = now - page.age
        entry = Entry(page, batch, page.track(self.producer_id), accepted + self.deadline, accepted)
        if not entry.count:
            return False
        policy = self.policy
        if self.bounded and self.nbytes + entry.cost > policy.buffer and not self._make_room(entry.cost):
            self._refuse(entry, self._full(entry.cost))
            return False
        self.stats.accepted += entry.count
        page.hold()
        self.nbytes += entry.cost
        self._waiting_bytes += entry.cost
        self.waiting.append(entry)
        if self._blocks and self.nbytes >= policy.buffer and self.bounded:
            self.block(policy.buffer // 2)
        return True

    def fits(self, batch: Batch) -> bool:
        """Whether *batch* is taken without applying the overflow policy."""
        return self.nbytes + batch.cost <= self.policy.buffer

    def pass_through(self, count: int) -> None:
        """
        Count as delivered a batch of *count* messages that neither waited nor flew.

        Tells no event, and nobody who waits: whoever calls this knows.
        """
        stats = self.stats
        stats.accepted += count
        stats.delivered += count
        self.handed += count
        self.passed += count

    def take_off(self, page: Page, batch: Batch, now: float) -> None:
        """Take *batch*, which fits(), and which the client has taken already: it did not wait, and flies."""
        accepted = now - page.age
        entry = Entry(page, batch, page.track(self.producer_id), accepted + self.deadline, accepted)
        entry.attempts = 1
        entry.again = None
        self.stats.accepted += entry.count
        page.hold()
        self.nbytes += entry.cost
        self.handed += entry.count
        self.flying.append(entry)
        if self._blocks and self.nbytes >= self.policy.buffer and self.bounded:
            self.block(self.policy.buffer // 2)

    def block(self, resume_at: int) -> None:
        """Make the source wait until no more than *resume_at* bytes are left."""
        before = self._resume_at
        self._resume_at = resume_at if before is None else min(before, resume_at)
        if before is None:
            self._events.blocked(True)

    def _make_room(self, cost: int) -> bool:
        """Apply the overflow policy to a full buffer; say whether *cost* bytes more may come in."""
        overflow = self.policy.overflow
        if overflow is not Overflow.DROP_OLDEST:
            return overflow is Overflow.BLOCK
        # What flies stays. So where that leaves no room, nothing is dropped in vain.
        if self.nbytes - self._waiting_bytes + cost > self.policy.buffer:
            return False
        while self.nbytes + cost > self.policy.buffer:
            self.drop_oldest(self._full())
        return True

    def drop_oldest(self, why: str) -> None:
        """Drop the oldest waiting batch, because of *why*."""
        entry = self._next_waiting()
        arrived = "; it may have arrived" if entry.attempts else ""
        error = Full(f"{why}; the oldest waiting messages were dropped{arrived}")
        self._finish(entry, Outcome.DROPPED, error)

    def overflow(self, page: Page, batch: Batch, why: str) -> None:
        """Settle *batch* as a full buffer would, because another bound than its own was reached."""
        entry = Entry(page, batch, page.track(self.producer_id), 0.0)
        if entry.count:
            self._refuse(entry, f"{self.producer_id}: {why}")

    def _refuse(self, entry: Entry, why: str) -> None:
        """Settle a batch that is not taken, by the overflow policy."""
        rejects = self.policy.overflow in (Overflow.REJECT, Overflow.BLOCK)
        outcome = Outcome.FAILED if rejects else Outcome.DROPPED
        error = Full(f"{why}; not taken")
        self.stats.accepted += entry.count
        told = self.accounts.end(entry, outcome, error)
        self.accounts.tell(entry.page, told, outcome, entry.count, error)

    def _full(self, cost: int = 0) -> str:
        buffer = format_size(self.policy.buffer)
        if cost > self.policy.buffer:
            size = f"a batch that takes {format_size(cost)}, what it costs in memory included,"
            return f"{self.producer_id}: {size} does not fit into its buffer of {buffer} (buffer=)"
        return f"{self.producer_id}: buffer of {buffer} is full (buffer=, overflow=)"

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

    def isolate(self) -> None:
        """Make the oldest waiting message an entry of its own, which can be launched alone."""
        entry = self.waiting[0]
        if entry.count - entry.start > 1:
            self.waiting.appendleft(entry.split())
            entry.page.hold()

    def launch(self, count: int) -> int:
        """Note that the client has taken the next *count* entries, and return their bytes."""
        total = 0
        for _ in range(count):
            entry = self.waiting.popleft()
            messages = entry.count - entry.start
            if entry.attempts:
                self.stats.resent += messages if entry.again is None else entry.again
            entry.again = None
            entry.attempts += 1
            total += entry.cost
            self.handed += messages
            self.flying.append(entry)
        self._waiting_bytes -= total
        return total

    def settle(self, count: int) -> None:
        """Settle the next *count* messages in flight as delivered, from the oldest on."""
        self.passed += count
        delivered = 0
        while count:
            entry = self.flying[0]
            whole = entry.count - entry.start
            if whole <= count and entry.track is None and entry.rejected is None and not entry.expired:
                # It goes as a whole, and nobody asks: as most do.
                self.flying.popleft()
                entry.start = entry.count
                count -= whole
                delivered += whole
                self.stats.delivered += whole
                self._release(entry)
                continue
            stop = min(entry.count, entry.start + count)
            count -= stop - entry.start
            fresh = entry.open(stop)
            told: Sequence[int] = ()
            if fresh:
                delivered += fresh
                told = self.accounts.deliver(entry, stop, fresh)
            entry.start = stop
            if stop == entry.count:
                self.flying.popleft()
                if entry.expired:
                    self._ghosts -= 1
                self._release(entry)
            else:
                entry.breaks = 0
            if told:
                entry.page.settled(told)
        if delivered:
            self._events.settled(Outcome.DELIVERED, delivered, None)

    def advance(self, count: int) -> None:
        """
        Settle the next *count* messages as delivered, all of the oldest batch in flight.

        For a client that is given one message after the other: it gets the next one for the first time.
        """
        entry = self.flying[0]
        self.settle(count)
        entry.attempts = 1

    def reject(self, number: int, error: DeliveryError, count: int = 1) -> bool:
        """
        Settle *count* messages in flight, from *number* on, as refused by the consumer; the others go on.

        *number* counts from 0 since the client connected. False: all of them are settled already.

        Raises:
            IndexError: the client was given no such message.
        """
        if number < 0 or count < 1 or number + count > self.handed:
            which = f"message {number}" if count == 1 else f"{count:,} messages from {number} on"
            raise IndexError(f"{which} were not given to the client")
        first = max(number - self.passed, 0)
        stop = number - self.passed + count
        told: list[tuple[Page, Sequence[int], int]] = []
        for entry in self.flying:
            if stop <= 0:
                break
            size = entry.count - entry.start
            if first < size and not entry.expired:
                indexes = range(entry.start + first, entry.start + min(stop, size))
                refused = entry.rejected
                fresh = [index for index in indexes if index not in refused] if refused else indexes
                if fresh:
                    told.append((entry.page, self.accounts.reject(entry, fresh, error), len(fresh)))
            first = max(first - size, 0)
            stop -= size
        for page, places, messages in told:
            self.accounts.tell(page, places, Outcome.FAILED, messages, error)
        return bool(told)

    def fail_first(self, error: DeliveryError) -> None:
        """
        Note that the oldest message in flight failed, and that those behind it were not handed over yet.

        rewind() with *error* follows. If that says that it cannot have arrived, it was no attempt, where
        the policy lets messages wait for their consumer.
        """
        entry = self.flying[0]
        entry.again = 1
        if isinstance(error, ConnectError) and self.policy.retry.holds:
            entry.attempts -= 1

    # -- when things go wrong ----------------------------------------------------------------------

    def rewind(self, error: DeliveryError) -> None:
        """
        Put what is in flight back before what waits: the connection is gone.

        That is held against the oldest message in flight alone, since those behind it wait for it: it is
        FAILED with *error* if it has no attempt left. Where there is but one, so is all that was handed
        over.
        """
        self._ghosts = self.handed = self.passed = 0
        holds = self.policy.retry.holds
        first = self.flying[0] if self.flying else None
        told = self._blame(first, error) if first is not None else None
        back: list[Entry] = []
        over: list[Entry] = []
        for entry in self.flying:
            spent = not holds and entry.again is None
            if not entry.expired and not spent and _without_rejected(entry):
                back.append(entry)
            else:
                over.append(entry)
        self.flying = deque(over)
        self.waiting.extendleft(reversed(back))
        self._waiting_bytes += sum(entry.cost for entry in back)
        while self.flying:
            self._finish(self.flying.popleft(), Outcome.FAILED, error)
        if first is not None and told is not None:
            self.accounts.tell(first.page, told, Outcome.FAILED, 1, error)

    def _blame(self, entry: Entry, error: DeliveryError) -> Sequence[int] | None:
        """
        Hold a break against the oldest message in flight, that at the front of *entry*.

        Returns its place if it is given up with that; it remains to be told.
        """
        retry = self.policy.retry
        alone = entry.again is not None
        if entry.rejected is not None and entry.start in entry.rejected:
            entry.breaks = 0
            return None
        if entry.expired or (retry.holds and isinstance(error, ConnectError)):
            return None
        entry.breaks += 1
        if retry.attempts is None or entry.breaks < retry.attempts or not (retry.holds or alone):
            return None
        told = self.accounts.reject(entry, (entry.start,), error)
        entry.start += 1
        entry.breaks = 0
        if alone:  # Those behind it are as good as new.
            entry.attempts = entry.again = 0
        return told

    @property
    def breaks(self) -> int:
        """Connections in a row that broke at the message which is the next to be sent."""
        return self.waiting[0].breaks if self.waiting else 0

    def fail_waiting(self, error: DeliveryError, *, tried: bool) -> None:
        """Settle all that waits as FAILED; *tried* says whether that was an attempt."""
        for _ in range(len(self.waiting)):
            entry = self._next_waiting()
            entry.attempts += tried
            self._finish(entry, Outcome.FAILED, error)

    def expire(self, now: float, *, why: str = "") -> None:
        """
        Settle as FAILED what has reached its deadline; what is in flight is not sent again.

        *why* says, in the errors, what keeps it from being sent.
        """
        limit = format_duration(self.deadline)
        while self._ghosts < len(self.flying) and self.flying[self._ghosts].deadline <= now:
            entry = self.flying[self._ghosts]
            past = f"{self.producer_id}: not {_PAST[self._ack]} within {limit}"
            error = DeadlineExceeded(f"{past}; it may have arrived")
            count = entry.open(entry.count)
            told = self.accounts.end(entry, Outcome.FAILED, error)
            entry.expired = True
            self._ghosts += 1
            self.accounts.tell(entry.page, told, Outcome.FAILED, count, error)
        while self.waiting and self.waiting[0].deadline <= now:
            entry = self._next_waiting()
            arrived = "it may have arrived" if entry.attempts else "it was not sent"
            turn = f"{self.producer_id}: its turn did not come within {limit}"
            self._finish(entry, Outcome.FAILED, DeadlineExceeded(f"{turn}, {arrived}{why}"))

    def next_deadline(self) -> float | None:
        """Return when expire() has something to do next."""
        if self._ghosts < len(self.flying):
            return self.flying[self._ghosts].deadline
        return self.waiting[0].deadline if self.waiting else None

    def cancel(self, why: str) -> None:
        """Settle all that is left as CANCELLED, because of *why*."""
        self._ghosts = self.handed = self.passed = 0
        while not self.empty:
            entry = self.flying.popleft() if self.flying else self._next_waiting()
            arrived = "it may have arrived" if entry.attempts else "it was not sent"
            kept = self.kept if entry.page.stored else ""
            self._finish(entry, Outcome.CANCELLED, Cancelled(f"{self.producer_id}: {why}; {arrived}{kept}"))

    # -- letting go --------------------------------------------------------------------------------

    def _next_waiting(self) -> Entry:
        """Take the oldest waiting entry out of the queue."""
        entry = self.waiting.popleft()
        self._waiting_bytes -= entry.cost
        return entry

    def _finish(self, entry: Entry, outcome: Outcome, error: DeliveryError) -> None:
        """Settle all that is open in *entry*, which is in no queue any more, and let go of it."""
        count = entry.open(entry.count)
        told = self.accounts.end(entry, outcome, error)
        self._release(entry)
        self.accounts.tell(entry.page, told, outcome, count, error)

    def _release(self, entry: Entry) -> None:
        """Let go of an entry that is in no queue any more."""
        self.nbytes -= entry.cost
        entry.page.release()
        if self._resume_at is not None and self.nbytes <= self._resume_at:
            self._resume_at = None
            self._events.blocked(False)
        if not self.flying and not self.waiting:
            self._events.emptied()


def _without_rejected(entry: Entry) -> bool:
    """Leave out of *entry* what the consumer refused: it is not sent again. False if nothing is left."""
    refused, entry.rejected = entry.rejected, None
    if refused and max(refused) >= entry.start:
        left = [index for index in range(entry.start, entry.count) if index not in refused]
        entry.batch = entry.batch.select(left)
        entry.start = 0
        entry.count = len(left)
    return entry.start < entry.count


_PAST = {
    Ack.WRITTEN: "taken by the consumer's connection",
    Ack.KERNEL: "acknowledged by the next hop",
    Ack.PEER: "answered by the peer",
    Ack.APP: "acknowledged by the application",
}
