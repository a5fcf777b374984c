"""At most one log line a second for each cause, and a count of those left out."""
# Rule: nothing here reads a clock. Callers pass `now`.

from __future__ import annotations

__all__ = ["LogLimit"]

_MOST_CAUSES = 1000


class LogLimit:
    """Decides which log lines are written. Not thread-safe: one belongs to one loop."""

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = interval
        self._causes: dict[object, tuple[float, int]] = {}

    def allow(self, cause: object, now: float) -> int | None:
        """Return how many lines of this cause were left out since the last, or None to leave this one out."""
        last = self._causes.get(cause)
        if last is not None and now - last[0] < self._interval:
            self._causes[cause] = (last[0], last[1] + 1)
            return None
        if last is None and len(self._causes) >= _MOST_CAUSES:
            self._causes.clear()
        self._causes[cause] = (now, 0)
        return last[1] if last else 0
