"""How far a connection got, by the pongs that came back."""
# Rule: no socket and no clock. Callers pass `now`.

from __future__ import annotations

from struct import Struct
from typing import Final

from producer_pool.plugin import Progress

__all__ = ["Pongs"]

_POSITION: Final = Struct("!Q")
_APART: Final = 64 * 1024
"""Bytes after which a further ping goes out, though the one before has no answer yet: progress is seen."""


class Pongs(Progress):
    """
    Counts what the other side's protocol layer has read: the level PEER.

    A ping carries how many bytes stand before it in the stream, and its pong says that all of these
    have been read. Pongs are cumulative, because only the last of several pings need be answered (RFC
    6455, 5.5.3). There is one ping on its way, and one more for each 64 KiB: not one for each frame.
    """

    def __init__(self) -> None:
        self._reached = 0
        self._asked: dict[int, float] = {}
        """Positions whose pings have no answer yet, rising, and when they were sent."""
        self.last = 0
        """The position of the last ping."""

    def acknowledged(self, total: int) -> int:
        return self._reached

    def due(self, position: int) -> bool:
        """Whether a ping should go out now, behind messages up to *position*."""
        return not self._asked or position - self.last >= _APART

    def ask(self, position: int, now: float) -> bytes:
        """Return what a ping at *position* carries."""
        self._asked[position] = now
        self.last = position
        return _POSITION.pack(position)

    def answered(self, payload: bytes) -> bool:
        """Take what a pong carries; return whether it answers one of our pings."""
        if len(payload) != _POSITION.size:
            return False
        (position,) = _POSITION.unpack(payload)
        if position not in self._asked:
            return False
        for asked in list(self._asked):
            if asked > position:
                break
            del self._asked[asked]
        self._reached = position
        return True

    @property
    def since(self) -> float | None:
        """When the oldest ping was sent that has no answer; None: there is none."""
        return next(iter(self._asked.values()), None)
