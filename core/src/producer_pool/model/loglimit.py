"""At most one log line a second for each cause, and a count of those left out."""
# Rule: nothing here reads a clock. Callers pass `now`.

from __future__ import annotations

from typing import Any

__all__ = ["LogLimit", "and_more"]

_MOST_CAUSES = 1000


def and_more(left_out: int, what: str = "lines") -> str:
    """Say how much was left out, for the end of the line that stands for it; of nothing, nothing."""
    return f" ({left_out:,} such {what} left out)" if left_out else ""


class LogLimit:
    """Decides which log lines are written. Not thread-safe: one belongs to one loop."""

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = interval
        self._causes: dict[object, tuple[float, int]] = {}

    def allow(self, cause: object, now: float, count: int = 1) -> int | None:
        """
        Return how much of this cause was left out since its last line, or None to leave this one out.

        *count* is what this line speaks of: itself, or so many messages.
        """
        last = self._causes.get(cause)
        if last is not None and now - last[0] < self._interval:
            self._causes[cause] = (last[0], last[1] + count)
            return None
        if last is None and len(self._causes) >= _MOST_CAUSES:
            self._causes.clear()
        self._causes[cause] = (now, 0)
        return last[1] if last else 0

    def left_out(self) -> list[tuple[Any, int]]:
        """Return what no line told of yet, by cause; from now on it counts as told."""
        left = [(cause, count) for cause, (_, count) in self._causes.items() if count]
        for cause, _ in left:
            self._causes[cause] = (self._causes[cause][0], 0)
        return left
