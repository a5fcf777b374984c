"""The numbered message of the bench, and the ledger that proves what a consumer got: message.h in Python."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SMALLEST = 10
TIMED_HEAD = 18
PATTERN_SLOTS = 4096
MASK64 = (1 << 64) - 1

_PAIRS = [bytes((ALPHABET[i >> 6], ALPHABET[i & 63])) for i in range(4096)]
_VALUES = {digit: value for value, digit in enumerate(ALPHABET)}


def _digits(value: int, pairs: int) -> bytes:
    return b"".join(_PAIRS[value >> 12 * place & 4095] for place in reversed(range(pairs)))


def _value(digits: bytes) -> int | None:
    value = 0
    for digit in digits:
        one = _VALUES.get(digit)
        if one is None:
            return None
        value = value << 6 | one
    return value


def _check(head: bytes, time: bytes) -> bytes:
    mixed = int.from_bytes(head, "little") ^ (int.from_bytes(time, "little") * 0x9E3779B97F4A7C15 & MASK64)
    return _PAIRS[(mixed * 0xD6E8FEB86659FD93 & MASK64) >> 52]


class Format:
    """Messages of one size. Small ones carry no time, and the smallest no fill."""

    def __init__(self, size: int) -> None:
        if size < SMALLEST:
            raise ValueError(f"a numbered message needs {SMALLEST} bytes, not {size}")
        self.size = size
        self.timed = size >= TIMED_HEAD
        self.fill_size = size - (TIMED_HEAD if self.timed else SMALLEST)
        pattern = bytearray()
        state = 1
        for _ in range(PATTERN_SLOTS + size):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            pattern.append(ALPHABET[state >> 26])
        self._pattern = bytes(pattern)

    def encode(self, conn: int, seq: int, nanoseconds: int = 0) -> bytes:
        """Write message *seq* of connection *conn*, sent at *nanoseconds* after the start; no newline."""
        head = _PAIRS[conn] + _digits(seq, 3)
        time = _digits(nanoseconds, 4) if self.timed else b""
        return head + time + _check(head, time) + self._fill(conn, seq)

    def decode(self, message: bytes) -> tuple[int, int, int] | None:
        """Connection, sequence number and time; None if a single byte is not what was sent."""
        if len(message) != self.size:
            return None
        conn, seq = _value(message[:2]), _value(message[2:8])
        time = message[8:16] if self.timed else b""
        end = 16 if self.timed else 8
        if conn is None or seq is None or message[end : end + 2] != _check(message[:8], time):
            return None
        if message[end + 2 :] != self._fill(conn, seq):
            return None
        return conn, seq, _value(time) or 0

    def _fill(self, conn: int, seq: int) -> bytes:
        slot = (seq * 61 + conn * 131) & (PATTERN_SLOTS - 1)
        return self._pattern[slot : slot + self.fill_size]


@dataclass(slots=True)
class _Stream:
    """What came of one connection: every seq below `next` that lies in no hole."""

    next: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)

    def fill_hole(self, seq: int) -> bool:
        at = bisect_right(self.holes, (seq, MASK64)) - 1
        if at < 0 or seq >= self.holes[at][1]:
            return False
        start, end = self.holes[at]
        parts = ((start, seq), (seq + 1, end))
        self.holes[at : at + 1] = [part for part in parts if part[0] < part[1]]
        return True


class Ledger:
    """Enter every message that one consumer received; read off what went wrong."""

    def __init__(self, form: Format, streams: int) -> None:
        self._form = form
        self._streams = [_Stream() for _ in range(streams)]
        self.unique = self.doubled = self.reordered = self.corrupt = 0

    def enter(self, message: bytes) -> int:
        """Judge one message (without its newline) and return the time it carries."""
        decoded = self._form.decode(message)
        if decoded is None or decoded[0] >= len(self._streams):
            self.corrupt += 1
            return 0
        conn, seq, time = decoded
        stream = self._streams[conn]
        if seq >= stream.next:
            if seq > stream.next:
                stream.holes.append((stream.next, seq))
            stream.next = seq + 1
        elif stream.fill_hole(seq):
            self.reordered += 1
        else:
            self.doubled += 1
            return time
        self.unique += 1
        return time
