"""How messages are marked off on a wire: framings, and decoders that find whole frames in a stream."""
# Rule: bytes in, bytes out. No socket, no batch. A decoder keeps nothing but the unfinished tail.

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from struct import Struct
from typing import Final

from producer_pool.model.errors import ConfigurationError, FramingError, MessageTooLarge

__all__ = ["LENGTH4", "LINES", "NUL", "OCTET_COUNTING", "Decoder", "Framing", "framing_named"]


class Framing(ABC):
    """One way to mark off messages on a wire. A value: equal by name, shared by everybody."""

    name: str

    @abstractmethod
    def encode(self, messages: Sequence[bytes]) -> bytes:
        """Return the wire form of *messages*, without asking whether it can carry each: see misfits()."""

    @abstractmethod
    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        """
        Return the indexes of messages that this framing cannot carry unchanged.

        *wire* is ``encode(messages)``.
        """

    @abstractmethod
    def why_misfit(self) -> str:
        """Say, for the error of a misfit, what this framing cannot carry and which one can."""

    @abstractmethod
    def split(self, wire: bytes) -> list[bytes]:
        """Return the messages of *wire*, which holds whole frames only."""

    @abstractmethod
    def count(self, wire: bytes) -> int:
        """Return the number of frames in *wire*, which holds whole frames only."""

    @abstractmethod
    def offset(self, wire: bytes, index: int) -> int:
        """Return where frame number *index* starts; with the number of frames, the length of *wire*."""

    @abstractmethod
    def index(self, wire: bytes, offset: int) -> int:
        """Return how many frames lie wholly in the first *offset* bytes of *wire*."""

    @abstractmethod
    def decoder(self, max_message: int) -> Decoder:
        """Return a new decoder for one stream, which refuses messages longer than *max_message* bytes."""

    def __repr__(self) -> str:
        return f"<Framing {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Framing) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class Decoder(ABC):
    """Finds whole frames in the chunks of one stream."""

    error: FramingError | None = None
    """Set once the stream broke the rules. What feed() returned before is good; nothing after is."""

    @abstractmethod
    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        """
        Take the first *size* bytes of *data* and return all frames that are whole now, or ``b""``.

        *data* may be overwritten afterwards: what is kept is copied. Look at `error` after each call.
        """

    @property
    @abstractmethod
    def tail(self) -> int:
        """Bytes of an unfinished frame that are kept."""

    @abstractmethod
    def finish(self) -> bytes | None:
        """
        Return the unfinished message at the end of the stream, without its frame, and forget it.

        None if there is none, or if what there is holds no part of a message.
        """


# -- delimiters ------------------------------------------------------------------------------------


class _Delimited(Framing):
    """A byte after each message, which no message may hold."""

    def __init__(self, name: str, delimiter: bytes, what: str) -> None:
        self.name = name
        self.delimiter: Final = delimiter
        self._what = what

    def encode(self, messages: Sequence[bytes]) -> bytes:
        if not messages:
            return b""
        return self.delimiter.join((*messages, b""))

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        if wire.count(self.delimiter) == len(messages):
            return ()
        return tuple(i for i, message in enumerate(messages) if self.delimiter in message)

    def why_misfit(self) -> str:
        return f"framing={self.name} cannot carry a message that holds {self._what}; use framing=length4"

    def split(self, wire: bytes) -> list[bytes]:
        if self.delimiter == b"\n":
            # BytesIO.readlines() looks for the newline with memchr: twice as fast as bytes.split().
            return [line[:-1] for line in io.BytesIO(wire).readlines()]
        messages = wire.split(self.delimiter)
        messages.pop()
        return messages

    def count(self, wire: bytes) -> int:
        return wire.count(self.delimiter)

    def offset(self, wire: bytes, index: int) -> int:
        position = 0
        for _ in range(index):
            position = wire.index(self.delimiter, position) + 1
        return position

    def index(self, wire: bytes, offset: int) -> int:
        return wire.count(self.delimiter, 0, offset)

    def decoder(self, max_message: int) -> Decoder:
        return _DelimitedDecoder(self.delimiter, max_message)


class _DelimitedDecoder(Decoder):
    def __init__(self, delimiter: bytes, max_message: int) -> None:
        self._delimiter = delimiter
        self._limit = max_message
        self._tail = bytearray()

    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        if self.error is not None:
            return b""
        end = data.rfind(self._delimiter, 0, size) + 1
        tail = self._tail
        wire = b""
        with memoryview(data) as view:
            if end:
                wire = b"".join((tail, view[:end])) if tail else bytes(view[:end])
                tail.clear()
            tail += view[end:size]
        # Only a batch longer than the limit can hold a message longer than the limit.
        if len(wire) > self._limit + 1:
            wire = self._checked(wire)
        if len(tail) > self._limit and self.error is None:
            self.error = MessageTooLarge(self._limit)
        return wire

    def _checked(self, wire: bytes) -> bytes:
        """Return *wire* up to the first message that is too long."""
        start = 0
        while len(wire) - start > self._limit + 1:
            # The last delimiter within reach: everything before it is made of short messages, or is
            # one message alone, which may not be longer than the limit.
            end = wire.rfind(self._delimiter, start, start + self._limit + 1) + 1
            if not end:
                self.error = MessageTooLarge(self._limit)
                return wire[:start]
            start = end
        return wire

    @property
    def tail(self) -> int:
        return len(self._tail)

    def finish(self) -> bytes | None:
        tail = bytes(self._tail)
        self._tail.clear()
        return tail or None


# -- lengths ---------------------------------------------------------------------------------------


class _Length4(Framing):
    """Each message behind its length: an unsigned 32-bit number, most significant byte first."""

    name = "length4"
    _header: Final = Struct("!I")

    def encode(self, messages: Sequence[bytes]) -> bytes:
        pack = self._header.pack
        parts: list[bytes] = []
        for message in messages:
            parts.append(pack(len(message)))
            parts.append(message)
        return b"".join(parts)

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        return ()  # 4 GiB is more than any bound lets through.

    def why_misfit(self) -> str:
        return "framing=length4 cannot carry a message of 4 GiB or more"

    def split(self, wire: bytes) -> list[bytes]:
        unpack = self._header.unpack_from
        messages = []
        position = 0
        while position < len(wire):
            start = position + 4
            position = start + unpack(wire, position)[0]
            messages.append(wire[start:position])
        return messages

    def count(self, wire: bytes) -> int:
        return self.index(wire, len(wire))

    def offset(self, wire: bytes, index: int) -> int:
        unpack = self._header.unpack_from
        position = 0
        for _ in range(index):
            position += 4 + unpack(wire, position)[0]
        return position

    def index(self, wire: bytes, offset: int) -> int:
        unpack = self._header.unpack_from
        position = count = 0
        while position + 4 <= offset:
            position += 4 + unpack(wire, position)[0]
            if position > offset:
                break
            count += 1
        return count

    def decoder(self, max_message: int) -> Decoder:
        return _Length4Decoder(max_message)


class _OctetCounting(Framing):
    """Each message behind its length in decimal digits and a space: RFC 6587, section 3.4.1."""

    name = "octet-counting"

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"".join([b"%d %b" % (len(message), message) for message in messages])

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        if all(messages):
            return ()
        return tuple(i for i, message in enumerate(messages) if not message)

    def why_misfit(self) -> str:
        return (
            "framing=octet-counting cannot carry an empty message (RFC 6587 has no length 0); "
            "use framing=length4"
        )

    def split(self, wire: bytes) -> list[bytes]:
        messages = []
        position = 0
        while position < len(wire):
            start = wire.index(b" ", position) + 1
            position = start + int(wire[position : start - 1])
            messages.append(wire[start:position])
        return messages

    def count(self, wire: bytes) -> int:
        return self.index(wire, len(wire))

    def offset(self, wire: bytes, index: int) -> int:
        position = 0
        for _ in range(index):
            start = wire.index(b" ", position) + 1
            position = start + int(wire[position : start - 1])
        return position

    def index(self, wire: bytes, offset: int) -> int:
        position = count = 0
        while position < offset:
            start = wire.find(b" ", position, offset) + 1
            if not start:
                break
            position = start + int(wire[position : start - 1])
            if position > offset:
                break
            count += 1
        return count

    def decoder(self, max_message: int) -> Decoder:
        return _OctetCountingDecoder(max_message)


class _LengthDecoder(Decoder):
    """Walks from header to header; a header that promises too much is refused before anything is kept."""

    def __init__(self, max_message: int) -> None:
        self._limit = max_message
        self._tail = bytearray()
        self._need = 1
        """The tail is looked at again when it has this many bytes."""

    @abstractmethod
    def _frame(self, data: bytes, position: int) -> tuple[int, int]:
        """
        Return where the message that starts its frame at *position* starts and ends.

        (0, n): the header is not whole; look again when the tail has n bytes.

        Raises:
            FramingError: it is no header, or it promises a message that is too long.
        """

    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        if self.error is not None:
            return b""
        tail = self._tail
        with memoryview(data) as view:
            tail += view[:size]
        # A message that comes in many small pieces must not be walked, or copied, at each of them.
        if len(tail) < self._need:
            return b""
        wire = bytes(tail)
        end = self._walk(wire)
        del tail[:end]
        return wire[:end]

    def _walk(self, wire: bytes) -> int:
        """Return the end of the last whole frame of *wire*, and remember what the next one needs."""
        end = 0
        while end < len(wire):
            try:
                start, stop = self._frame(wire, end)
            except FramingError as error:
                self.error = error
                break
            if not start:
                self._need = stop
                return end
            if stop > len(wire):
                self._need = stop - end
                return end
            end = stop
        self._need = 1
        return end

    @property
    def tail(self) -> int:
        return len(self._tail)

    def finish(self) -> bytes | None:
        tail = bytes(self._tail)
        self._tail.clear()
        self._need = 1
        if not tail or self.error is not None:
            return None
        start, _ = self._frame(tail, 0)
        return tail[start:] if start else None


class _Length4Decoder(_LengthDecoder):
    _header: Final = Struct("!I")

    def _frame(self, data: bytes, position: int) -> tuple[int, int]:
        start = position + 4
        if start > len(data):
            return 0, 4
        length: int = self._header.unpack_from(data, position)[0]
        if length > self._limit:
            raise MessageTooLarge(self._limit)
        return start, start + length


class _OctetCountingDecoder(_LengthDecoder):
    def _frame(self, data: bytes, position: int) -> tuple[int, int]:
        # A length within the limit has no more digits than the limit has.
        reach = position + len(str(self._limit)) + 1
        space = data.find(b" ", position, reach)
        digits = data[position : space if space >= 0 else reach]
        if (digits and not digits.isdigit()) or digits[:1] == b"0" or space == position:
            raise FramingError("no octet count (RFC 6587: digits without a leading 0, a space, the message)")
        if space < 0:
            if len(data) >= reach:
                raise MessageTooLarge(self._limit)
            return 0, len(data) - position + 1
        length = int(digits)
        if length > self._limit:
            raise MessageTooLarge(self._limit)
        return space + 1, space + 1 + length


LINES: Final[Framing] = _Delimited("lines", b"\n", "a newline")
"""A line feed after each message. A carriage return before it belongs to the message."""
NUL: Final[Framing] = _Delimited("nul", b"\0", "a NUL byte")
"""A zero byte after each message."""
LENGTH4: Final[Framing] = _Length4()
"""An unsigned 32-bit big-endian length before each message. Carries every message."""
OCTET_COUNTING: Final[Framing] = _OctetCounting()
"""The length in decimal digits and a space before each message (RFC 6587, 3.4.1). No empty messages."""

_BY_NAME: Final = {framing.name: framing for framing in (LINES, NUL, LENGTH4, OCTET_COUNTING)}


def framing_named(name: str) -> Framing:
    """
    Return the framing of this name.

    Raises:
        ConfigurationError: there is none; the text lists those that exist.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ConfigurationError(f"no framing {name!r}; there are: {', '.join(_BY_NAME)}") from None
