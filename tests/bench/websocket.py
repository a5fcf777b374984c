"""The little of websockets that the bench needs: websocket.h in Python."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct

__all__ = ["REQUEST", "TEXT", "FrameReader", "frame"]

TEXT = 0x81
"""The first byte of a text message in one frame."""
CLOSE = 0x88
PING = 0x89
PONG = 0x8A
MASK = 0x80
LENGTHS = {126: 2, 127: 8}
"""How many bytes of length follow after these."""
CONTROL_MOST = 125
REQUEST_MOST = 4096
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % base64.b64encode(os.urandom(16))
)


def frame(first: int, payload: bytes, key: bytes = b"") -> bytes:
    """Return a frame, masked if there is a *key*."""
    size, mask = len(payload), MASK if key else 0
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + key + (_masked(payload, key) if key else payload)


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def _answer(request: bytes) -> bytes:
    """Return the answer to a request; nothing: it is none of a websocket."""
    key = re.search(rb"\r\nsec-websocket-key: *([^ \r]{24})\r\n", request, re.IGNORECASE)
    if key is None:
        return b""
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
    )


class FrameReader:
    """
    What comes to a consumer: a handshake, then messages of *size* bytes, each in a masked frame of text.

    Anything else is corrupt, unless it is what a websocket has to say besides.
    """

    def __init__(self, size: int) -> None:
        self.answer = b""
        """What has to be sent back. Whoever does it clears it."""
        self._size = size
        self._greeted = False
        self._tail = b""
        self._skip = 0
        """Bytes to come of a frame that is wrong already."""

    @property
    def torn(self) -> bool:
        """Whether an end now would be one inside a frame."""
        return bool(self._tail or self._skip)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came, and return the messages in it; a corrupt one is empty."""
        data = self._tail + data
        messages: list[bytes] = []
        at = 0 if self._greeted else self._greet(data, messages)
        if self._greeted:
            at = self._walk(data, at, messages)
        self._tail = data[at:]
        return messages

    def _greet(self, data: bytes, messages: list[bytes]) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) < REQUEST_MOST:
            return 0
        self._greeted = True
        self.answer = _answer(data[: max(end + 2, 0)])
        if not self.answer:
            messages.append(b"")
            self._skip = 1 << 64
        return end + 4

    def _walk(self, data: bytes, at: int, messages: list[bytes]) -> int:
        while at < len(data):
            skipped = min(self._skip, len(data) - at)
            self._skip -= skipped
            at += skipped
            if len(data) < at + 2:
                break
            first, second = data[at : at + 2]
            length = LENGTHS.get(second & 127, 0)
            body = at + 2 + length + (4 if second & MASK else 0)
            if len(data) < body:
                break
            size = int.from_bytes(data[at + 2 : at + 2 + length]) if length else second & 127
            text = first == TEXT and size == self._size
            if not second & MASK or not (text or (CLOSE <= first <= PONG and size <= CONTROL_MOST)):
                messages.append(b"")
                self._skip = body - at + size
                continue
            if len(data) < body + size:
                break
            payload = _masked(data[body : body + size], data[body - 4 : body])
            at = body + size
            if text:
                messages.append(payload)
            elif first == PING:
                self.answer += frame(PONG, payload)
        return at
