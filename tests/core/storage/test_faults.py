"""What an error of a disk means, and what is said of it."""

import errno
import sqlite3
from pathlib import Path

import pytest

from producer_pool.storage.faults import Fault, SyncFailed, fault_of, passes, words


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "error,fault",
    [
        (failure(sqlite3.SQLITE_FULL), Fault.FULL),
        (OSError(errno.ENOSPC, "no"), Fault.FULL),
        (OSError(errno.EDQUOT, "no"), Fault.FULL),
        (failure(sqlite3.SQLITE_CORRUPT), Fault.DAMAGED),
        (failure(sqlite3.SQLITE_CORRUPT_INDEX), Fault.DAMAGED),
        (failure(sqlite3.SQLITE_NOTADB), Fault.DAMAGED),
        (failure(sqlite3.SQLITE_IOERR_READ), Fault.DAMAGED),
        (failure(sqlite3.SQLITE_IOERR_SHORT_READ), Fault.DAMAGED),
        (sqlite3.DatabaseError("no such table"), Fault.DAMAGED),
        (failure(sqlite3.SQLITE_IOERR_FSYNC), Fault.UNTRUSTED),
        (failure(sqlite3.SQLITE_IOERR_DIR_FSYNC), Fault.UNTRUSTED),
        (failure(sqlite3.SQLITE_IOERR_WRITE), Fault.UNUSABLE),
        (failure(sqlite3.SQLITE_READONLY), Fault.UNUSABLE),
        (failure(sqlite3.SQLITE_CANTOPEN), Fault.UNUSABLE),
        (failure(sqlite3.SQLITE_BUSY), Fault.UNUSABLE),
        (OSError(errno.EROFS, "no"), Fault.UNUSABLE),
    ],
)
def test_meaning(error: sqlite3.Error | OSError, fault: Fault) -> None:
    """A file is replaced only where it is damaged, or where nobody knows what is on the disk."""
    assert fault_of(error) is fault


@pytest.mark.parametrize(
    "error,yes",
    [
        (failure(sqlite3.SQLITE_FULL), True),
        (failure(sqlite3.SQLITE_BUSY), True),
        (failure(sqlite3.SQLITE_IOERR_WRITE), True),
        (failure(sqlite3.SQLITE_CANTOPEN), False),
        (failure(sqlite3.SQLITE_READONLY), False),
        (sqlite3.DatabaseError("no such table"), False),
        (OSError(errno.ENOSPC, "no"), True),
        (OSError(errno.EMFILE, "no"), True),
        (OSError(errno.EACCES, "no"), False),
        (OSError(errno.EROFS, "no"), False),
    ],
    ids=str,
)
def test_what_may_pass(error: sqlite3.Error | OSError, yes: bool) -> None:
    """A disk may have room again; nobody gets a right by waiting."""
    assert passes(error) is yes


def test_own_sync() -> None:
    """Whatever it failed with, what is on the disk is not known."""
    assert fault_of(SyncFailed(errno.ENOSPC, "no")) is Fault.UNTRUSTED


def test_words(tmp_path: Path) -> None:
    """They name the folder, the cause and the next step, and need no folder that is there."""
    full = words(Fault.FULL, OSError(errno.ENOSPC, "no"), tmp_path)
    assert full.startswith(f"the disk of {tmp_path} is full (")
    assert full.endswith(" KiB free); make room, it goes on by itself")

    assert "is full; make" in words(Fault.FULL, failure(sqlite3.SQLITE_FULL), tmp_path / "none")
    broken = words(Fault.UNUSABLE, OSError(errno.EROFS, "Read-only file system"), tmp_path)
    assert broken.startswith(f"{tmp_path} cannot be written (Read-only file system); see its rights")
    assert "could not be replaced (disk I/O error)" in words(
        Fault.UNTRUSTED, failure(sqlite3.SQLITE_IOERR_FSYNC), tmp_path
    )
