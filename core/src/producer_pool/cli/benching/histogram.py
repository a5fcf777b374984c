"""Many durations in little room: counted in buckets that are about one percent wide."""
# Rule: whole nanoseconds in, whole nanoseconds out.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, Self

__all__ = ["Histogram"]

_BITS: Final = 7
"""Leading binary digits that tell two durations apart."""


class Histogram:
    """How often each duration occurred, to a percent; the longest one exactly."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.longest = 0

    def add(self, duration: int, count: int = 1) -> None:
        """Count a duration, which cannot be negative, *count* times."""
        shift = max(duration.bit_length() - _BITS, 0)
        # The bucket is called by its upper end: nothing in it is longer.
        self._counts[((duration >> shift) + 1 << shift) - 1] += count
        if duration > self.longest:
            self.longest = duration

    def merge(self, other: Histogram) -> None:
        """Count all of *other*, too."""
        self._counts.update(other._counts)
        self.longest = max(self.longest, other.longest)

    @property
    def total(self) -> int:
        """How many were counted."""
        return self._counts.total()

    def percentile(self, percent: float) -> int:
        """Return a duration that *percent* of all do not exceed; 0, if there are none."""
        wanted = self.total * percent / 100
        seen = 0
        for end, count in self:
            seen += count
            if seen >= wanted:
                return end
        return self.longest

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the durations, the shortest first, with how often they occurred."""
        for end, count in sorted(self._counts.items()):
            yield min(end, self.longest), count

    def as_json(self) -> list[Any]:
        """Return it as plain values."""
        return [self.longest, sorted(self._counts.items())]

    @classmethod
    def from_json(cls, value: list[Any]) -> Self:
        """Return what as_json() had."""
        histogram = cls()
        histogram.longest = value[0]
        histogram._counts.update(dict(value[1]))
        return histogram

    @classmethod
    def of(cls, many: Iterable[Histogram]) -> Self:
        """Return all of them in one."""
        histogram = cls()
        for one in many:
            histogram.merge(one)
        return histogram
