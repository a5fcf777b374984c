"""A file of dead letters that cannot be read: what is wrong with it, and what of it can be had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from producer_pool.storage.dead_letters_values import COLUMNS, Letter, letter_in, seal

__all__ = ["HEAD", "Newer", "Unreadable", "as_text", "readable", "why_unreadable"]

HEAD: Final = ", ".join(("number", *COLUMNS))
_AT_ONCE: Final = 16


def readable(path: Path) -> Iterator[list[tuple[Letter, bytes]]]:
    """Yield what can be read of a damaged file, from both of its ends to where the damage begins."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None)
    connection.text_factory = as_text
    seen: set[int] = set()
    try:
        for order in ("ASC", "DESC"):
            rows = connection.execute(f"SELECT {HEAD}, crc, payload FROM letters ORDER BY number {order}")
            with suppress(sqlite3.Error):
                while chunk := rows.fetchmany(_AT_ONCE):
                    found = [
                        (letter, payload)
                        for *head, crc, payload in chunk
                        if isinstance(payload, bytes)
                        and (letter := letter_in(head)).number not in seen
                        and crc == seal(letter, payload)
                    ]
                    if not found:
                        break
                    seen.update(letter.number for letter, _ in found)
                    yield found
    except sqlite3.Error:
        return  # Not even its table can be found.
    finally:
        connection.close()


class Unreadable(sqlite3.DatabaseError):
    """A file that is not one of ours, or not any more."""


class Newer(Unreadable):
    """A file in a format that is not known yet."""


def why_unreadable(error: sqlite3.Error) -> str | None:
    """Say what is wrong with a file that will never be read again; None: it may pass."""
    if isinstance(error, Unreadable):
        return str(error)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return "is damaged" if damaged else None


def as_text(data: bytes) -> str:
    """Read a text of the file, damaged or not."""
    return data.decode(errors="replace")
