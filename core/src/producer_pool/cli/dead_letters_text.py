"""Dead letters for people: whatever is in them, it does nothing to a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from producer_pool.cli.output import printable
from producer_pool.storage.dead_letters_document import iso_time

if TYPE_CHECKING:
    from producer_pool.storage.dead_letters_values import Letter

__all__ = ["shown"]

_LONGEST: Final = 1000
"""Characters that are shown of a message."""
_MOST: Final = 100
"""Messages that are shown of a letter."""


def shown(letter: Letter, messages: Sequence[bytes]) -> Iterator[str]:
    """Yield what is known of a letter, and its messages, as lines."""
    facts = {
        "id": letter.number,
        "producer": letter.producer_id,
        "role": letter.role,
        "outcome": letter.outcome.value,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "origin": letter.origin or "-",
        "accepted": iso_time(letter.accepted),
        "given up": iso_time(letter.given_up),
        "last": iso_time(letter.last),
        "messages": f"{letter.count:,}",
        "bytes": f"{letter.nbytes:,}",
    }
    for name, value in facts.items():
        yield f"{name:9} {printable(str(value))}"
    yield ""
    for message in messages[:_MOST]:
        yield _line(message)
    if len(messages) > _MOST:
        yield f"... and {len(messages) - _MOST:,} more messages; --raw and --json have all"


def _line(message: bytes) -> str:
    """Return a message in one line; bytes that are no text in UTF-8 are spelt out."""
    # Four bytes make a character at the most.
    text = printable(message[: 4 * _LONGEST].decode(errors="backslashreplace"))
    if len(text) <= _LONGEST and len(message) <= 4 * _LONGEST:
        return text
    return f"{text[:_LONGEST]} ... ({len(message):,} bytes)"
