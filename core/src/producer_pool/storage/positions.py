"""Which stored batches each producer is done with, and which of them nobody waits for any more."""
# Rule: nothing here touches a disk, and nothing reads a clock.

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["NEVER", "Position", "Span", "free"]

Span = tuple[int, int]
"""Numbers behind the first, up to and with the second."""

NEVER: Final = 2**62
"""A number that no batch will have."""


class Position:
    """What one producer is done with: all up to a number, and perhaps spans behind it that were skipped."""

    __slots__ = ("number", "skipped", "until")

    def __init__(self, number: int, skipped: Iterable[Span] = (), until: int | None = None) -> None:
        self.number = number
        """All up to this is settled."""
        self.skipped: list[Span] = list(skipped)
        """Spans behind it that are not for this producer, in rising order, apart from each other."""
        self.until = until
        """The last number that is for it, of a producer that left without being removed; None: it is here."""

    def __repr__(self) -> str:
        return f"Position({self.number}, {self.skipped}, until={self.until})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Position) and self.as_text() == other.as_text()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def move(self, number: int) -> None:
        """Note that all up to *number* is settled. Going back is not possible."""
        self.number = max(self.number, number)
        self._tidy()

    def skip(self, span: Span) -> None:
        """Note that *span* will never be wanted."""
        if span[0] < span[1]:
            self.skipped.append(span)
            self._tidy()

    def come(self, last: int) -> None:
        """Be here from now on: what was stored behind `until`, up to *last*, was not for it."""
        if self.until is not None:
            self.skip((max(self.until, self.number), last))
            self.until = None

    def wants(self, number: int) -> bool:
        """Return whether the batch of this number is still waited for, if it was for this producer."""
        return not any(after < number <= upto for after, upto in self.settled())

    @property
    def plain(self) -> bool:
        """Whether it is done with all up to its number, and with nothing else."""
        return not self.skipped and self.until is None

    def settled(self) -> list[Span]:
        """Return all that it is done with, as spans in rising order."""
        spans = [(-1, self.number), *self.skipped]
        if self.until is None:
            return spans
        kept = [(after, min(upto, self.until)) for after, upto in spans if after < self.until]
        return _joined([*kept, (self.until, NEVER)])

    def _tidy(self) -> None:
        if not self.skipped:
            return
        spans = _joined([(-1, self.number), *self.skipped])
        self.number = spans[0][1]
        self.skipped = spans[1:]

    def as_text(self) -> str:
        """Write it as from_text() reads it."""
        until = "null" if self.until is None else self.until
        return f"[{self.number}, {until}, {[list(span) for span in self.skipped]}]"

    @classmethod
    def from_text(cls, text: str) -> Position:
        """
        Read what as_text() wrote.

        Raises:
            ValueError: it is nothing of the kind.
        """
        match json.loads(text):
            case [int(number), None | int() as until, list(spans)]:
                return cls(number, [(int(after), int(upto)) for after, upto in spans], until)
        raise ValueError(f"no position: {text[:100]}")


def free(positions: Mapping[str, Position], targets: Iterable[str] | None) -> list[Span]:
    """
    Return the numbers that nobody waits for any more, of batches for *targets*; None: for all.

    Whoever has no position waits for nothing. Without any positions at all, everything is kept: that
    nobody is known may mean that who it was got lost.
    """
    if not positions:
        return []
    names = positions.keys() if targets is None else [name for name in targets if name in positions]
    there = [positions[name] for name in names]
    upto = min([one.number for one in there if one.plain], default=NEVER)
    spans: list[Span] = [(-1, upto)] if upto >= 0 else []
    for one in there:
        if not one.plain:
            spans = _common(spans, one.settled())
    return spans


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return *spans* in rising order, with those that touch made one."""
    joined: list[Span] = []
    for after, upto in sorted(spans):
        if joined and after <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], upto))
        else:
            joined.append((after, upto))
    return joined


def _common(some: list[Span], others: list[Span]) -> list[Span]:
    """Return the numbers that are in both."""
    found = []
    left, right = 0, 0
    while left < len(some) and right < len(others):
        after = max(some[left][0], others[right][0])
        upto = min(some[left][1], others[right][1])
        if after < upto:
            found.append((after, upto))
        if some[left][1] < others[right][1]:
            left += 1
        else:
            right += 1
    return found
