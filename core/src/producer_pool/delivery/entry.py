"""One batch in one outbox: what of it is settled, how often it was tried, and until when it may be."""

from __future__ import annotations

from producer_pool.delivery.page import Page, Track
from producer_pool.model.batch import Batch

__all__ = ["Entry"]


class Entry:
    """One batch in one outbox."""

    __slots__ = (
        "accepted",
        "again",
        "attempts",
        "batch",
        "breaks",
        "cost",
        "count",
        "deadline",
        "expired",
        "page",
        "rejected",
        "start",
        "track",
    )

    def __init__(
        self, page: Page, batch: Batch, track: Track | None, deadline: float, accepted: float | None = None
    ) -> None:
        self.page = page
        self.batch = batch
        self.track = track
        self.deadline = deadline
        self.accepted = accepted
        """When it was; None: just now."""
        self.count = batch.count
        self.start = 0
        """Messages from the front that are settled."""
        self.attempts = 0
        """How often the message at `start` was given to a client, and those behind it at the most."""
        self.again: int | None = 0
        """Messages from `start` on that a client was given already; None: all."""
        self.breaks = 0
        """Connections in a row that broke when the message at `start` was the oldest in flight."""
        self.cost = batch.cost
        self.rejected: set[int] | None = None
        """Messages behind `start` that the consumer refused; they are settled too."""
        self.expired = False
        """Its messages are settled, but the client still counts them."""

    def split(self) -> Entry:
        """Cut off the message at `start`, and return it as an entry of its own, with its part of the cost."""
        start = self.start
        first = Entry(self.page, self.batch.select((start,)), self.track, self.deadline, self.accepted)
        first.cost = min(first.cost, self.cost // 2)
        first.attempts = self.attempts
        first.again = None if self.again else self.again
        first.breaks = self.breaks
        self.batch = self.batch.select(range(start + 1, self.count))
        self.cost -= first.cost
        self.count = len(self.batch)
        self.start = self.breaks = 0
        if self.again is not None:  # Those behind the first were not given to a client.
            self.attempts = self.again = 0
        return first

    def open(self, stop: int) -> int:
        """Return how many messages before *stop* are not settled."""
        if self.expired:
            return 0
        if self.rejected is None:
            return stop - self.start
        return stop - self.start - sum(1 for index in self.rejected if self.start <= index < stop)
