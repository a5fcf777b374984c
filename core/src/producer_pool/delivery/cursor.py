"""Up to where stored batches are settled at one producer."""
# Rule: the cursor moves over what is settled from the front, and over nothing else: after a restart, what it
# has not passed goes out again.

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from producer_pool.delivery.tally import Tally

__all__ = ["Cursor"]


class Cursor:
    """Follows one producer through the numbers of what was handed over to it."""

    def __init__(self, after: int, move: Callable[[int], None]) -> None:
        self.handed = after
        """All up to this number was handed over, or is gone."""
        self.nbytes = 0
        """Bytes in the store of what was handed over and is not settled."""
        self.keeps = False
        """Whether it stays before what is cancelled."""
        self._at = after
        self._move = move
        self._open: deque[Tally] = deque()
        """What was handed over and is not passed."""

    def __repr__(self) -> str:
        return f"<Cursor {self._at}..{self.handed}>"

    @property
    def left_stored(self) -> int:
        """Messages that were cancelled, and stay in the store."""
        return sum(tally.cancelled for tally in self._open) if self.keeps else 0

    def hand(self, tally: Tally) -> None:
        """Note that a batch is handed over now."""
        self.handed = tally.number
        self.nbytes += tally.size
        self._open.append(tally)

    def move(self) -> None:
        """Move it as far as that is true."""
        opened = self._open
        while opened and opened[0].over and not (self.keeps and opened[0].cancelled):
            opened.popleft()
        at = opened[0].number - 1 if opened else self.handed
        if at > self._at:
            self._at = at
            self._move(at)
