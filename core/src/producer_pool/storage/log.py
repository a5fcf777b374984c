"""Looks at the write-ahead log of a database before SQLite does, which is silent about what it leaves out."""
# Rule: read only. https://sqlite.org/fileformat2.html#the_write_ahead_log

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from producer_pool.storage.database import PAGE

__all__ = ["lost_commits"]

_HEAD: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682
_STEP: Final = _FRAME.size + PAGE
_AT_ONCE: Final = 256
"""Frames that are looked at together."""

Sums = tuple[int, int]


def lost_commits(path: Path) -> int:
    """
    Return how many transactions in the log at *path* lie behind one that is damaged.

    SQLite reads a log up to the first frame whose checksum is wrong: after a power cut, that is where
    writing ended. Where whole transactions follow, and so much that they cannot have been written at
    once, it is damage instead. The last transaction, torn, is not counted.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _count(fd, os.fstat(fd).st_size)
    except (OSError, struct.error):
        return 0
    finally:
        os.close(fd)


def _count(fd: int, size: int) -> int:
    head = os.pread(fd, _HEAD.size, 0)
    magic, _, _, _, *salts, sum1, sum2 = _HEAD.unpack(head)
    swapped = bool(magic & 1)
    sums = _sums(head[:24], swapped, (0, 0))
    sound = magic & ~1 == _MAGIC and sums == (sum1, sum2)
    if not sound:
        # Nothing behind a damaged head is read. Each frame says by itself which log it was written for.
        salts = list(_FRAME.unpack(os.pread(fd, _FRAME.size, _HEAD.size))[2:4])
    behind = 0
    for block in _blocks(fd, size):
        frames = [_FRAME.unpack_from(block, offset) for offset in range(0, len(block), _STEP)]
        added = _sums_of_each(block, swapped) if sound else [(0, 0)] * len(frames)
        for (_, commit, *own, sum1, sum2), more in zip(frames, added, strict=True):
            if sound:
                sums = _carried_on(sums, more)
                sound = own == salts and sums == (sum1, sum2)
            if not sound and commit and own == salts:
                behind += 1
    return max(behind - 1, 0)


def _blocks(fd: int, size: int) -> Iterator[bytes]:
    """Yield the whole frames of a log, some at a time."""
    count = max(size - _HEAD.size, 0) // _STEP
    for first in range(0, count, _AT_ONCE):
        wanted = min(_AT_ONCE, count - first) * _STEP
        block = os.pread(fd, wanted, _HEAD.size + first * _STEP)
        if len(block) < wanted:
            raise OSError("it became shorter")
        yield block


def _sums(data: bytes, swapped: bool, sums: Sums) -> Sums:
    """Return the checksums of a log, which each frame carries on; *swapped*: of numbers in big-endian."""
    one, other = sums
    for left, right in struct.iter_unpack(">II" if swapped else "<II", data):
        one = (one + left + other) & 0xFFFFFFFF
        other = (other + right + one) & 0xFFFFFFFF
    return one, other


# -- many frames at once -------------------------------------------------------------------------------
# The checksum of a frame goes on from that of the one before, and is linear: what a frame adds is found
# without knowing where it begins. So frames are summed side by side, each in 64 bits of one large integer,
# which is some eight times as fast as one number after the other.


def _sums_of_each(block: bytes, swapped: bool) -> list[Sums]:
    """Return what each frame of *block* adds to the checksums."""
    count = len(block) // _STEP
    low = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * count, "little")
    pairs = memoryview(_in_little_endian(block) if swapped else block).cast("B").cast("Q")
    width = _STEP // 8
    one = other = 0
    # Of the head of a frame, its salts and its checksums are left out.
    for place in (0, *range(_FRAME.size // 8, width)):
        pair = int.from_bytes(pairs[place::width].tobytes(), "little")
        one = (one + other + (pair & low)) & low
        other = (other + one + (pair >> 32 & low)) & low
    return list(zip(_lanes(one, count), _lanes(other, count), strict=True))


def _in_little_endian(block: bytes) -> array[int]:
    words = array("I", block)
    words.byteswap()
    return words


def _lanes(numbers: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", numbers.to_bytes(8 * count, "little"))


@cache
def _through_zeros() -> tuple[Sums, Sums]:
    """Return what becomes of the checksums (1, 0), and of (0, 1), on the way through a frame of zeros."""
    nothing = bytes(8 + PAGE)
    return _sums(nothing, False, (1, 0)), _sums(nothing, False, (0, 1))


def _carried_on(sums: Sums, more: Sums) -> Sums:
    """Return the checksums behind a frame that adds *more*."""
    one, other = (
        (sums[0] * first + sums[1] * second + added) & 0xFFFFFFFF
        for first, second, added in zip(*_through_zeros(), more, strict=True)
    )
    return one, other
