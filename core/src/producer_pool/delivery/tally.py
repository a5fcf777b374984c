"""Stored batches at one producer: what became of each, and what is read back of them."""
# Rule: this happens in the middle of an outbox's accounting. Whoever is told notes it, and acts later.

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

from producer_pool.delivery.page import AcceptedPage, Budget, Page, Track
from producer_pool.delivery.submitlog import OpenPage
from producer_pool.model.errors import DeliveryError
from producer_pool.model.outcomes import ForwardResult, Outcome
from producer_pool.model.stored import StoredBatch

__all__ = ["Awaited", "Mark", "PageReadBack", "Tally", "TallyOwner", "record", "tally_of"]


class TallyOwner(Protocol):
    """Who is told when all messages of a stored batch have come to an outcome."""

    def settled(self, tally: Tally) -> None:
        """All of it is settled."""


class Tally(Track):
    """What became of one stored batch at one producer."""

    __slots__ = ("cancelled", "count", "number", "owner", "size")

    def __init__(self, count: int, like: Track | None = None) -> None:
        """Count *count* messages; *like* says who waits for them."""
        super().__init__(count)
        self.count = count
        if like is not None:
            self.required = like.required
            self.awaited = like.awaited
        self.owner: TallyOwner | None = None
        """Who is told; None as long as it lies in the store only."""
        self.number = 0
        """That of the batch in the store."""
        self.size = 0
        """Bytes that it counts for there."""
        self.cancelled = 0
        """Messages that came to no end of their own: they go out again after a restart."""

    def begin(self, owner: TallyOwner, number: int, size: int) -> None:
        """Have *owner* told, from now on: the batch is about to be handed over."""
        self.owner = owner
        self.number = number
        self.size = size

    @property
    def over(self) -> bool:
        """Whether all of it is settled, and its dead letters are kept or lost."""
        return not self.left and not self.letters

    def know(self, count: int, kept: bool) -> None:
        super().know(count, kept)
        if self.owner is not None and self.over:
            self.owner.settled(self)

    def run(self, end: int, count: int, result: ForwardResult) -> None:
        super().run(end, count, result)
        if self.owner is not None:
            if result.outcome is Outcome.CANCELLED:
                self.cancelled += count
            if self.over:
                self.owner.settled(self)

    def odd(self, indexes: Iterable[int], result: ForwardResult) -> None:
        before = self.left
        super().odd(indexes, result)
        if self.owner is not None and self.left < before:
            if result.outcome is Outcome.CANCELLED:
                self.cancelled += before - self.left
            if self.over:
                self.owner.settled(self)


class Mark(Tally):
    """A tally of a batch that nobody has a receipt for: it only counts."""

    __slots__ = ()

    def __init__(self, count: int) -> None:
        self.left = self.count = count
        self.required = self.awaited = True
        self.letters = self.cancelled = self.number = self.size = 0
        self.lost = False
        self.owner = None

    def run(self, end: int, count: int, result: ForwardResult) -> None:
        self._settle(count, result)

    def odd(self, indexes: Iterable[int], result: ForwardResult) -> None:
        self._settle(sum(1 for _ in indexes), result)

    def _settle(self, count: int, result: ForwardResult) -> None:
        self.left -= count
        if result.outcome is Outcome.CANCELLED:
            self.cancelled += count
        if count and self.over and self.owner is not None:
            self.owner.settled(self)

    def at(self, index: int) -> None:
        return None


class PageReadBack(Page):
    """A batch that was read back for one producer. Who waits for it, waits at the page that it came with."""

    __slots__ = ("_origin",)

    def __init__(self, stored: StoredBatch, budget: Budget, tally: Tally, origin: Page | None) -> None:
        super().__init__(None, (), tracked=False)
        self.open(budget, stored.batch)
        self.stored = True
        self.age = max(stored.age, 0.0)
        self._origin = origin
        if origin is not None:
            self.waiters = origin.waiters

    def settled(self, places: Sequence[int]) -> None:
        if self._origin is not None:
            self._origin.settled(places)


def tally_of(page: Page | None, producer_id: str, count: int) -> Tally:
    """Return where the outcomes of *page* at a producer are recorded; a new mark, if nobody will ask."""
    track = page.track(producer_id) if page is not None else None
    return track if isinstance(track, Tally) else Mark(count)


def record(page: Page, producer_id: str, outcome: Outcome, error: DeliveryError) -> None:
    """Record an outcome for all that is open of *page* at a producer. It is counted elsewhere."""
    tally = page.track(producer_id)
    if isinstance(tally, Tally) and tally.left:
        tally.run(tally.count, tally.left, ForwardResult(producer_id, outcome, None, error))
        page.settled(range(tally.count))


class Awaited:
    """Pages by the numbers of their batches, which lie in the store only, as long as anybody will ask."""

    def __init__(self) -> None:
        self._weak: weakref.WeakValueDictionary[int, OpenPage | AcceptedPage] = weakref.WeakValueDictionary()
        self._strong: dict[int, Page] = {}
        """Those that cannot be held weakly."""

    def put(self, number: int, page: Page) -> None:
        """Remember the page of a stored batch."""
        if isinstance(page, OpenPage | AcceptedPage):
            self._weak[number] = page
        else:
            self._strong[number] = page

    def take(self, number: int) -> Page | None:
        """Return the page of a stored batch, and forget it; None: nobody asks."""
        page = self._weak.pop(number, None)
        return self._strong.pop(number, None) if page is None else page

    def take_up_to(self, number: float) -> list[Page]:
        """Return the pages of all batches up to *number*, in their order, and forget them."""
        if not self._weak and not self._strong:
            return []
        numbers = sorted(each for each in (*list(self._weak.keys()), *self._strong) if each <= number)
        return [page for each in numbers if (page := self.take(each)) is not None]
