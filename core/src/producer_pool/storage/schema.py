"""What is in a database of a spool, and how it says that it is one, and of which version."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from producer_pool.model.errors import StorageError

__all__ = ["APPLICATION", "FORMAT", "SCHEMA", "is_alien", "refuse_others"]

FORMAT: Final = 3
"""The version of what is written here. It grows when an older Producer Pool would misread it."""

_FIRST: Final = 3
"""The first that was released. Development versions wrote those before."""

APPLICATION: Final = 0x50505350
"""Marks the file as a spool: "PPSP"."""

SCHEMA: Final = """
CREATE TABLE batch (
    number INTEGER PRIMARY KEY, first INTEGER, messages INTEGER, nbytes INTEGER, total INTEGER,
    total_nbytes INTEGER, wall REAL, boot INTEGER, clock REAL, framing TEXT, origin TEXT, targets TEXT,
    checksum INTEGER, parts BLOB, payload BLOB, place BLOB
);
CREATE INDEX batch_targets ON batch (targets, number) WHERE targets IS NOT NULL;
CREATE TABLE meta (name TEXT PRIMARY KEY, value, checksum INTEGER) WITHOUT ROWID;
"""
"""The tables."""

_MAGIC: Final = b"SQLite format 3\0"
_MARK: Final = 68
"""Where the file has its mark."""
_HEAD: Final = 72


def is_alien(path: Path) -> bool:
    """Return whether it is a database that does not begin as one of a spool: it is others', or damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False  # SQLite says what is the matter with it.
    return head.startswith(_MAGIC) and int.from_bytes(head[_MARK:_HEAD], "big") != APPLICATION


def refuse_others(path: Path, version: object, again: object) -> None:
    """
    Return if a database, which says its *version* in two places, is of none to come and of no early one.

    Raises:
        StorageError: a newer Producer Pool made it, or one of before the first release.
    """
    # Two places, so that one damaged byte is not taken for the future.
    if version != again or not isinstance(again, int):
        return
    if again > FORMAT:
        raise StorageError(
            f"{path} has format version {again}, and this Producer Pool knows {FORMAT}; "
            "use the version that wrote it, or name another folder"
        )
    if 0 < again < _FIRST:
        raise StorageError(
            f"{path} has format version {again}, of a development version, and this Producer Pool knows "
            f"{FORMAT}; drain it with the version that wrote it, or name another folder"
        )
