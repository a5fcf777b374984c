"""One accepted batch: who holds it, what became of it at each producer, and who waits to know."""
# Rule: only the pool's own thread records; any thread may read and wait. The order is: a writer records
# and then looks for waiters, a waiter registers and then looks at the record. So no wake-up is lost.

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from producer_pool.model.batch import Batch
from producer_pool.model.errors import Filtered
from producer_pool.model.outcomes import ForwardResult, Outcome, Results
from producer_pool.model.policies import Role

__all__ = ["STORED", "AcceptedPage", "Budget", "Page", "Track"]

STORED: Final = -1
"""In the place of an index: whether it is known that the page is stored, or cannot be."""


class Budget:
    """The bytes that a pool holds: each page counts once, however many producers hold it."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Track:
    """What became of one page's messages at one producer: runs from the front, and exceptions to them."""

    __slots__ = ("_ends", "_odd", "_runs", "awaited", "left", "letters", "lost", "required")

    def __init__(self, count: int) -> None:
        self.left = count
        """Messages without a terminal outcome."""
        self.required = True
        """Whether its outcomes count for whoever sent the messages."""
        self.awaited = True
        """Whether who waits for the page waits for this, too."""
        self.letters = 0
        """Messages of which it is not known yet whether they are kept as dead letters."""
        self.lost = False
        """Whether dead letters could not be kept."""
        self._ends: list[int] = []
        self._runs: list[ForwardResult] = []
        self._odd: dict[int, ForwardResult] = {}

    def run(self, end: int, count: int, result: ForwardResult) -> None:
        """Record *result* for all messages before *end* that have none yet; they are *count*."""
        self._runs.append(result)
        self._ends.append(end)
        self.left -= count

    def odd(self, indexes: Iterable[int], result: ForwardResult) -> None:
        """Record *result* for single messages, wherever they stand."""
        for index in indexes:
            self._odd[index] = result
            self.left -= 1

    def know(self, count: int, kept: bool) -> None:
        """Note that it is known of *count* messages whether they are kept as dead letters."""
        self.letters -= count
        self.lost = self.lost or not kept

    @property
    def safe(self) -> bool:
        """
        Whether each message is settled, and delivered or kept among the dead letters.

        Or a stage removed it: it was not for this consumer.
        """
        if self.left:
            return False
        results = (*self._runs, *self._odd.values())
        return all(
            result.ok or (result.dead_lettered and not self.lost) or _is_left_out(result)
            for result in results
        )

    def at(self, index: int) -> ForwardResult | None:
        """Return the terminal result of one message, if it has one."""
        result = self._odd.get(index)
        if result is None:
            position = bisect_right(self._ends, index)
            # _runs is appended to first: whoever sees the end sees the run.
            result = self._runs[position] if position < len(self._ends) else None
        if self.lost and result is not None and result.dead_lettered:
            return replace(result, dead_lettered=False)
        return result


def _is_left_out(result: ForwardResult) -> bool:
    """Whether a stage removed the message, and did not just fail."""
    return result.outcome is Outcome.DROPPED and isinstance(result.error, Filtered)


def _wake(waiter: list[Callable[[], None]]) -> None:
    try:
        wake = waiter.pop()
    except IndexError:
        return
    wake()


class Page:
    """One batch that was accepted for some producers."""

    __slots__ = (
        "age",
        "batch",
        "budget",
        "cost",
        "holders",
        "stored",
        "storing",
        "targets",
        "tracks",
        "upstream",
        "waiters",
    )

    def __init__(
        self, batch: Batch | None, targets: Sequence[str], *, tracked: bool, upstream: bool = False
    ) -> None:
        self.batch = batch
        self.targets = targets
        self.upstream = upstream
        """Whether it is acknowledged to a sender, who waits for nobody but required producers."""
        self.tracks: dict[str, Track] | None = {} if tracked else None
        """By producer, from when the pool looked at the page; None if nobody will ask."""
        self.holders = 0
        """Outboxes that hold it."""
        self.cost = 0
        self.budget: Budget | None = None
        self.age = 0.0
        """Seconds from its acceptance to when it is offered: what a store took for it."""
        self.stored: bool | None = None
        """Whether it is in durable storage; None: there is none."""
        self.storing = False
        """Whether that is not known yet."""
        self.waiters: dict[int | None, list[list[Callable[[], None]]]] = {}
        """Who is to be woken when a message, or all of them (None), are done: see when_done()."""

    def open(self, budget: Budget, batch: Batch, roles: Mapping[str, Role] | None = None) -> None:
        """Get ready to be offered. *roles* are those of the producers that are not required."""
        if batch.kept is not None:
            # Outcomes are noted by the place in this batch, whatever it was once a part of.
            batch = Batch.of(batch.messages, received=batch.received, origin=batch.origin)
        self.batch = batch
        self.cost = batch.cost
        self.budget = budget
        if self.tracks is not None:
            count = len(batch)
            tracks = {producer_id: Track(count) for producer_id in self.targets}
            if roles:
                self._assign(tracks, roles)
            self.tracks = tracks

    def _assign(self, tracks: Mapping[str, Track], roles: Mapping[str, Role]) -> None:
        """Note whose outcomes do not count, and whom nobody waits for."""
        for producer_id, role in roles.items():
            if producer_id in tracks:
                track = tracks[producer_id]
                track.required = False
                track.awaited = not self.upstream and role is not Role.SHADOW
        if not self.upstream and not any(track.awaited for track in tracks.values()):
            # Who sends to nobody but shadows wants to know what they do with it.
            for track in tracks.values():
                track.awaited = True

    def hold(self) -> None:
        """Note that one more outbox holds it."""
        if not self.holders and self.budget is not None:
            self.budget.used += self.cost
        self.holders += 1

    def release(self) -> None:
        """Note that one outbox less holds it."""
        self.holders -= 1
        if not self.holders and self.budget is not None:
            self.budget.used -= self.cost

    def track(self, producer_id: str) -> Track | None:
        """Return where this producer's outcomes are recorded, if anybody will ask."""
        return self.tracks.get(producer_id) if self.tracks is not None else None

    def passed(self, producer_id: str, count: int, result: ForwardResult) -> None:
        """Note *result* for all of its *count* messages at one producer, and wake who waits."""
        if self.tracks is not None:
            self.tracks[producer_id].run(count, count, result)
            if self.waiters:
                self.settled(range(count))

    def decide_stored(self, stored: bool) -> None:
        """Note whether it is in durable storage, and wake who waits to know."""
        self.stored = stored
        self.storing = False
        if self.waiters:
            self.settled((STORED,))

    # -- asking ------------------------------------------------------------------------------------

    def done(self, index: int | None) -> bool:
        """
        Whether one message, or every one (None), has a terminal result at each producer awaited.

        A sender is told so only when it is known, too, whether the dead letters among them are kept. STORED
        asks whether it is known if it is stored.
        """
        if index == STORED:
            return not self.storing
        tracks = self.tracks
        if tracks is None or len(tracks) < len(self.targets):
            return False
        upstream = self.upstream
        left = [
            track
            for track in tracks.values()
            if track.awaited and (track.left or (upstream and track.letters))
        ]
        if index is None or not left:
            return not left
        return all(track.at(index) is not None for track in left)

    def results(self, index: int) -> Results:
        """Return what is known of one message now."""
        found = {}
        optional = []
        tracks = self.tracks
        for producer_id in self.targets:
            track = tracks.get(producer_id) if tracks else None
            result = track.at(index) if track is not None else None
            found[producer_id] = result or ForwardResult(producer_id, Outcome.PENDING)
            if track is not None and not track.required:
                optional.append(producer_id)
        return Results(found, optional)

    def when_done(self, index: int | None, wake: Callable[[], None]) -> Callable[[], None]:
        """
        Call *wake* once when done(index), perhaps at once, perhaps on another thread.

        Returns a callable that withdraws the wish.
        """
        # Whoever takes the call out of the list makes it: two threads may come to it at once.
        waiter = [wake]
        self.waiters.setdefault(index, []).append(waiter)
        if self.done(index):
            _wake(waiter)

        def withdraw() -> None:
            waiter.clear()
            with suppress(KeyError, ValueError):
                self.waiters[index].remove(waiter)

        return withdraw

    def settled(self, places: Sequence[int]) -> None:
        """Wake whoever waits for the messages at *places*, of which something was recorded."""
        waiters = self.waiters
        if not waiters:
            return
        # Look through the shorter of the two: all of a page may be waited for, one by one.
        if len(places) < len(waiters):
            waited = [index for index in (*places, None) if index in waiters]
        else:
            waited = list(waiters)
        for index in waited:
            if self.done(index):
                for waiter in waiters.pop(index, ()):
                    _wake(waiter)


class AcceptedPage(Page):
    """A page that a listener got a receipt for. It can be forgotten when nobody holds that any more."""

    __slots__ = ("__weakref__",)
