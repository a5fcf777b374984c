"""What an error of a disk or a database means for a spool, and what to say of it."""

from __future__ import annotations

import enum
import errno
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["SENSELESS", "Fault", "SyncFailed", "fault_of", "passes", "sensible", "words"]

SENSELESS: Final = (TypeError, ValueError, OverflowError, struct.error)
"""What comes of values in a damaged database that are of another kind than was ever written, and of an
error of SQLite itself whose text has damaged bytes in it."""


class Fault(enum.Enum):
    """What has to be done."""

    FULL = "full"
    """Wait for room; the file is good."""
    DAMAGED = "damaged"
    """Set the file aside, and read out of it what can be read."""
    UNTRUSTED = "untrusted"
    """The same, because the system could not say what is on the disk: https://wiki.postgresql.org/wiki/Fsync_Errors"""
    UNUSABLE = "unusable"
    """Close the file, and try again: read-only, no right, a write that failed."""


class SyncFailed(OSError):
    """What was written to a file may be lost, and a second attempt proves nothing."""


_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH}
_READING = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}
_SYNCING = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PASSING = {
    *_NO_ROOM,
    errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
_BUSY = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextmanager
def sensible() -> Iterator[None]:
    """Have the body raise no other error than sqlite3.Error because of what is in a database."""
    try:
        yield
    except SENSELESS as error:
        raise sqlite3.DatabaseError(f"what is in it makes no sense: {error}") from error


def fault_of(error: sqlite3.Error | OSError) -> Fault:
    """Return what *error* means."""
    if isinstance(error, OSError):
        if isinstance(error, SyncFailed):
            return Fault.UNTRUSTED
        return Fault.FULL if error.errno in _NO_ROOM else Fault.UNUSABLE
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by us: what was read cannot be right
        return Fault.DAMAGED
    if code in _SYNCING:
        return Fault.UNTRUSTED
    if code in _READING or code & 0xFF in _DAMAGE or (code == sqlite3.SQLITE_ERROR):
        return Fault.DAMAGED
    return Fault.FULL if code == sqlite3.SQLITE_FULL else Fault.UNUSABLE


def passes(error: sqlite3.Error | OSError) -> bool:
    """Return whether *error* may end by itself: no room on a disk does, and no right to it does not."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    # A database that cannot be opened is one without rights; a busy one is another process's.
    return code & 0xFF in _BUSY or code & 0xFF == sqlite3.SQLITE_IOERR


def words(fault: Fault, error: sqlite3.Error | OSError, folder: Path) -> str:
    """Say what is the matter, and what to do; it goes on by itself."""
    detail = getattr(error, "strerror", None) or str(error)
    if fault is Fault.FULL:
        return f"the disk of {folder} is full{_room(folder)}; make room, it goes on by itself"
    if fault is Fault.UNUSABLE:
        return f"{folder} cannot be written ({detail}); see its rights and the disk, it goes on by itself"
    return f"{folder} is damaged and could not be replaced ({detail}); see the disk, it is tried again"


def _room(folder: Path) -> str:
    try:
        found = os.statvfs(folder)
    except OSError:
        return ""
    return f" ({found.f_bavail * found.f_frsize // 1024} KiB free)"
