"""Looks at the write-ahead log of a database before SQLite does, which is silent about what it leaves out."""
# Rule: read only. https://sqlite.org/fileformat2.html#the_write_ahead_log

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from producer_pool.storage.database import PAGE

__all__ = ["lost_commits"]

_HEAD: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682


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
    order = ">" if magic & 1 else "<"
    sums = _sums(head[:24], order, (0, 0))
    sound = magic & ~1 == _MAGIC and sums == (sum1, sum2)
    if not sound:
        # Nothing behind a damaged head is read. Each frame says by itself which log it was written for.
        salts = list(_FRAME.unpack(os.pread(fd, _FRAME.size, _HEAD.size))[2:4])
    behind = 0
    step = _FRAME.size + PAGE
    for offset in range(_HEAD.size, size - step + 1, step):
        data = os.pread(fd, step if sound else _FRAME.size, offset)
        _, commit, *own, sum1, sum2 = _FRAME.unpack(data[: _FRAME.size])
        if sound:
            sums = _sums(data[_FRAME.size :], order, _sums(data[:8], order, sums))
            sound = own == salts and sums == (sum1, sum2)
        if not sound and commit and own == salts:
            behind += 1
    return max(behind - 1, 0)


def _sums(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Return the checksums of a log, which each frame carries on."""
    one, other = sums
    for left, right in struct.iter_unpack(f"{order}II", data):
        one = (one + left + other) & 0xFFFFFFFF
        other = (other + right + one) & 0xFFFFFFFF
    return one, other
