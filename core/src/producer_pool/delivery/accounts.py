"""What became of one producer's messages: counted, written down for whoever asks, and told."""
# Rule: end(), turn_away() and reject() change all that there is to change. tell() comes last: whoever is told
# may call back in.

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from producer_pool.delivery.entry import Entry
from producer_pool.delivery.letters import DeadLetters
from producer_pool.delivery.page import Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Full
from producer_pool.model.given_up import GivenUp
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
        self.letters: DeadLetters | None = None
        """Who keeps what is given up. As long as nobody does, nothing is looked at for it."""

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
        letter = False
        if self.letters is not None and _is_given_up(outcome, error):
            indexes: Sequence[int] = range(entry.start, entry.count)
            if entry.rejected:
                indexes = [index for index in indexes if index not in entry.rejected]
            given_up = GivenUp(entry.batch, indexes, outcome, error, entry.attempts, entry.accepted)
            letter = self._give_up(given_up, entry.page)
        result = ForwardResult(self._producer_id, outcome, None, error, entry.attempts, letter)
        return self._record(entry, entry.count, count, result)

    def reject(self, entry: Entry, indexes: Sequence[int], error: DeliveryError) -> Sequence[int]:
        """Write down as failed some messages of *entry*, the rest of which goes on; return their places."""
        if entry.rejected is None:
            entry.rejected = set()
        entry.rejected.update(indexes)
        self.stats.failed += len(indexes)
        attempts = entry.attempts
        letter = False
        if self.letters is not None:
            given_up = GivenUp(entry.batch, indexes, Outcome.FAILED, error, attempts, entry.accepted)
            letter = self._give_up(given_up, entry.page)
        places = _places(entry.batch, indexes)
        if entry.track is not None:
            result = ForwardResult(self._producer_id, Outcome.FAILED, None, error, attempts, letter)
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
        letter = False
        if count and self.letters is not None and _is_given_up(outcome, error):
            letter = self._give_up(GivenUp(batch, indexes, outcome, error, 0, None), page)
        if track is not None:
            track.odd(places, ForwardResult(self._producer_id, outcome, None, error, 0, letter))
        self.tell(page, places, outcome, count, error)

    def tell(
        self, page: Page, places: Sequence[int], outcome: Outcome, count: int, error: DeliveryError
    ) -> None:
        """Wake who waits for these messages of *page*, and report what was settled."""
        if count:
            page.settled(places)
            self._events.settled(outcome, count, error)

    def _give_up(self, given_up: GivenUp, page: Page) -> bool:
        """Hand messages to whoever keeps them; say whether they were taken."""
        letters = self.letters
        count = len(given_up.indexes)
        # Of what nobody asks about, the page is not held any longer than it has to be.
        asked = page if page.tracks is not None else None
        if letters is None or not letters.take(given_up, partial(self._kept, count, asked)):
            self.stats.dead_letters_lost += count
            return False
        if asked is not None and (track := asked.track(self._producer_id)) is not None:
            track.letters += count
        return True

    def _kept(self, count: int, page: Page | None, kept: bool) -> None:
        """Note that so many messages given up are kept now, or cannot be."""
        if kept:
            self.stats.dead_lettered += count
        else:
            self.stats.dead_letters_lost += count
        if page is not None and (track := page.track(self._producer_id)) is not None:
            track.know(count, kept)
            if not track.letters:
                page.settled(())

    def count_apart(self, outcome: Outcome, count: int) -> None:
        """Count messages that were accepted and settled without ever getting into the outbox."""
        self.stats.accepted += count
        self._count(outcome, count)

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


def _is_given_up(outcome: Outcome, error: DeliveryError) -> bool:
    """
    Whether messages that end like this are dead letters.

    All that failed is, and what a full buffer dropped. What a stage left out was not wanted, and what was
    cancelled has not been given up: somebody closed the pool, or removed the producer.
    """
    return outcome is Outcome.FAILED or (outcome is Outcome.DROPPED and isinstance(error, Full))


def _places(batch: Batch, indexes: Sequence[int]) -> Sequence[int]:
    """Return where in their page the messages at *indexes* of *batch* stand."""
    kept = batch.kept
    return indexes if kept is None else [kept[index] for index in indexes]
