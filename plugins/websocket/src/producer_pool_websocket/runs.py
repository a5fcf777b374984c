"""Many frames at once, in Python: what a message costs, it costs here. RFC 6455, section 5."""
# Rule: what is not a whole message in one frame is left to the caller. What read_messages() and
# write_messages() return is, to the byte, what those of producer-pool-websocket-speedups do: see loops.py.

from __future__ import annotations

import struct
from collections.abc import Sequence
from struct import Struct
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # wheels have it; a source distribution may be built without
    from websockets.utils import apply_mask

__all__ = [
    "ALIKE",
    "MASK",
    "apply_mask",
    "equal_frames",
    "head",
    "join_frames",
    "read_messages",
    "write_messages",
]

MASK: Final = 0x80
"""The bit of the second byte that says that there is a mask."""
ALIKE: Final = 8
"""So many frames of one size in a row, and more of them are looked for."""
_MOST_EQUAL: Final = 256
"""Frames of one size that are looked for at once; in vain, where the size changes often."""

_AT_ONCE: Final = 64
_KEYS: Final = Struct("4s" * _AT_ONCE)
_HEAD16: Final = Struct("!BBH")
_HEAD64: Final = Struct("!BBQ")


def head(first: int, size: int, mask: int) -> bytes:
    """Return what stands before *size* bytes: the first byte, and *mask* and the length."""
    if size < 126:
        return bytes((first, mask | size))
    if size < 65536:
        return _HEAD16.pack(first, mask | 126, size)
    return _HEAD64.pack(first, mask | 127, size)


def write_messages(first: int, messages: Sequence[bytes], keys: bytes) -> bytes:
    """Return a frame with that *first* byte for each message: see join_frames()."""
    mask = MASK if keys else 0
    sizes = list(map(len, messages))
    kinds = {size: head(first, size, mask) for size in set(sizes)}
    # One for all, as from sensors, is not looked up for each: a tenth of what a message costs here.
    heads = [*kinds.values()] * len(sizes) if len(kinds) == 1 else list(map(kinds.__getitem__, sizes))
    return join_frames(heads, messages, keys)


def join_frames(heads: Sequence[bytes], payloads: Sequence[bytes], keys: bytes) -> bytes:
    """
    Return frames of these heads and payloads.

    Each is masked by four bytes of *keys*. Without keys, none is.
    """
    # No loop in Python: 190 ns for a message of 128 bytes, half of what one would take.
    count = len(heads)
    if not keys:
        parts = [b""] * (2 * count)
        parts[0::2] = heads
        parts[1::2] = payloads
        return b"".join(parts)
    masks: list[bytes] = []
    for some in _KEYS.iter_unpack(keys + bytes(-len(keys) % _KEYS.size)):
        masks += some
    del masks[count:]
    parts = [b""] * (3 * count)
    parts[0::3] = heads
    parts[1::3] = masks
    parts[2::3] = map(apply_mask, payloads, masks)
    return b"".join(parts)


def read_messages(data: bytes, position: int, limit: int, masked: bool) -> tuple[list[bytes], int]:
    """
    Return messages of one kind, a whole frame each, and where the first frame begins that is none of them.

    None has more than *limit* bytes. That a message is text is not looked at.
    """
    run: list[bytes] = []
    add = run.append
    key = 4 if masked else 0
    mask = MASK if masked else 0
    size = len(data)
    first = data[position]
    alike = before = 0
    # One pass of this loop is one message, and most of what a message costs: 0.3 us.
    while position + 2 <= size and data[position] == first:
        length = data[position + 1] ^ mask
        start = position + 2 + key
        if length == 126:
            if position + 4 > size:
                break
            length = (data[position + 2] << 8) | data[position + 3]
            if length < 126:
                break
            start += 2
        elif length > 126:
            break
        end = start + length
        if end > size or length > limit:
            break
        alike = alike + 1 if length == before else 0
        if alike >= ALIKE:
            # As from sensors: together they take half the time.
            position += _read_equal(data, position, start - position, length, key, run)
            continue
        add(apply_mask(data[start:end], data[start - 4 : start]) if key else data[start:end])
        position = end
        before = length
    return run, position


def _read_equal(data: bytes, position: int, head: int, length: int, key: int, run: list[bytes]) -> int:
    """
    Read the frame at *position* and some after it that begin with the same bytes; return their size.

    Each has *head* bytes, the last *key* of which are its mask, and a message of *length*.
    """
    stride = head + length
    end = position + equal_frames(data, position, head - key, stride) * stride
    frames = struct.iter_unpack(f"{head - key}x{key}s{length}s", memoryview(data)[position:end])
    if key:
        run += [apply_mask(message, mask) for mask, message in frames]
    else:
        run += [message for _, message in frames]
    return end - position


def equal_frames(data: bytes, position: int, head: int, stride: int) -> int:
    """
    Count the frame at *position*, and those after it that begin with the same *head* bytes.

    Each has *stride* bytes. It is whole, and so are those that are counted.
    """
    count = min((len(data) - position) // stride, _MOST_EQUAL)
    for index in range(position, position + head):
        column = data[index : index + count * stride : stride]
        count = len(column) - len(column.lstrip(column[:1]))
    return count
