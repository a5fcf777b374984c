"""The lock that keeps a second replay out of a folder of dead letters."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from producer_pool.model.errors import StorageError
from producer_pool.storage.private import private_file

__all__ = ["replaying"]

_LOCK: Final = "replay.lock"


@contextmanager
def replaying(folder: Path) -> Iterator[None]:
    """
    Keep a second replay out of *folder* until the end of the block: it would send the same again.

    Raises:
        StorageError: one is at work; the text names its process.
    """
    path = folder / _LOCK
    private_file(path)
    with path.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = lock.read().strip() or "unknown"
            raise StorageError(
                f"{folder}: another replay is at work there, process {owner}; wait for its end"
            ) from None
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
