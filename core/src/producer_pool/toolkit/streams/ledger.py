"""Which message lies where in the bytes of one connection."""
# Rule: no socket and no clock. Callers say how many bytes were taken, sent and acknowledged.

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing

__all__ = ["Ledger", "same_plaintext"]


_Taken = tuple[int, int, int, Batch, int]
"""
One batch in the stream: the position after its last byte, its size, and the messages taken up to here, with
its own; the batch, of which the messages before the last number are not part of this connection.

Not a class with names: one is made for each batch and consumer, and that takes three times as long.
"""


def same_plaintext(reached: int, size: int, plain: int) -> int:
    """Return *reached*: without encryption, positions are the same on both sides of it."""
    return reached


Inside = Callable[[int, int, int], int]
"""(bytes reached, size encrypted, size before that) -> bytes before encryption that are there for sure."""


class Ledger:
    """
    Counts messages by the positions of their last bytes, from the beginning of a connection.

    A batch is referred to, not copied, and only as long as somebody may ask about its inside: until
    it is confirmed, or with *keeps* false until it is written. The position of a message inside a
    batch is looked for only when it is asked for, which is after a break.
    """

    __slots__ = ("_entries", "_framing", "_inside", "_keeps", "confirmed", "position", "taken", "written")

    position: int
    """Bytes taken, whether the kernel has them or not."""
    taken: int
    """Messages taken."""
    written: int
    """Messages of batches that the kernel has wholly."""
    confirmed: int
    """Messages of batches that are acknowledged wholly."""

    def __init__(self, framing: Framing, *, keeps: bool, inside: Inside = same_plaintext) -> None:
        self._framing = framing
        self._keeps = keeps
        self._inside = inside
        self._entries: deque[_Taken] = deque()
        self.position = self.taken = self.written = self.confirmed = 0

    def take(self, batch: Batch, offset: int, size: int, rest: int) -> None:
        """Take *batch* from message *offset* on: *size* bytes, *rest* of them not sent yet."""
        self.position = position = self.position + size
        self.taken = taken = self.taken + batch.count - offset
        if rest or self._keeps:
            self._entries.append((position, size, taken, batch, offset))
        if not rest:
            self.written = taken

    def skip(self, size: int) -> None:
        """Take bytes that belong to no message."""
        self.position += size

    def pass_by(self, size: int, count: int) -> None:
        """Take *size* bytes of *count* messages that are confirmed already, as is all before them."""
        self.position += size
        self.taken = self.written = self.confirmed = self.taken + count

    def miss(self, count: int) -> None:
        """Count messages that this connection does not get, when the kernel has all that was taken."""
        self.taken += count
        self.written = self.taken

    def flushed(self) -> None:
        """Be told that the kernel has all that was taken."""
        self.written = self.taken
        if not self._keeps:
            self._entries.clear()

    @property
    def waits(self) -> bool:
        """Whether anything is unconfirmed."""
        return bool(self._entries)

    def advance(self, reached: int) -> bool:
        """Confirm the batches that end within the first *reached* bytes; return whether there are any."""
        entries = self._entries
        before = self.confirmed
        while entries and entries[0][0] <= reached:
            self.confirmed = entries.popleft()[2]
        return self.confirmed > before

    def within(self, reached: int) -> int:
        """Return how many messages lie wholly in the first *reached* bytes. *reached* never goes back."""
        for entry in self._entries:
            end, _, messages, batch, offset = entry
            if end > reached:
                before = messages - batch.count + offset
                return before + self._whole(entry, reached)
        return self.taken

    def splits(self, reached: int) -> bool:
        """Whether position *reached* lies inside a frame."""
        framing = self._framing
        for end, size, _, batch, offset in self._entries:
            inside = reached - (end - size)
            if inside <= 0:
                return False
            if inside < size:
                # Part of an encrypted record is part of a frame, though it is nothing to the other side yet.
                if self._inside is not same_plaintext:
                    return True
                wire = batch.wire(framing, offset)
                return framing.offset(wire, framing.index(wire, inside)) != inside
        return False

    def _whole(self, entry: _Taken, reached: int) -> int:
        """Return how many frames of a batch are whole at *reached*."""
        end, size, _, batch, offset = entry
        start = end - size
        if reached <= start:
            return 0
        wire = batch.wire(self._framing, offset)
        return self._framing.index(wire, self._inside(reached - start, size, len(wire)))
