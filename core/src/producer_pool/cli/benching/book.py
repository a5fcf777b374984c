"""The numbered messages of a bench: made in advance, sent round and round, and known to who receives them."""
# Rule: bytes and numbers only. No socket, no clock.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.framing import LINES, Framing
from producer_pool.model.policies import BATCH_OVERHEAD

__all__ = ["WRITE", "Book", "Ring", "Shape"]

WRITE: Final = 64 * 1024
"""Bytes that are written at once, where nobody says how many messages."""
_BYTES: Final = 8 * 1024 * 1024
"""Bytes of all messages that are made in advance, as far as a round of each producer has some batches."""
_LEAST: Final = 8
"""Batches of a round, at the least."""
_MOST: Final = 4096
"""Batches of all rounds together, at the most, as far as a round has some."""
_LOOK: Final = 256 * 1024
"""Bytes that are compared at once at the end of a round, as if it had none."""
_UNDER_WAY: Final = 32 * 1024 * 1024
"""Bytes that may be under way, each message counted as if it were a batch alone: half of a default buffer."""
_DATAGRAMS: Final = 160 * 1024
"""Bytes that may be under way where what finds no room is lost: less than a receive buffer has by default,"""
_DATAGRAM: Final = 512
"""in which each takes twice its size, and so much besides."""
_FILL: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


@dataclass(frozen=True)
class Shape:
    """What is sent: messages of *size* bytes, by so many *producers*, at most *batch* in a write."""

    size: int
    producers: int
    batch: int

    @property
    def round(self) -> int:
        """Messages of a producer until its numbers come again."""
        room = _BYTES // (self.producers * self.batch * max(self.size, 1))
        return self.batch * max(_LEAST, min(room, _MOST // self.producers))

    def window(self, *, ordered: bool) -> int:
        """
        Return how many messages of a producer may be under way to the slowest consumer.

        Half a round at the most, so that a number tells what is missing from what was there before. And of
        datagrams, which nobody holds back, as many as find room wherever they wait.
        """
        if not ordered:
            return max(1, _DATAGRAMS // (2 * self.size + _DATAGRAM) // self.producers)
        room = _UNDER_WAY // (self.size + BATCH_OVERHEAD) // self.producers
        return max(self.batch, min(self.round // 2, room))


@dataclass(frozen=True)
class Ring:
    """All messages of one producer in one wire form, and the first ones once more at the end."""

    wire: bytes
    frame: int
    """Bytes of a message with what marks it off."""
    head: int
    """Bytes before the message."""


class Book:
    """
    The messages: each of its size, and each another one, until all were sent and begin anew.

    So a receiver that knows how far each producer got compares whole chunks with what they have to be. A
    message begins with its number, and is text without line ends, which every protocol can carry.
    """

    def __init__(self, shape: Shape) -> None:
        """
        Make what everybody needs.

        Raises:
            ConfigurationError: the messages have no room for their numbers.
        """
        self.shape = shape
        self.round = shape.round
        self.width = len(str(shape.producers * self.round - 1))
        """Digits of a number."""
        if shape.size < self.width:
            raise ConfigurationError(
                f"a message of {shape.size} bytes has no room for its number; "
                f"here it takes {self.width} bytes or more"
            )
        self._messages: dict[int, list[bytes]] = {}
        self._rings: dict[tuple[str, int], Ring] = {}

    def message(self, producer: int, index: int) -> bytes:
        """Return what a producer sends as message *index* of its round."""
        rest = self.shape.size - self.width
        start = index % len(_FILL)
        fill = (_FILL * (rest // len(_FILL) + 2))[start : start + rest]
        return b"%0*d%b" % (self.width, producer * self.round + index, fill)

    def messages(self, producer: int) -> list[bytes]:
        """Return the whole round of a producer."""
        if producer not in self._messages:
            self._messages[producer] = [self.message(producer, index) for index in range(self.round)]
        return self._messages[producer]

    def batches(self, producer: int) -> list[Batch]:
        """Return the round of a producer as the batches that are written."""
        messages, count = self.messages(producer), self.shape.batch
        return [
            Batch.from_wire(LINES.encode(messages[start : start + count]), LINES, count)
            for start in range(0, self.round, count)
        ]

    def ring(self, producer: int, framing: Framing | None) -> Ring:
        """Return the round of a producer as a wire of *framing*; None: one message behind the other."""
        key = (framing.name if framing is not None else "", producer)
        if key not in self._rings:
            messages = self.messages(producer)
            frame = framing.encode(messages[:1]) if framing is not None else messages[0]
            # All frames are equally long, because all messages are.
            again = min(self.round, max(self.shape.batch, _LOOK // len(frame) + 1))
            whole = [*messages, *messages[:again]]
            wire = framing.encode(whole) if framing is not None else b"".join(whole)
            self._rings[key] = Ring(wire, len(frame), frame.index(messages[0]))
        return self._rings[key]

    def numbered(self, message: bytes) -> tuple[int, int] | None:
        """Return whose message this is, and which of the round; None: nobody's, or not as it was sent."""
        digits = message[: self.width]
        if not digits.isdigit():
            return None
        producer, index = divmod(int(digits), self.round)
        if producer >= self.shape.producers or message != self.message(producer, index):
            return None
        return producer, index
