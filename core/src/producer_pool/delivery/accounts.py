"""What became of one producer's messages: counted, written down for whoever asks, and told."""
# Rule: end(), turn_away() and reject() change all that there is to change. tell() comes last: whoever is told
# may call back in.

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from producer_pool.delivery.entry import Entry
from producer_pool.delivery.page import Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.model.stats import ProducerStats

__all__ = ["Accounts", "OutboxEvents"]


class OutboxEvents(Protocol):
    """Who is told what an outbox does."""

    def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        """So many messages came to a terminal outcome."""

    def blocked(self, yes: bool) -> None:
        """The source has to wait, or need not any more."""

    def emptied(self) -> None:
        """Nothing waits and nothing is in flight."""


class Accounts:
    """Counts what becomes of messages, and has it recorded in their pages. It holds none of them."""

    def __init__(self, producer_id: str, events: OutboxEvents, *, ack: Ack) -> None:
        self.stats = ProducerStats()
        self._producer_id = producer_id
        self._events = events
        self._ack = ack
        self.first_try = ForwardResult(producer_id, Outcome.DELIVERED, ack, None, 1)
        """The result of what was delivered at once: most have it, and share it."""

    def deliver(self, entry: Entry, stop: int, count: int) -> Sequence[int]:
        """
        Write down as delivered all open messages of *entry* before *stop*; they are *count*.

        Returns their places in the page, if anybody asks.
        """
        self.stats.delivered += count
        attempts = entry.attempts
        if attempts == 1:
            return self._record(entry, stop, count, self.first_try)
        again = ForwardResult(self._producer_id, Outcome.DELIVERED, self._ack, None, attempts)
        return self._record(entry, stop, count, again)

    def end(self, entry: Entry, outcome: Outcome, error: DeliveryError) -> Sequence[int]:
        """Write down the outcome of all that is open in *entry*; return their places, if anybody asks."""
        count = entry.open(entry.count)
        if not count:
            return ()
        self._count(outcome, count)
        result = ForwardResult(self._producer_id, outcome, None, error, entry.attempts)
        return self._record(entry, entry.count, count, result)

    def reject(self, entry: Entry, indexes: Sequence[int], error: DeliveryError) -> Sequence[int]:
        """Write down as failed some messages of *entry*, the rest of which goes on; return their places."""
        if entry.rejected is None:
            entry.rejected = set()
        entry.rejected.update(indexes)
        self.stats.failed += len(indexes)
        places = _places(entry.batch, indexes)
        if entry.track is not None:
            result = ForwardResult(self._producer_id, Outcome.FAILED, None, error, entry.attempts)
            entry.track.odd(places, result)
        return places

    def turn_away(
        self, page: Page, batch: Batch, indexes: Sequence[int], error: DeliveryError, outcome: Outcome
    ) -> None:
        """Settle messages of *batch* that never get in: misfits, and what a stage left out."""
        count = len(indexes)
        self.stats.accepted += count
        self._count(outcome, count)
        places = _places(batch, indexes)
        track = page.track(self._producer_id)
        if track is not None:
            track.odd(places, ForwardResult(self._producer_id, outcome, None, error))
        self.tell(page, places, outcome, count, error)

    def tell(
        self, page: Page, places: Sequence[int], outcome: Outcome, count: int, error: DeliveryError
    ) -> None:
        """Wake who waits for these messages of *page*, and report what was settled."""
        if count:
            page.settled(places)
            self._events.settled(outcome, count, error)

    def _count(self, outcome: Outcome, count: int) -> None:
        stats = self.stats
        if outcome is Outcome.FAILED:
            stats.failed += count
        elif outcome is Outcome.DROPPED:
            stats.dropped += count
        else:
            stats.cancelled += count

    def _record(self, entry: Entry, stop: int, count: int, result: ForwardResult) -> Sequence[int]:
        """
        Write down the outcome of all open messages of *entry* before *stop*; they are *count*.

        Returns their places in the page, if anybody asks.
        """
        track = entry.track
        if track is None:
            return ()
        kept = entry.batch.kept
        if kept is None:
            track.run(stop, count, result)
            return range(entry.start, stop)
        refused = entry.rejected or ()
        places = [kept[i] for i in range(entry.start, stop) if i not in refused]
        track.odd(places, result)
        return places


def _places(batch: Batch, indexes: Sequence[int]) -> Sequence[int]:
    """Return where in their page the messages at *indexes* of *batch* stand."""
    kept = batch.kept
    return indexes if kept is None else [kept[index] for index in indexes]
