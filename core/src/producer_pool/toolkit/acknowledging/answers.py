"""How a consumer acknowledges, on the connection that it reads: by the number of messages that it has."""
# Rule: bytes in, numbers out. No socket. Both ends share it.

from __future__ import annotations

from typing import Final

from producer_pool.model.errors import FramingError
from producer_pool.model.framing import Framing

__all__ = ["AnswerReader", "answer"]

_DIGITS: Final = 20
"""Digits of the longest number that is read: no connection lives to see so many messages."""


def answer(count: int, framing: Framing) -> bytes:
    """Return what acknowledges the first *count* messages of a connection: decimal digits, as a message."""
    return framing.encode([b"%d" % count])


class AnswerReader:
    """
    Reads acknowledgements, however their stream was cut.

    Each is a count of messages since the connection began: so it may leave some out, and never goes back.
    """

    __slots__ = ("_decoder", "_framing", "count")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._decoder = framing.decoder(_DIGITS)
        self.count = 0
        """The last one."""

    def feed(self, data: bytes) -> int:
        """
        Take what the consumer said, and return the last count.

        Raises:
            FramingError: it is no count, or one that goes back. What was said is not in the text: it may
                be a message that came back.
        """
        decoder = self._decoder
        wire = decoder.feed(data, len(data))
        if decoder.error is not None:
            raise FramingError(_no_count(self._framing))
        for digits in self._framing.split(wire):
            if not digits.isdigit():
                raise FramingError(_no_count(self._framing))
            count = int(digits)
            if count < self.count:
                raise FramingError(
                    f"the consumer acknowledged {self.count:,} messages, and then {count:,}; it has to count "
                    "all since the connection began"
                )
            self.count = count
        return self.count


def _no_count(framing: Framing) -> str:
    return (
        f"the consumer answers something else than how many messages it has, in up to {_DIGITS} digits "
        f"(framing={framing.name}); does it acknowledge? if it does not, use ack=kernel or less"
    )
