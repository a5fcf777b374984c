"""How whole frames are found in the chunks of one stream."""
# Rule: bytes in, bytes out. No socket, no batch. A decoder keeps nothing but the unfinished tail.

from __future__ import annotations

from abc import ABC, abstractmethod
from struct import Struct
from typing import Final

from producer_pool.model.errors import FramingError, MessageTooLarge

__all__ = ["Decoder", "DelimitedDecoder", "Length4Decoder", "OctetCountingDecoder"]

_SMALL: Final = 4096
"""Bytes that are copied twice faster than they are once by way of a view."""


class Decoder(ABC):
    """Finds whole frames in the chunks of one stream, however the stream was cut into them."""

    error: FramingError | None = None
    """Set once the stream broke the rules. What feed() returned until then is good; nothing after is."""

    frames: int | None = None
    """How many frames feed() has just returned, where it had to count them anyway; None: not counted."""

    def __init__(self, max_message: int) -> None:
        self._limit = max_message
        self._tail = bytearray()

    @abstractmethod
    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        """
        Take the first *size* bytes of *data* and return all frames that are whole now, or ``b""``.

        *data* may be overwritten afterwards: what is kept is copied. Look at `error` after each call.
        """

    @property
    def tail(self) -> int:
        """Bytes of an unfinished frame that are kept; none after an error."""
        return len(self._tail)

    def finish(self) -> bytes | None:
        """
        Return the unfinished message at the end of the stream, without its frame, and forget it.

        None if there is none, if not one byte of it came, or after an error.
        """
        tail = bytes(self._tail)
        self._tail.clear()
        return self._body(tail) or None

    @abstractmethod
    def _body(self, tail: bytes) -> bytes:
        """Return what *tail*, the beginning of a frame, holds of the message."""

    def _refuse(self, error: FramingError) -> None:
        self.error = error
        self._tail.clear()


class DelimitedDecoder(Decoder):
    """A byte after each message."""

    def __init__(self, delimiter: bytes, max_message: int) -> None:
        super().__init__(max_message)
        self._delimiter = delimiter

    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        if self.error is not None:
            return b""
        # Only what is new is searched: a long message that comes in many pieces is not gone over again.
        end = data.rfind(self._delimiter, 0, size) + 1
        tail = self._tail
        wire = b""
        if end:
            if tail:
                wire = b"".join((tail, memoryview(data)[:end]))
                tail.clear()
            else:
                wire = bytes(data[:end] if end <= _SMALL else memoryview(data)[:end])
            # Only a batch longer than the limit can hold a message longer than the limit.
            if len(wire) > self._limit + 1:
                wire = self._checked(wire)
        if end < size and self.error is None:
            tail += memoryview(data)[end:size]
            if len(tail) > self._limit:
                self._refuse(MessageTooLarge(self._limit))
        return wire

    def _checked(self, wire: bytes) -> bytes:
        """Return *wire* up to the first message that is too long."""
        start = 0
        reach = self._limit + 1
        while len(wire) - start > reach:
            # The last delimiter within reach: no message before it can be too long. None: the next one is.
            end = wire.rfind(self._delimiter, start, start + reach) + 1
            if not end:
                self._refuse(MessageTooLarge(self._limit))
                return wire[:start]
            start = end
        return wire

    def _body(self, tail: bytes) -> bytes:
        return tail


class _CountedDecoder(Decoder):
    """Walks from header to header; one that promises too much is refused before its message comes."""

    def __init__(self, max_message: int) -> None:
        super().__init__(max_message)
        self._need = 1
        """The tail is looked at again when it has this many bytes."""

    @abstractmethod
    def _walk(self, wire: bytes) -> tuple[int, int, int]:
        """
        Return the end of the last whole frame, the number of frames, and what the next one needs.

        Calls _refuse() where a header is wrong; what was walked before it is good.
        """

    def feed(self, data: bytes | bytearray, size: int) -> bytes:
        self.frames = 0
        if self.error is not None:
            return b""
        tail = self._tail
        if tail:
            # A message that comes in many pieces must not be copied, or walked, at each of them.
            tail += memoryview(data)[:size]
            if len(tail) < self._need:
                return b""
            wire = bytes(tail)
            tail.clear()
        else:
            wire = bytes(memoryview(data)[:size])
        end, self.frames, self._need = self._walk(wire)
        if end == len(wire):
            return wire
        if self.error is None:
            tail += memoryview(wire)[end:]
        return wire[:end]


class Length4Decoder(_CountedDecoder):
    """An unsigned 32-bit big-endian length before each message."""

    _length: Final = Struct("!I")

    def _walk(self, wire: bytes) -> tuple[int, int, int]:
        unpack = self._length.unpack_from
        limit = self._limit
        size = len(wire)
        position = frames = 0
        while position + 4 <= size:
            length = unpack(wire, position)[0]
            if length > limit:
                self._refuse(MessageTooLarge(limit, "length4"))
                break
            end = position + 4 + length
            if end > size:
                return position, frames, end - position
            position = end
            frames += 1
        return position, frames, 4

    def _body(self, tail: bytes) -> bytes:
        return tail[4:]


class OctetCountingDecoder(_CountedDecoder):
    """
    The length in decimal digits and a space before each message.

    RFC 6587, 3.4.1: the length starts with a digit from 1 to 9, so there is no empty message.
    """

    def __init__(self, max_message: int) -> None:
        super().__init__(max_message)
        self._header = len(str(max_message)) + 1
        """Bytes of the longest header, its space included, that can promise a message within the limit."""

    def _walk(self, wire: bytes) -> tuple[int, int, int]:
        size = len(wire)
        position = frames = 0
        while position < size:
            reach = position + self._header
            space = wire.find(b" ", position, reach)
            digits = wire[position : reach if space < 0 else space]
            if not digits.isdigit() or digits.startswith(b"0"):
                self._refuse(
                    FramingError(
                        "no octet count (RFC 6587: digits without a leading 0, a space, the message); "
                        "is the sender's framing another one?"
                    )
                )
                break
            if space < 0 and size < reach:
                return position, frames, size - position + 1
            if space < 0 or int(digits) > self._limit:
                self._refuse(MessageTooLarge(self._limit))
                break
            end = space + 1 + int(digits)
            if end > size:
                return position, frames, end - position
            position = end
            frames += 1
        return position, frames, 1

    def _body(self, tail: bytes) -> bytes:
        return tail.partition(b" ")[2]
