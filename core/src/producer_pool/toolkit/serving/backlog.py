"""What waits for one peer, in order, and where messages were left out."""
# Rule: no socket. What is dropped are whole batches, and the caller is told which messages that were.

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing
from producer_pool.toolkit.streams.grouping import JOINED

__all__ = ["Backlog", "Range", "Waiting"]

Range = tuple[int, int]
"""Messages by their numbers: the first, and the one after the last."""


class Waiting(NamedTuple):
    """One batch that waits, or a gap."""

    first: int
    """The number of its first message."""
    messages: int
    run: Batch | None
    """None: these messages are not for this peer."""


class Backlog:
    """Batches, shared with other peers, that wait for one peer. Messages have rising numbers."""

    __slots__ = ("_entries", "_framing", "cost")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._entries: deque[Waiting] = deque()
        self.cost = 0
        """Bytes that it counts for."""

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, first: int, run: Batch) -> None:
        """Put a batch at the end."""
        self._entries.append(Waiting(first, len(run), run))
        self.cost += run.cost

    def leave_out(self, first: int, count: int) -> None:
        """Note that the next *count* messages are not for this peer."""
        entries = self._entries
        if entries and entries[-1].run is None:
            last = entries.pop()
            first, count = last.first, last.messages + count
        entries.append(Waiting(first, count, None))

    def drop_oldest(self, most: int) -> list[Range]:
        """Leave out batches from the front, until those left cost at most *most*; return which they were."""
        entries = self._entries
        dropped: list[Range] = []
        gap = entries[0].first if entries else 0
        end = gap
        while entries and self.cost > most:
            first, count, run = entries.popleft()
            end = first + count
            if run is not None:
                self.cost -= run.cost
                dropped.append((first, end))
        if end > gap:
            entries.appendleft(Waiting(gap, end - gap, None))
        return dropped

    def next(self) -> Waiting:
        """Take out what is in front: a gap, or a batch, to which small ones are joined that follow it."""
        entries = self._entries
        first, count, run = entries.popleft()
        if run is None:
            return Waiting(first, count, None)
        self.cost -= run.cost
        if not entries or run.cost > JOINED:
            return Waiting(first, count, run)
        runs = [run]
        size = run.cost
        while entries:
            _, more, following = entries[0]
            if following is None or size + following.cost > JOINED:
                break
            entries.popleft()
            runs.append(following)
            size += following.cost
            count += more
        if len(runs) > 1:
            self.cost -= size - run.cost
            framing = self._framing
            run = Batch.from_wire(b"".join([one.wire(framing) for one in runs]), framing, count)
        return Waiting(first, count, run)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.cost = 0
