"""How far a connection got, by the pongs that came back."""
# Rule: no socket and no clock. Callers pass `now`.

from __future__ import annotations

from struct import Struct
from typing import Final

from producer_pool.plugin import Progress

__all__ = ["Pongs"]

_POSITION: Final = Struct("!Q")
_BYTES_APART: Final = 64 * 1024
_SECONDS_APART: Final = 0.001


class Pongs(Progress):
    """
    Counts what the other side's protocol layer has read: the level PEER.

    A ping carries how many bytes stand before it in the stream, and its pong says that all of these
    have been read. Pongs are cumulative, because only the last of several pings need be answered (RFC
    6455, 5.5.3). So there need not be one behind each message: one is on its way at a time, they are a
    millisecond apart, and only 64 KiB of messages are worth a further one, so that progress is seen.
    """

    def __init__(self) -> None:
        self._reached = 0
        self._asked: dict[int, float] = {}
        """Positions whose pings have no answer yet, rising, and when they were sent."""
        self._last = 0
        self._last_at = -_SECONDS_APART

    def acknowledged(self, total: int) -> int:
        return self._reached

    def due(self, position: int, now: float) -> float | None:
        """Return in how many seconds a ping should follow, behind *position*; None: when a pong has come."""
        if position - self._last >= _BYTES_APART:
            return 0.0
        if self._asked:
            return None
        return max(0.0, self._last_at + _SECONDS_APART - now)

    def ask(self, position: int, now: float) -> bytes:
        """Return what a ping at *position* carries."""
        self._asked[position] = now
        self._last = position
        self._last_at = now
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
