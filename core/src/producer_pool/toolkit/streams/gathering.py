"""What several connections send at one time, joined: fewer and larger batches, for a little delay."""
# Rule: no socket and no loop. Nothing is held from one turn to the next: who waits leaves it in the kernel.

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing

__all__ = ["Gathering"]

_MOST: Final = 64 * 1024
"""Bytes that are joined. Larger batches are as cheap alone, and who sends so much in a turn need not wait."""
_WORTH: Final = 4
"""Messages that have to be expected within the delay. For fewer, waiting costs more than it saves."""


class Gathering:
    """
    Joins the batches of a turn into one, and tells for how long it pays to wait for the next turn.

    A batch that is joined of several does not say which connection a message came from: its origin
    is the listener. Messages of one connection keep their order.
    """

    def __init__(
        self, delay: float, framing: Framing, *, origin: str, feed: Callable[[Batch], None], now: float
    ) -> None:
        """Prepare to wait for up to *delay* seconds; *feed* gets what was joined. All is in *framing*."""
        self._delay = delay
        self._framing = framing
        self._origin = origin
        self._feed = feed
        self._batches: list[Batch] = []
        self._nbytes = 0
        self._large = False
        """Whether more came in this turn than is joined."""
        self._since = now
        self._count = 0
        """Messages that came since then."""
        self._expected = 0.0
        """Messages within a delay, as they came lately."""

    def take(self, batch: Batch) -> None:
        """Take a batch, to be passed on at the end of this turn at the latest."""
        if self._nbytes + batch.nbytes > _MOST:
            self._large = True
            self.flush()
        self._batches.append(batch)
        self._nbytes += batch.nbytes
        self._count += len(batch)

    def flush(self) -> None:
        """Pass on all that was taken."""
        batches = self._batches
        if len(batches) > 1:
            framing = self._framing
            wire = b"".join([batch.wire(framing) for batch in batches])
            count = sum(map(len, batches))
            received = batches[0].received
            batches = [Batch.from_wire(wire, framing, count, received=received, origin=self._origin)]
        if batches:
            self._batches = []
            self._nbytes = 0
            self._feed(batches[0])

    def end_turn(self, now: float) -> float:
        """Pass on all that was taken, and return for how many seconds it pays to leave waiting what comes."""
        self.flush()
        large, self._large = self._large, False
        passed = now - self._since
        if passed >= self._delay:
            self._expected = self._count * self._delay / passed
            self._since = now
            self._count = 0
        return 0.0 if large or self._expected < _WORTH else self._delay
