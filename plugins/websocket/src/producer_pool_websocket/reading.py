"""What the other side's frames say: messages, and what wants an answer. RFC 6455, sections 5 and 7."""
# Rule: bytes in, messages out. No socket and no clock; whoever feeds it sends the answers.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from producer_pool.plugin import FramingError, MessageTooLarge
from producer_pool_websocket import loops
from producer_pool_websocket.closing import (
    INVALID_TEXT,
    PROTOCOL_ERROR,
    TOO_BIG,
    Close,
    read_close,
)
from producer_pool_websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    all_text,
    apply_mask,
)

if TYPE_CHECKING:
    from producer_pool_websocket.compression import Inflater

__all__ = ["FrameReader"]

_OPCODE: Final = 0x0F
_RSV: Final = 0x70
_CONTROL: Final = 0x08
_WHOLE: Final = frozenset({FIN | TEXT, FIN | BINARY})
_NOT_TEXT: Final = "a text message that is not UTF-8; frames=binary sends any bytes"
_MOST_ODD: Final = 1000
"""Control frames and fragments in one call of feed(), of which each takes as long as three messages."""
_KNOWN: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


class FrameReader:
    """
    Reads one side of one connection, however its bytes were cut.

    With a *limit* it returns messages of at most so many bytes. Without one, what the other side has
    to say in messages is skipped, whatever its size, and only its control frames count.
    """

    error: FramingError | None = None
    """Set once the other side broke a rule. What feed() returned is good; nothing after is read."""
    code: int = PROTOCOL_ERROR
    """The close code for that."""
    closed: Close | None = None
    """What the other side said at its end. Nothing after is read."""
    ping: bytes | None = None
    """
    The last ping that was not answered. Whoever answers it sets it to None.

    One pong answers all pings before it: RFC 6455, 5.5.3.
    """

    def __init__(self, limit: int | None, *, masked: bool, inflater: Inflater | None = None) -> None:
        self.pongs: list[bytes] = []
        """What came with pongs. Whoever reads it clears it."""
        self._odd = 0
        """Frames of the last call of feed() that were no whole messages."""
        self._limit = limit
        self._masked = masked
        self._key: Final = 4 if masked else 0
        self._inflater = inflater
        self._rsv: Final = 0 if inflater is None else RSV1
        self._tail = bytearray()
        self._need = 2
        """The tail is looked at again when it has this many bytes."""
        self._skip = 0
        """Bytes to come of a message that nobody wants."""
        self._kind: int | None = None
        """The opcode of a message whose fragments have begun to come."""
        self._fragments = bytearray()

    def is_over(self) -> bool:
        """Whether nothing more is read."""
        return self.error is not None or self.closed is not None

    @property
    def floods(self) -> bool:
        """Whether feed() just had more control frames and fragments, which take long, than anybody needs."""
        return self._odd > _MOST_ODD

    @property
    def tail(self) -> int:
        """Bytes of an unfinished message that came; none after an error."""
        return len(self._tail) + len(self._fragments)

    def feed(self, data: bytes | bytearray | memoryview, size: int) -> list[bytes]:
        """
        Take the first *size* bytes of *data*, and return the messages that are whole now.

        *data* may be overwritten afterwards. Look at `error`, `closed`, `ping` and `pongs` after each call.
        """
        messages: list[bytes] = []
        self._odd = 0
        if self.is_over():
            return messages
        view = memoryview(data)[:size]
        if self._skip:
            skipped = min(self._skip, size)
            self._skip -= skipped
            view = view[skipped:]
        tail = self._tail
        if tail:
            # A message that comes in many pieces must not be copied, or walked, at each of them.
            tail += view
            if len(tail) < self._need:
                return messages
            chunk = bytes(tail)
            tail.clear()
        else:
            chunk = bytes(view)
        end = self._walk(chunk, messages)
        if self.error is not None:
            self._fragments.clear()
        elif self.closed is None:
            tail += chunk[end:]
        return messages

    def _walk(self, data: bytes, messages: list[bytes]) -> int:
        """Read whole frames; return where the first one begins that is not whole."""
        position = 0
        size = len(data)
        while position < size:
            end = position
            if data[position] in _WHOLE and self._kind is None:
                if self._limit is None:
                    end = self._skip_run(data, position)
                else:
                    end = self._read_run(data, position, self._limit, messages)
            if end == position and not self.is_over():
                end = self._read_one(data, position, messages)
            if end == position or self.is_over():
                return end
            position = end
        return position

    def _read_run(self, data: bytes, position: int, limit: int, messages: list[bytes]) -> int:
        """Read messages of one kind, a frame each, for as long as nothing is unusual; return their end."""
        # None can be longer than what came, and so nothing is said that a compiled loop could not hold.
        run, end = loops.read_messages(data, position, min(limit, len(data)), self._masked)
        if data[position] == FIN | TEXT and not all_text(run):
            good = next(index for index, message in enumerate(run) if not all_text((message,)))
            del run[good:]
            self._refuse(INVALID_TEXT, FramingError(_NOT_TEXT))
        messages += run
        return end

    def _skip_run(self, data: bytes, position: int) -> int:
        """Skip short messages, a frame each, for as long as nothing is unusual; return their end."""
        head = 2 + self._key
        mask = 0x80 if self._key else 0
        size = len(data)
        while position + 2 <= size and data[position] in _WHOLE:
            length = data[position + 1] ^ mask
            end = position + head + length
            if length >= 126 or end > size:
                break
            position = end
        return position

    def _read_one(self, data: bytes, position: int, messages: list[bytes]) -> int:
        """Read any one frame; return its end, or *position*: it is not whole, or breaks a rule."""
        have = len(data) - position
        self._need = 2
        if have < 2:
            return position
        first, second = data[position : position + 2]
        fault = self._fault(first, second)
        if fault:
            self._refuse(PROTOCOL_ERROR, FramingError(fault))
            return position
        length = second & 0x7F
        start = position + 2
        if length >= 126:
            start += 2 if length == 126 else 8
            self._need = start - position
            if have < self._need:
                return position
            least = 126 if length == 126 else 65536
            length = int.from_bytes(data[position + 2 : start])
            if not least <= length < 1 << 63:
                self._refuse(PROTOCOL_ERROR, FramingError("a length that is not in the shortest form"))
                return position
        start += self._key
        end = start + length
        self._odd += 1
        opcode = first & _OPCODE
        if not opcode & _CONTROL:
            if self._limit is None:
                self._kind = None if first & FIN else opcode or self._kind
                self._skip = max(end - len(data), 0)
                return min(end, len(data))
            room = self._limit - len(self._fragments)
            if length > (room if self._inflater is None else self._inflater.room(room)):
                self._refuse(TOO_BIG, MessageTooLarge(self._limit))
                return position
        self._need = end - position
        if end > len(data):
            return position
        body = data[start:end]
        if self._key:
            body = apply_mask(body, data[start - 4 : start])
        if opcode & _CONTROL:
            self._take_control(opcode, body)
        else:
            self._take(first, body, messages)
        return end

    def _fault(self, first: int, second: int) -> str | None:
        """Say which rule the first two bytes of a frame break; None: none."""
        opcode = first & _OPCODE
        if opcode not in _KNOWN:
            return f"a frame of the unknown kind {opcode}"
        if first & _RSV & ~(self._rsv if opcode in (TEXT, BINARY) else 0):
            return "a reserved bit is set, which no extension was agreed on for"
        if bool(second & 0x80) is not self._masked:
            return "a frame without a mask" if self._masked else "a frame with a mask"
        if opcode & _CONTROL:
            if not first & FIN:
                return "a control frame in fragments"
            return "a control frame of more than 125 bytes" if second & 0x7F > 125 else None
        if opcode == CONTINUATION and self._kind is None:
            return "a fragment of no message"
        if opcode != CONTINUATION and self._kind is not None:
            return "a message inside another one's fragments"
        return None

    def _take(self, first: int, body: bytes, messages: list[bytes]) -> None:
        """Take a message, or a fragment of one."""
        opcode = first & _OPCODE
        if self._inflater is not None:
            assert self._limit is not None
            try:
                body = self._inflater.inflate(first, body, self._limit - len(self._fragments))
            except MessageTooLarge:
                self._refuse(TOO_BIG, MessageTooLarge(self._limit))
                return
            except FramingError as error:
                self._refuse(PROTOCOL_ERROR, error)
                return
        kind = opcode or self._kind
        if not first & FIN:
            self._kind = kind
            self._fragments += body
            return
        if self._kind is not None:
            body = bytes(self._fragments + body)
            self._fragments.clear()
            self._kind = None
        if kind == TEXT and not all_text((body,)):
            self._refuse(INVALID_TEXT, FramingError(_NOT_TEXT))
        else:
            messages.append(body)

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.ping = payload
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            try:
                self.closed = read_close(payload)
            except UnicodeDecodeError:
                self._refuse(INVALID_TEXT, FramingError("the reason for its end is not UTF-8"))
                return
            if self.closed is None:
                self._refuse(PROTOCOL_ERROR, FramingError("an end with a code that means nothing"))

    def _refuse(self, code: int, error: FramingError) -> None:
        self.code = code
        self.error = error
