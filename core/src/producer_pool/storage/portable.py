"""What not every system has: room in advance, and syncing without the times of a file."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["allocate", "sync_data"]

_PIECE: Final = bytes(1024 * 1024)

sync_data: Final = getattr(os, "fdatasync", os.fsync)
"""Have what was written to a file safe from a power cut. If that fails, another try proves nothing."""


def allocate(fd: int, nbytes: int) -> None:
    """
    Have the file *fd*, which is empty, take *nbytes* of the disk.

    Raises:
        OSError: there is no room; some of it may be taken.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, nbytes)
        return
    written = 0
    while written < nbytes:
        written += os.pwrite(fd, _PIECE[: nbytes - written], written)
