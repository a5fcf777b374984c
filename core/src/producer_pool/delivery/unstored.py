"""What the store could not take, for a producer that is behind: kept in memory, in its place in the order."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from producer_pool.delivery.page import Page
from producer_pool.model.batch import Batch

__all__ = ["Unstored", "UnstoredBatch"]


class UnstoredBatch(NamedTuple):
    """A batch that came while nothing could be stored."""

    behind: int
    """Its turn comes behind the stored batch of this number."""
    page: Page
    batch: Batch
    accepted: float


class Unstored:
    """The batches of one producer that could not be stored, oldest first."""

    def __init__(self) -> None:
        self._items: deque[UnstoredBatch] = deque()
        self.cost = 0
        """Bytes of memory that they take."""

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def messages(self) -> int:
        """How many messages they are."""
        return sum(len(item.batch) for item in self._items)

    def put(self, item: UnstoredBatch) -> None:
        """Keep one more."""
        item.page.hold()
        self._items.append(item)
        self.cost += item.batch.cost

    def next_behind(self, number: int) -> UnstoredBatch | None:
        """Return the oldest, if its turn comes when the stored batch *number* has been handed over."""
        return self._items[0] if self._items and self._items[0].behind <= number else None

    def take(self) -> UnstoredBatch:
        """Take the oldest out. Its page is held until the caller releases it."""
        item = self._items.popleft()
        self.cost -= item.batch.cost
        return item
