"""How messages are marked off on a wire."""
# Rule: bytes in, bytes out. No socket, no batch.

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final

from producer_pool.model.decoders import Decoder, DelimitedDecoder, Length4Decoder, OctetCountingDecoder
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import suggestion

__all__ = [
    "FRAMINGS",
    "LENGTH4",
    "LINES",
    "NUL",
    "OCTET_COUNTING",
    "CountedFraming",
    "Decoder",
    "Framing",
    "framing_named",
]


_PIECE: Final = 256 * 1024
"""Bytes that are copied at once: memory for a larger copy would have to be got from the system each time."""


class Framing(ABC):
    """
    One way to mark off messages on a wire. A value: equal by name, shared by everybody.

    Where a method takes a *wire*, it holds whole frames only, as encode() and decoders return them.
    """

    name: str
    """What it is called in URLs: ``framing=lines``."""

    @abstractmethod
    def encode(self, messages: Sequence[bytes]) -> bytes:
        """Return the wire form of *messages*, without asking whether it can carry each: see misfits()."""

    @abstractmethod
    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        """
        Return the indexes of messages that this framing cannot carry unchanged.

        *wire* is ``encode(messages)``.
        """

    def frame(self, message: bytes) -> bytes | None:
        """Return the wire form of one message; None: this framing cannot carry it unchanged."""
        wire = self.encode((message,))
        return None if self.misfits((message,), wire) else wire

    @abstractmethod
    def why_misfit(self) -> str:
        """Say, for the error of a misfit, what this framing cannot carry and which one can."""

    @abstractmethod
    def split(self, wire: bytes) -> list[bytes]:
        """Return the messages of *wire*."""

    @abstractmethod
    def count(self, wire: bytes) -> int:
        """Return the number of frames in *wire*."""

    @abstractmethod
    def offset(self, wire: bytes, index: int) -> int:
        """Return where frame number *index* starts; with the number of frames, the length of *wire*."""

    @abstractmethod
    def index(self, wire: bytes, offset: int) -> int:
        """Return how many frames lie wholly in the first *offset* bytes of *wire*."""

    @abstractmethod
    def cut(self, wire: bytes, size: int) -> Iterator[tuple[bytes, int]]:
        """Yield *wire* in pieces of at most *size* bytes, or of one frame, with their numbers of frames."""

    @abstractmethod
    def decoder(self, max_message: int) -> Decoder:
        """Return a new decoder for one stream, which refuses messages longer than *max_message* bytes."""

    def __repr__(self) -> str:
        return f"<Framing {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Framing) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class _Delimited(Framing):
    """A byte after each message, which no message may hold."""

    def __init__(self, name: str, delimiter: bytes, what: str) -> None:
        self.name = name
        self._delimiter: Final = delimiter
        self._what: Final = what

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return self._delimiter.join((*messages, b"")) if messages else b""

    def frame(self, message: bytes) -> bytes | None:
        return None if self._delimiter in message else message + self._delimiter

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        if self.count(wire) == len(messages):
            return ()
        return tuple(index for index, message in enumerate(messages) if self._delimiter in message)

    def why_misfit(self) -> str:
        holds = f"a message that holds {self._what}"
        return f"framing={self.name} cannot carry {holds}; use framing=length4 at both ends"

    def split(self, wire: bytes) -> list[bytes]:
        messages = wire.split(self._delimiter)
        messages.pop()
        return messages

    def count(self, wire: bytes) -> int:
        # bytes.count() looks at each byte; replace() lets memchr() find them: 3 times as fast for 128 bytes.
        delimiter = self._delimiter
        if len(wire) <= _PIECE:
            return len(wire) - len(wire.replace(delimiter, b""))
        rest = 0
        for start in range(0, len(wire), _PIECE):
            rest += len(wire[start : start + _PIECE].replace(delimiter, b""))
        return len(wire) - rest

    def offset(self, wire: bytes, index: int) -> int:
        return len(wire) - len(wire.split(self._delimiter, index)[index])

    def index(self, wire: bytes, offset: int) -> int:
        return self.count(wire[:offset])

    def cut(self, wire: bytes, size: int) -> Iterator[tuple[bytes, int]]:
        # What follows a piece is neither copied nor looked at for it.
        delimiter = self._delimiter
        start = 0
        while len(wire) - start > size:
            end = wire.rfind(delimiter, start, start + size) + 1 or wire.index(delimiter, start + size) + 1
            piece = wire[start:end]
            yield piece, self.count(piece)
            start = end
        if start < len(wire):
            piece = wire[start:]
            yield piece, self.count(piece)

    def decoder(self, max_message: int) -> Decoder:
        return DelimitedDecoder(self._delimiter, max_message)


class CountedFraming(Framing):
    """A framing with the length of each message before it: where one ends, the next begins."""

    @abstractmethod
    def ends(self, wire: bytes) -> list[int]:
        """Return where each frame in *wire* ends, in their order. Only whole frames are in it."""

    def count(self, wire: bytes) -> int:
        return len(self.ends(wire))

    def offset(self, wire: bytes, index: int) -> int:
        return self.ends(wire)[index - 1] if index else 0

    def index(self, wire: bytes, offset: int) -> int:
        return bisect_right(self.ends(wire), offset)

    def cut(self, wire: bytes, size: int) -> Iterator[tuple[bytes, int]]:
        # They are walked once, and not for each piece.
        ends = self.ends(wire)
        start = first = 0
        while first < len(ends):
            after = max(bisect_right(ends, start + size), first + 1)
            end = ends[after - 1]
            yield wire[start:end], after - first
            start, first = end, after


class _Length4(CountedFraming):
    """An unsigned 32-bit number, most significant byte first."""

    name = "length4"
    _length: Final = Struct("!I")

    def encode(self, messages: Sequence[bytes]) -> bytes:
        pack = self._length.pack
        return b"".join([pack(len(message)) + message for message in messages])

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        return ()  # A message of 4 GiB fails in encode(): no buffer is meant to hold one.

    def why_misfit(self) -> str:
        return "framing=length4 cannot carry a message of 4 GiB or more"

    def split(self, wire: bytes) -> list[bytes]:
        ends = self.ends(wire)
        return [wire[start + 4 : end] for start, end in zip([0, *ends], ends, strict=False)]

    def ends(self, wire: bytes) -> list[int]:
        unpack = self._length.unpack_from
        ends = []
        size = len(wire)
        position = 0
        while position < size:
            position += 4 + unpack(wire, position)[0]
            ends.append(position)
        return ends

    def decoder(self, max_message: int) -> Decoder:
        return Length4Decoder(max_message)


class _OctetCounting(CountedFraming):
    """Decimal digits and a space: RFC 6587, section 3.4.1."""

    name = "octet-counting"

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"".join([b"%d %b" % (len(message), message) for message in messages])

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        if all(messages):
            return ()
        return tuple(index for index, message in enumerate(messages) if not message)

    def why_misfit(self) -> str:
        return (
            "framing=octet-counting cannot carry an empty message (RFC 6587 has no length 0); "
            "use framing=length4 at both ends"
        )

    def split(self, wire: bytes) -> list[bytes]:
        ends = self.ends(wire)
        return [wire[wire.index(b" ", start) + 1 : end] for start, end in zip([0, *ends], ends, strict=False)]

    def ends(self, wire: bytes) -> list[int]:
        ends = []
        size = len(wire)
        position = 0
        while position < size:
            space = wire.index(b" ", position)
            position = space + 1 + int(wire[position:space])
            ends.append(position)
        return ends

    def decoder(self, max_message: int) -> Decoder:
        return OctetCountingDecoder(max_message)


LINES: Final[Framing] = _Delimited("lines", b"\n", "a newline")
"""A line feed after each message. A carriage return before it belongs to the message."""
NUL: Final[Framing] = _Delimited("nul", b"\0", "a NUL byte")
"""A zero byte after each message."""
LENGTH4: Final[Framing] = _Length4()
"""An unsigned 32-bit big-endian length before each message. Carries every message."""
OCTET_COUNTING: Final[Framing] = _OctetCounting()
"""The length in decimal digits and a space before each message (RFC 6587, 3.4.1). No empty messages."""

FRAMINGS: Final = (LINES, NUL, LENGTH4, OCTET_COUNTING)
"""All that there are."""

_BY_NAME: Final = {framing.name: framing for framing in FRAMINGS}


def framing_named(name: str) -> Framing:
    """
    Return the framing of this name.

    Raises:
        ConfigurationError: there is none; the text lists those that exist.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        known = ", ".join(_BY_NAME)
        raise ConfigurationError(
            f"no framing {name!r}; there are: {known}{suggestion(name, _BY_NAME)}"
        ) from None
