"""A dead letter, and which of them are meant: plain values, and how they lie in a row."""
# Rule: what is read from a disk may be anything. letter_in() makes a Letter of it, and seal() says whether it
# is what was stored.

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from producer_pool.model.outcomes import Outcome

__all__ = ["COLUMNS", "Choice", "Letter", "letter_in", "reason_of", "seal", "storable"]

COLUMNS: Final = (
    "producer",
    "role",
    "outcome",
    "reason",
    "error",
    "attempts",
    "origin",
    "count",
    "nbytes",
    "accepted",
    "given_up",
    "last",
)
"""In the order of Letter.values."""
_OUTCOMES: Final = {one.value: one for one in Outcome}
_LONGEST_ERROR: Final = 4096
"""Characters that are kept of the text of an error."""


@dataclass(frozen=True, slots=True)
class Letter:
    """Messages that one producer gave up in a row, for one reason."""

    producer_id: str
    role: str
    outcome: Outcome
    """FAILED or DROPPED."""
    reason: str
    """The class of the error, such as ``DeadlineExceeded``."""
    error: str
    """Its text."""
    attempts: int
    """How often they were handed to a client."""
    origin: str
    """Where they came from; empty if the program itself made them."""
    count: int
    nbytes: int
    """Bytes of the messages."""
    accepted: float
    """When the first of them was accepted, in seconds since 1970."""
    given_up: float
    """When the first of them was given up."""
    last: float
    """When the last of them was."""
    number: int = 0
    """What it is called in its folder."""

    @property
    def values(self) -> tuple[Any, ...]:
        """All of it but its number, as it lies in the file."""
        return (
            self.producer_id,
            self.role,
            self.outcome.value,
            self.reason,
            self.error,
            self.attempts,
            self.origin,
            self.count,
            self.nbytes,
            self.accepted,
            self.given_up,
            self.last,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant: those that are all of what is said here."""

    producer_id: str | None = None
    reason: str | None = None
    since: float = -math.inf
    """Given up at this time, in seconds since 1970, or later."""
    before: float = math.inf
    numbers: tuple[range, ...] | None = None

    def between(self, since: float | None, before: float | None) -> Choice:
        """Return what lies between two times, too; None: no such bound."""
        return replace(
            self,
            since=self.since if since is None else since,
            before=self.before if before is None else before,
        )

    def of(self, producer_id: str) -> Choice | None:
        """Return what of it this producer gave up; None: it is about another one."""
        if self.producer_id not in (None, producer_id):
            return None
        return replace(self, producer_id=producer_id)

    def names(self, number: int) -> bool:
        """Whether the letter of this number is among those named."""
        return self.numbers is None or any(number in some for some in self.numbers)

    def where(self) -> tuple[str, list[Any]]:
        """Return a condition and its values. Of `numbers` it knows nothing: they may be many."""
        parts: list[str] = ["number > ?"]
        values: list[Any] = []
        if self.producer_id is not None:
            parts.append("producer = ?")
            values.append(self.producer_id)
        if self.reason is not None:
            parts.append("reason = ?")
            values.append(self.reason)
        if self.since > -math.inf:
            parts.append("last >= ?")
            values.append(self.since)
        if self.before < math.inf:
            parts.append("last < ?")
            values.append(self.before)
        return " AND ".join(parts), values


def reason_of(error: BaseException) -> tuple[str, str]:
    """Return the class and the text of *error* as a letter holds them."""
    return type(error).__name__, storable(error)[:_LONGEST_ERROR]


def storable(value: object) -> str:
    """Return *value* as a text that can be stored: half a character in it is spelt out."""
    return str(value).encode(errors="backslashreplace").decode()


def seal(letter: Letter, payload: bytes) -> int:
    """Return the checksum of all that is stored of a letter."""
    return zlib.crc32(payload, zlib.crc32(repr(letter.values).encode()))


def letter_in(row: Sequence[Any]) -> Letter:
    """Make a letter of its number and COLUMNS, of which damage may have left anything."""
    number, producer_id, role, outcome, reason, error, attempts, origin, count, nbytes, *times = row
    accepted, given_up, last = map(_float, times)
    return Letter(
        str(producer_id),
        str(role),
        _OUTCOMES.get(outcome, Outcome.FAILED),
        str(reason),
        str(error),
        _int(attempts),
        str(origin),
        _int(count),
        _int(nbytes),
        accepted,
        given_up,
        last,
        number,
    )


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
