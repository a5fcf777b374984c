"""What one lane asks of the store: to read what comes next, and to skip what there is no room for."""
# Rule: one thing at a time. So nothing is skipped that is being read.

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from producer_pool.delivery.store import Store
from producer_pool.model.errors import DeadlineExceeded, DeliveryError, Lost
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import BATCH_OVERHEAD
from producer_pool.model.stored import ROW_OVERHEAD, StoredBatch, stored_size

if TYPE_CHECKING:
    from producer_pool.delivery.lane import Lane

__all__ = ["Reader"]

WINDOW: Final = 2 * 1024 * 1024
"""Bytes that are read back at once, at the most; less for a small buffer."""

AGAIN: Final = 0.5
"""Seconds until the next try of a reading that brought nothing, though there is something."""

AGED: Final = 5.0
"""Seconds between two looks for stored messages that have become too old."""


class Reader:
    """Asks the store for one lane, and passes on in order what it answers."""

    def __init__(self, lane: Lane, store: Store) -> None:
        self._lane = lane
        self._store = store
        self._name = lane.producer.id
        self._loop = asyncio.get_running_loop()
        self.busy = False
        """Whether the store was asked, and has not answered."""
        self.why_lost = "it is not where it was stored"
        self._asked_at = 0
        """What was handed over when it was."""
        self._skipped = False
        """Whether it was asked to skip something: then reading has its turn."""
        self._aged_at = self._loop.time()
        self._weight = (BATCH_OVERHEAD + ROW_OVERHEAD) / ROW_OVERHEAD
        """Bytes of memory for each byte that is read: as the last time; at first, those of empty batches."""
        self.next_cost = 0
        """What a batch takes in memory for which there was no room when it was read."""
        self._again: asyncio.TimerHandle | None = None

    def ask(self, *, too_much: int, room: int) -> bool:
        """
        Ask for what is most urgent; False: there is nothing that could be done.

        *too_much* bytes have to go of what only lies in the store; *room* bytes may be read.
        """
        lane, store = self._lane, self._store
        self._asked_at = lane.handed
        if too_much and not (self._skipped and room):
            self._skipped = True
            if lane.producer.outbox.accounts.letters is not None:
                # Whoever keeps dead letters wants to see what is dropped.
                store.read(self._name, lane.handed, min(too_much, WINDOW), self._read_to_drop)
            else:
                store.skip_oldest(self._name, lane.handed, too_much, self._skipped_oldest)
        elif self._loop.time() - self._aged_at >= AGED:
            self._aged_at = self._loop.time()
            store.skip_expired(self._name, lane.handed, self._skipped_expired)
        elif room:
            self._skipped = False
            most = max(int(min(room, WINDOW) / self._weight), 1)
            store.read(self._name, lane.handed, most, self._read)
        else:
            return False
        self.busy = True
        return True

    def stop(self) -> None:
        """Ask no more."""
        if self._again is not None:
            self._again.cancel()

    # -- what the store answers --------------------------------------------------------------------

    def _read(self, batches: Sequence[StoredBatch], upto: int) -> None:
        lane = self._lane
        self.next_cost = cost = size = 0
        for stored in self._in_order(batches):
            cost += stored.batch.cost
            size += stored_size(stored.batch)
            if not lane.has_room(stored.batch.cost):
                self.next_cost = stored.batch.cost
                upto = lane.handed
                break
            lane.read_back(stored, None)
        if size:
            self._weight = cost / size
        self._looked(upto)

    def _read_to_drop(self, batches: Sequence[StoredBatch], upto: int) -> None:
        lane = self._lane
        error = lane.dropped()
        for stored in self._in_order(batches):
            if not lane.too_much():
                upto = lane.handed
                break
            lane.read_back(stored, error)
        self._looked(upto)

    def _in_order(self, batches: Sequence[StoredBatch]) -> Iterator[StoredBatch]:
        """Yield what is the lane's to hand over, each when what could not be stored before it is out."""
        lane = self._lane
        for stored in batches:
            # Of what is newer than it knows, it will be told first that it is stored.
            if lane.stopped or stored.number > lane.last:
                return
            lane.offer_unstored_before(stored.number)
            yield stored

    def _looked(self, upto: int) -> None:
        """Note how far the store has looked."""
        lane = self._lane
        if lane.stopped:
            return
        if upto <= lane.handed < lane.last and self._asked_at == lane.handed and not self.next_cost:
            # It cannot be read just now. To ask at once would be to ask for ever.
            self._again = self._loop.call_later(AGAIN, self._ask_again)
            return
        self.busy = False
        gone = Lost(f"{self._name}: it was stored, and is gone: {self.why_lost}")
        lane.pass_to(upto, gone, Outcome.FAILED)

    def _ask_again(self) -> None:
        self.busy = False
        self._lane.act_soon()

    def _skipped_oldest(self, upto: int, messages: int, nbytes: int) -> None:
        self._skip(upto, messages, nbytes, Outcome.DROPPED, self._lane.dropped())

    def _skipped_expired(self, upto: int, messages: int, nbytes: int) -> None:
        why = "it lay in the spool for longer than a message may (spool-age=)"
        self._skip(upto, messages, nbytes, Outcome.FAILED, DeadlineExceeded(f"{self._name}: {why}"))

    def _skip(self, upto: int, messages: int, nbytes: int, outcome: Outcome, error: DeliveryError) -> None:
        lane = self._lane
        if lane.stopped:
            return
        if outcome is Outcome.DROPPED and upto <= lane.handed:
            self._again = self._loop.call_later(AGAIN, self._ask_again)
            return
        self.busy = False
        lane.settle_stored(messages, nbytes, outcome, error)
        lane.pass_to(upto, error, outcome)
