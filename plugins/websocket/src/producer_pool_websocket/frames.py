"""Messages as websocket frames: RFC 6455, section 5.2. A frame a message, whole."""
# Rule: bytes in, bytes out. No socket and no connection: a wire is encoded once, and shared by all of them.

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from producer_pool.plugin import CountedFraming, Framing
from producer_pool_websocket import loops
from producer_pool_websocket.runs import ALIKE, MASK, apply_mask, equal_frames, head

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "MASKED_BINARY",
    "MASKED_TEXT",
    "PING",
    "PLAIN_BINARY",
    "PLAIN_TEXT",
    "PONG",
    "RSV1",
    "TEXT",
    "Frames",
    "all_text",
    "apply_mask",
    "control_frame",
    "head",
]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN: Final = 0x80
RSV1: Final = 0x40


def _head_size(size: int) -> int:
    """Return how many of the *size* bytes of a frame without its mask stand before the message."""
    if size < 2 + 126:
        return 2
    return 4 if size < 4 + 65536 else 10


def control_frame(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    """Return one control frame; *payload* has at most 125 bytes (RFC 6455, 5.5)."""
    first = FIN | opcode
    if not masked:
        return head(first, len(payload), 0) + payload
    key = os.urandom(4)
    return head(first, len(payload), MASK) + key + apply_mask(payload, key)


def all_text(messages: Sequence[bytes]) -> bool:
    """Whether each of *messages* is UTF-8."""
    # Joined by a character of one byte, which neither completes a character nor can be part of one.
    joined = b"\n".join(messages)
    return joined.isascii() or _is_text(joined)


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


class Frames(CountedFraming):
    """
    Text or binary frames, masked as clients have to (RFC 6455, 5.3), or not, as servers have to.

    Each frame has a mask of its own, fresh from the system's random numbers. All consumers get the
    same one: it only has to be unknown to whoever wrote the message (RFC 6455, 10.3).
    """

    def __init__(self, name: str, opcode: int, *, masked: bool) -> None:
        self.name = name
        self._opcode: Final = opcode
        self._mask: Final = MASK if masked else 0
        self._key: Final = 4 if masked else 0

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return loops.write_messages(FIN | self._opcode, messages, self._keys(len(messages)))

    def _keys(self, count: int) -> bytes:
        """Return the masks of so many frames, behind each other; nothing: they are not masked."""
        return os.urandom(4 * count) if self._mask else b""

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        if self._opcode != TEXT or all_text(messages):
            return ()
        return tuple(index for index, message in enumerate(messages) if not _is_text(message))

    def why_misfit(self) -> str:
        return "frames=text cannot carry a message that is not UTF-8; use frames=binary"

    def split(self, wire: bytes) -> list[bytes]:
        return [payload for _, payload in self._frames(wire)]

    def _frames(self, wire: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the first byte and the payload of each frame."""
        key = self._key
        position = 0
        for end in self.ends(wire):
            start = position + key + _head_size(end - position - key)
            payload = wire[start:end]
            yield wire[position], apply_mask(payload, wire[start - key : start]) if key else payload
            position = end

    def decoder(self, max_message: int) -> NoReturn:
        raise NotImplementedError("frames are read by a FrameReader, which also has something to say")

    def ends(self, wire: bytes) -> list[int]:
        key = self._key
        ends: list[int] = []
        size = len(wire)
        position = alike = before = 0
        while position < size:
            length = wire[position + 1] & 0x7F
            start = 2
            if length == 126:
                length = (wire[position + 2] << 8) | wire[position + 3]
                start = 4
            elif length == 127:
                (length,) = struct.unpack_from("!Q", wire, position + 2)
                start = 10
            stride = start + key + length
            alike = alike + 1 if stride == before else 0
            before = stride
            count = equal_frames(wire, position, start, stride) if alike >= ALIKE else 1
            end = position + count * stride
            ends += range(position + stride, end + 1, stride)
            position = end
        return ends


MASKED_TEXT: Final[Framing] = Frames("websocket-masked-text", TEXT, masked=True)
MASKED_BINARY: Final[Framing] = Frames("websocket-masked-binary", BINARY, masked=True)
PLAIN_TEXT: Final[Framing] = Frames("websocket-text", TEXT, masked=False)
PLAIN_BINARY: Final[Framing] = Frames("websocket-binary", BINARY, masked=False)
