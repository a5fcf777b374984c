"""A file of dead letters that cannot be read: what is wrong with it, and what of it can be had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from producer_pool.storage.dead_letters_values import COLUMNS, Letter, letter_in, seal

__all__ = ["FAULTS", "HEAD", "Newer", "Unreadable", "as_text", "readable", "why_unreadable"]

FAULTS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What comes out of sqlite3: the second, where the text of the first would hold half a character."""
HEAD: Final = ", ".join(("number", *COLUMNS))
_AT_ONCE: Final = 16


def readable(path: Path) -> Iterator[list[tuple[Letter, bytes]]]:
    """Yield what can be read of a damaged file, letter by letter, in their order."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None)
    connection.text_factory = as_text
    try:
        chunk = []
        for number in sorted(_numbers(connection)):
            with suppress(*FAULTS):
                # By place: the names of the columns may be damaged, too.
                query = "SELECT * FROM letters WHERE rowid = ?"
                row = connection.execute(query, (number,)).fetchone()
                if row is None or len(row) != len(COLUMNS) + 3:
                    continue
                _, *fields, crc, payload = row
                letter = letter_in((number, *fields))
                if isinstance(payload, bytes) and crc == seal(letter, payload):
                    chunk.append((letter, payload))
            if len(chunk) == _AT_ONCE:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
    finally:
        connection.close()


def _numbers(connection: sqlite3.Connection) -> set[int]:
    """Return the numbers of letters that can be found, from both ends to where the damage begins."""
    found: set[int] = set()
    for order in ("ASC", "DESC"):
        with suppress(*FAULTS):
            for (number,) in connection.execute(f"SELECT rowid FROM letters ORDER BY rowid {order}"):
                if number in found:
                    break
                found.add(number)
    return found


class Unreadable(sqlite3.DatabaseError):
    """A file that is not one of ours, or not any more."""


class Newer(Unreadable):
    """A file in a format that is not known yet."""


def why_unreadable(error: Exception) -> str | None:
    """Say what is wrong with a file that will never be read again; None: it may pass."""
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return "is damaged"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return "is damaged" if damaged else None


def as_text(data: bytes) -> str:
    """Read a text of the file, damaged or not."""
    return data.decode(errors="replace")
